//! Commands to a guest over a virtio console.
//!
//! One line each way: the command in base64; then `STATUS STDOUT STDERR`, separated by single
//! spaces, the latter two in base64 and perhaps empty.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its exit status.
    pub status: i32,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

/// The root shell of a guest.
pub struct Shell {
    stream: BufReader<UnixStream>,
    /// What has come of a line whose rest has not.
    partial: String,
    socket: PathBuf,
    /// Whether a command was given up, whose answer may still come.
    given_up: bool,
}

/// How long a socket of QEMU's may be there before it listens.
const LISTENS_WITHIN: Duration = Duration::from_secs(5);

/// Connects to a socket of QEMU's, which is there a moment before it listens.
pub(crate) fn connect(socket: &Path) -> anyhow::Result<UnixStream> {
    let begin = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Err(error)
                if error.kind() == ErrorKind::ConnectionRefused
                    && begin.elapsed() < LISTENS_WITHIN =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            outcome => {
                return outcome
                    .with_context(|| format!("failed to connect to {}", socket.display()));
            }
        }
    }
}

impl Shell {
    /// Connects to QEMU's end and waits until the guest answers.
    pub(crate) fn open(socket: &Path, limit: Duration) -> anyhow::Result<Shell> {
        let deadline = Instant::now() + limit;
        let stream = connect(socket)?;
        let mut shell = Shell {
            stream: BufReader::new(stream),
            partial: String::new(),
            socket: socket.to_owned(),
            given_up: false,
        };
        shell.greet(deadline)?;
        Ok(shell)
    }

    /// Runs a command; its status is the caller's to judge.
    pub fn run(&mut self, command: &str, limit: Duration) -> anyhow::Result<Output> {
        self.patience(limit)?;
        self.given_up = true;
        self.send(command)?;
        let line = self
            .line()
            .with_context(|| format!("no answer on {} to {command:?}", self.socket.display()))?;
        self.given_up = false;
        parse(&line).with_context(|| format!("answer {line:?} to {command:?}"))
    }

    /// Whether the next answer may be to another command.
    pub(crate) fn is_out_of_step(&self) -> bool {
        self.given_up
    }

    /// Runs a command that must succeed; answers its standard output.
    pub fn check(&mut self, command: &str, limit: Duration) -> anyhow::Result<String> {
        let output = self.run(command, limit)?;
        ensure!(
            output.status == 0,
            "{command:?} ended with {}: {}{}",
            output.status,
            output.stdout,
            output.stderr
        );
        Ok(output.stdout)
    }

    /// The guest opens its end when it gets there; until then QEMU drops what is sent, so the
    /// greeting is repeated until one is answered. A slow guest may have several to answer then:
    /// all of them are, before anything else is said.
    ///
    /// What answers a command that was given up before may come in between.
    fn greet(&mut self, deadline: Instant) -> anyhow::Result<()> {
        self.patience(Duration::from_millis(500))?;
        let word = format!(
            "greeting-{:?}",
            SystemTime::now().duration_since(UNIX_EPOCH)?
        );
        let (mut sent, mut answered) = (0, 0);
        while answered == 0 && Instant::now() < deadline {
            // A guest that is not there yet takes no more at some time; what it has is enough.
            match self.send(&format!("echo {word} {}", sent + 1)) {
                Err(error) if is_full(&error) => {}
                outcome => outcome.map(|()| sent += 1)?,
            }
            answered = self.line().map_or(0, |line| greeting(&word, &line));
        }
        self.patience(deadline.saturating_duration_since(Instant::now()))?;
        while answered < sent {
            let line = self.line();
            answered = greeting(
                &word,
                &line.with_context(|| format!("no shell answered on {}", self.socket.display()))?,
            );
        }
        Ok(())
    }

    /// How long a read waits, and a write that is not taken. Zero would be for ever.
    fn patience(&self, limit: Duration) -> anyhow::Result<()> {
        let limit = Some(limit.max(Duration::from_millis(1)));
        let stream = self.stream.get_ref();
        stream.set_read_timeout(limit)?;
        Ok(stream.set_write_timeout(limit)?)
    }

    fn send(&mut self, command: &str) -> anyhow::Result<()> {
        let line = STANDARD.encode(command) + "\n";
        self.stream.get_mut().write_all(line.as_bytes())?;
        Ok(())
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let count = self.stream.read_line(&mut self.partial)?;
        ensure!(count > 0, "the machine is off");
        Ok(std::mem::take(&mut self.partial))
    }
}

/// Whether nothing of a line was sent because what was sent before is not taken. Lines that short
/// go whole or not at all.
fn is_full(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// The number of the greeting that a line answers; 0 when it answers none.
fn greeting(word: &str, line: &str) -> u64 {
    let number = || {
        let output = parse(line).ok()?;
        output.stdout.trim().strip_prefix(word)?.trim().parse().ok()
    };
    number().unwrap_or(0)
}

fn parse(line: &str) -> anyhow::Result<Output> {
    let mut words = line.trim_end_matches(['\r', '\n']).split(' ');
    let mut word = || words.next().context("three words were expected");
    Ok(Output {
        status: word()?.parse()?,
        stdout: text(word()?)?,
        stderr: text(word()?)?,
    })
}

fn text(word: &str) -> anyhow::Result<String> {
    Ok(String::from_utf8_lossy(&STANDARD.decode(word)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_word_answers_a_greeting() {
        let answer = |text: &str| format!("0 {} \n", STANDARD.encode(text));
        assert_eq!(greeting("greeting-7s", &answer("greeting-7s 3\n")), 3);
        assert_eq!(greeting("greeting-8s", &answer("greeting-7s 3\n")), 0);
        assert_eq!(greeting("greeting-7s", &answer("3\n")), 0);
    }

    #[test]
    fn an_answer_has_three_words() {
        let output = parse("3 YQo= \n").unwrap();
        assert_eq!(
            (output.status, &*output.stdout, &*output.stderr),
            (3, "a\n", "")
        );
        assert!(parse("0 \n").is_err());
    }
}
