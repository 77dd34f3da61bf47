//! A sign of life on a terminal while a change is being made.

use std::io::IsTerminal;
use std::time::Duration;

use ashlar_protocol::Job;
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
