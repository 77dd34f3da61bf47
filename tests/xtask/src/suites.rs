//! The tests in virtual machines, several programs at a time.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::bill;
use crate::build::{cargo, parts, target};

/// How many run at a time. Machines that boot or wait leave half of the host idle.
const AT_A_TIME: usize = 2;

/// Those that take longest, which begin first; one of them does little but wait.
const LONG: [&str; 6] = [
    "vm-scenarios",
    "vm-full",
    "vm-firmware",
    "vm-updates",
    "vm-initiators",
    "vm-moving",
];

/// One program of tests.
struct Suite {
    name: String,
    program: PathBuf,
    /// Where tests of its package run.
    folder: PathBuf,
}

/// A line of what cargo says in JSON, as far as it matters here.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Runs those whose names contain `only`.
pub fn run(only: Option<&str>) -> anyhow::Result<()> {
    let parts = parts()?;
    bill::check(&parts.bill)?;
    let variable = parts.save().context("saving the parts")?;
    let mut suites = suites(only)?;
    suites.sort_by_key(|suite| {
        LONG.iter()
            .position(|long| *long == suite.name)
            .unwrap_or(LONG.len())
    });
    let logs = target().join("vm/logs");
    fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
    let suites = Mutex::new(VecDeque::from(suites));
    let failed = Mutex::new(Vec::new());
    let next = || suites.lock().expect("nobody panics with this").pop_front();
    let work = || -> anyhow::Result<()> {
        while let Some(suite) = next() {
            if !suite.run(&variable, &logs)? {
                failed
                    .lock()
                    .expect("nobody panics with this")
                    .push(suite.name);
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(work)).collect();
        let mut ends = workers
            .into_iter()
            .map(|worker| worker.join().expect("it does not panic"));
        ends.try_for_each(|end| end)
    })?;
    let failed = failed.into_inner().expect("nobody panics with this");
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// Builds them. Of the whole workspace, as those without machines: selected by package, all
/// libraries would be built once more, with the features that this package alone asks for.
fn suites(only: Option<&str>) -> anyhow::Result<Vec<Suite>> {
    let pattern = only.map_or("vm-*".to_owned(), |only| format!("vm-*{only}*"));
    let mut build = cargo();
    build
        .args(["test", "--workspace", "--features", "ashlar-guest-tests/vm"])
        .args(["--no-run", "--message-format", "json-render-diagnostics"])
        .arg("--test")
        .arg(pattern)
        .stdout(Stdio::piped());
    let mut child = build.spawn().context("failed to start cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let messages = serde_json::Deserializer::from_reader(BufReader::new(output));
    let mut suites = Vec::new();
    for message in messages.into_iter::<Message>() {
        let message = message.context("cargo's messages")?;
        if let (Some(program), Some(manifest), Some(target)) =
            (message.executable, message.manifest_path, message.target)
            && target.name.starts_with("vm-")
        {
            suites.push(Suite {
                name: target.name,
                program,
                folder: manifest.parent().unwrap_or(&manifest).to_owned(),
            });
        }
    }
    let status = child.wait().context("cargo")?;
    ensure!(status.success(), "building the tests ended with {status}");
    Ok(suites)
}

impl Suite {
    /// Runs it, and shows what it printed when it has ended; whether it passed.
    fn run(&self, parts: &(&str, PathBuf), logs: &Path) -> anyhow::Result<bool> {
        println!("running {}", self.name);
        let begun = Instant::now();
        let path = logs.join(format!("{}.log", self.name));
        let log = File::create(&path).with_context(|| path.display().to_string())?;
        let status = Command::new(&self.program)
            .args(["--test-threads=1", "--nocapture"])
            .current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder)
            .env(parts.0, &parts.1)
            .stdout(log.try_clone()?)
            .stderr(log)
            .status()
            .with_context(|| self.program.display().to_string())?;
        let mut out = io::stdout().lock();
        let mut log = File::open(&path).with_context(|| path.display().to_string())?;
        io::copy(&mut log, &mut out)?;
        let took = begun.elapsed().as_secs();
        println!("{} took {took} s and ended with {status}", self.name);
        Ok(status.success())
    }
}
