//! What our units and the kernel have told the system's journal, the newest first: when it is more than
//! there is room for, that is what counts.

use std::io;
use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdout, Command};

/// The newest lines of each that are told.
const LINES: &str = "--lines=20000";

/// Bytes of what it complains about that are told.
const COMPLAINT: u64 = 1000;

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// Whose messages.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    Units,
    Kernel,
}

impl Source {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Source::Units => &["--unit=ashlar-*", "--unit=rauc.service"],
            // What --dmesg means, but for the boot.
            Source::Kernel => &["_TRANSPORT=kernel"],
        }
    }
}

/// The journal, read by a program that ends with this.
pub(super) struct Journal {
    child: Child,
    out: ChildStdout,
    /// Of a line that is not whole.
    rest: Vec<u8>,
}

impl Journal {
    /// Of all starts that it has, which on a box is this one: the kernel's number of that is hidden from the
    /// agent, and so `--boot` fails.
    pub(super) fn open(program: &Path, source: Source) -> io::Result<Journal> {
        let mut child = Command::new(program)
            .args([
                "--no-pager",
                "--quiet",
                "--utc",
                "--output=json",
                "--reverse",
                LINES,
            ])
            .args(source.arguments())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let out = child.stdout.take();
        let out = out.ok_or_else(|| io::Error::other("it has no output"))?;
        Ok(Journal {
            child,
            out,
            rest: Vec::new(),
        })
    }

    /// Some whole lines; `None` at the end. One that is longer than all that is read at once is cut.
    pub(super) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut lines = std::mem::take(&mut self.rest);
        while lines.len() < CHUNK {
            let room = (CHUNK - lines.len()) as u64;
            if (&mut self.out).take(room).read_to_end(&mut lines).await? == 0 {
                return self.ended(lines).await;
            }
        }
        if let Some(end) = lines.iter().rposition(|byte| *byte == b'\n') {
            self.rest = lines.split_off(end + 1);
        }
        Ok(Some(lines))
    }

    async fn ended(&mut self, lines: Vec<u8>) -> io::Result<Option<Vec<u8>>> {
        if !lines.is_empty() {
            return Ok(Some(lines));
        }
        let mut told = String::new();
        if let Some(complaints) = self.child.stderr.take() {
            complaints.take(COMPLAINT).read_to_string(&mut told).await?;
        }
        match self.child.wait().await? {
            status if status.success() => Ok(None),
            status => {
                let why = format!("it ended with {status}: {}", told.trim());
                Err(io::Error::other(why))
            }
        }
    }
}
