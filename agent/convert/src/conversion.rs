//! The agent's end: starting the process, reading from it, ending it.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ashlar_image_formats::Format;

use crate::report::{Line, Opened, next_line};

/// How long a process may take to exit after its last word.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What is to be read.
#[derive(Clone, Debug)]
pub struct Order {
    /// Where `ashlar-convert` is.
    pub program: PathBuf,
    /// Bytes of the image, of which its medium may have more.
    pub length: u64,
    /// Most bytes that its disk may have.
    pub limit: u64,
    /// What it is, unless its signature is to say.
    pub format: Option<Format>,
}

/// Why an image was not converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The process did not start, or its pipes broke.
    #[error("failed to run the converter of images")]
    Run(#[source] io::Error),
    /// Its disk does not fit.
    #[error("{0}")]
    TooLarge(String),
    /// The image is to blame otherwise.
    #[error("{0}")]
    Refused(String),
    /// Reading the image failed.
    #[error("failed to convert the image: {0}")]
    Failed(String),
    /// The process ended in a way that it should not.
    #[error("the converter of images ended with {0}")]
    Died(ExitStatus),
    /// [`Stop::stop`] ended it.
    #[error("the conversion was stopped")]
    Stopped,
}

/// A process that reads an image. It ends with this at the latest.
#[derive(Debug)]
pub struct Conversion {
    process: Arc<Mutex<Process>>,
    frames: ChildStdout,
    report: ChildStderr,
}

/// Ends a conversion from elsewhere, also while it hangs.
#[derive(Clone, Debug)]
pub struct Stop(Arc<Mutex<Process>>);

#[derive(Debug)]
struct Process {
    child: Child,
    stopped: bool,
}

impl Conversion {
    /// Starts the process on an image that it can read and, by its descriptor, not write.
    pub fn spawn(order: &Order, image: OwnedFd) -> Result<Conversion, ConvertError> {
        let mut command = Command::new(&order.program);
        command.arg(format!("--length={}", order.length));
        command.arg(format!("--limit={}", order.limit));
        command.args(order.format.map(|format| format!("--format={format}")));
        let mut child = command
            .env_clear()
            .current_dir("/")
            .stdin(image)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(ConvertError::Run)?;
        let pipes = child.stdout.take().zip(child.stderr.take());
        let (frames, report) = pipes.expect("both were asked for");
        let stopped = false;
        Ok(Conversion {
            process: Arc::new(Mutex::new(Process { child, stopped })),
            frames,
            report,
        })
    }

    /// What ends it.
    pub fn stopper(&self) -> Stop {
        Stop(self.process.clone())
    }

    /// Waits until the image is open.
    pub fn opened(&mut self) -> Result<Opened, ConvertError> {
        match next_line(&mut self.report).map_err(ConvertError::Run)? {
            Some(Line::Open(opened)) => Ok(opened),
            other => Err(self.end(other)),
        }
    }

    /// The disk as extents, to be read to the end before [`finish`](Conversion::finish).
    pub fn frames(&mut self) -> &mut impl Read {
        &mut self.frames
    }

    /// Waits for the end and says whether everything came. Whoever does not want the rest stops
    /// it first.
    pub fn finish(mut self) -> Result<(), ConvertError> {
        let line = next_line(&mut self.report).map_err(ConvertError::Run)?;
        match self.end(line) {
            ConvertError::Died(status) if status.success() => Ok(()),
            error => Err(error),
        }
    }

    /// Why there is nothing more.
    fn end(&mut self, line: Option<Line>) -> ConvertError {
        let outcome = self.wait();
        match (outcome, line) {
            _ if lock(&self.process).stopped => ConvertError::Stopped,
            (Err(error), _) => ConvertError::Run(error),
            (Ok(_), Some(Line::TooLarge(why))) => ConvertError::TooLarge(why),
            (Ok(_), Some(Line::Refused(why))) => ConvertError::Refused(why),
            (Ok(_), Some(Line::Failed(why))) => ConvertError::Failed(why),
            (Ok(status), Some(Line::Open(_)) | None) => ConvertError::Died(status),
        }
    }

    /// Waits for the exit of a process that has nothing more to say, and helps one that does not
    /// think of it. The lock is never held for long, or it could not be stopped. A handle of a process
    /// that could be waited for as well as its end would be an event; std has none yet.
    fn wait(&mut self) -> io::Result<ExitStatus> {
        let start = Instant::now();
        loop {
            let mut process = lock(&self.process);
            if let Some(status) = process.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > LAST_WORDS {
                process.child.kill()?;
                return process.child.wait();
            }
            drop(process);
            std::thread::sleep(LAST_WORDS / 200);
        }
    }
}

impl Drop for Conversion {
    fn drop(&mut self) {
        let mut process = lock(&self.process);
        // Fails for one that has ended, which is as good.
        drop(process.child.kill());
        drop(process.child.wait());
    }
}

impl Stop {
    /// Ends the process at once, whatever it does; reading from it then comes to an end.
    pub fn stop(&self) {
        let mut process = lock(&self.0);
        process.stopped = true;
        drop(process.child.kill());
    }
}

fn lock(process: &Mutex<Process>) -> MutexGuard<'_, Process> {
    process.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ConvertError {
    /// The signal that ended the process, if one did.
    pub fn signal(&self) -> Option<i32> {
        match self {
            ConvertError::Died(status) => status.signal(),
            _ => None,
        }
    }

    /// Whether the image is to blame, so that no repetition can help.
    pub fn is_refusal(&self) -> bool {
        matches!(self, ConvertError::TooLarge(_) | ConvertError::Refused(_))
    }
}
