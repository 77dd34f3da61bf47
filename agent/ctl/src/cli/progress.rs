//! A sign of life on a terminal while a change is being made.

use std::io::IsTerminal;
use std::time::Duration;

use ashlar_protocol::{Job, Progress as Far};
use indicatif::{ProgressBar, ProgressStyle};

/// A spinner on standard error, when that is a terminal. Gone when dropped.
pub struct Progress(ProgressBar);

impl Progress {
    pub fn start(text: &str) -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress(ProgressBar::hidden());
        }
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}")
            .expect("the template is sound");
        let bar = ProgressBar::new_spinner().with_style(style);
        bar.set_message(text.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Progress(bar)
    }

    /// Tells what a job is at, and what keeps it.
    pub fn job(&self, job: &Job) {
        let text = match &job.problem {
            Some(problem) => format!("job {}: {problem}", job.id),
            None => format!("job {}: {}", job.id, job.object),
        };
        self.0.set_message(text);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A bar that shows how far a transfer is, likewise.
pub struct Bar(ProgressBar);

/// What tells a bar, from whichever thread.
pub struct Line(ProgressBar);

impl Bar {
    pub fn start(text: &str) -> Bar {
        if !std::io::stderr().is_terminal() {
            return Bar(ProgressBar::hidden());
        }
        let template = "{msg} {bar:30} {binary_bytes} of {binary_total_bytes} \
                        {binary_bytes_per_sec} {eta}";
        let style = ProgressStyle::with_template(template).expect("the template is sound");
        let bar = ProgressBar::new(0).with_style(style);
        bar.set_message(text.to_owned());
        Bar(bar)
    }

    /// Where to tell it.
    pub fn line(&self) -> Line {
        Line(self.0.clone())
    }
}

impl Line {
    pub fn tell(&self, progress: Far) {
        if let Some(total) = progress.total {
            self.0.set_length(total);
        }
        self.0.set_position(progress.done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
