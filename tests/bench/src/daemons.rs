//! What the daemons take, read from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};

const DAEMONS: [&str; 2] = ["ashlar-agent", "ashlar-targetd"];

/// The kernel's release.
pub fn kernel() -> anyhow::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/osrelease")?
        .trim()
        .to_owned())
}

/// Resident memory in bytes, by daemon.
pub fn memory() -> anyhow::Result<BTreeMap<String, u64>> {
    each(|process| status(process, "VmRSS:"))
}

/// The most of it that there was, likewise.
pub fn memory_peak() -> anyhow::Result<BTreeMap<String, u64>> {
    each(|process| status(process, "VmHWM:"))
}

fn status(process: &Path, what: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(process.join("status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix(what));
    let kib: u64 = line
        .and_then(|l| l.trim().strip_suffix(" kB"))
        .with_context(|| format!("no {what} in status"))?
        .parse()?;
    Ok(kib * 1024)
}

/// Size in bytes of the file each daemon runs from.
pub fn binaries() -> anyhow::Result<BTreeMap<String, u64>> {
    each(|process| Ok(fs::metadata(process.join("exe"))?.len()))
}

fn each(measure: impl Fn(&Path) -> anyhow::Result<u64>) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        if let Some(daemon) = daemon(&process) {
            found.insert(daemon.to_owned(), measure(&process)?);
        }
    }
    ensure!(
        found.len() == DAEMONS.len(),
        "running here: {:?}",
        found.keys()
    );
    Ok(found)
}

fn daemon(process: &Path) -> Option<&'static str> {
    let exe = fs::read_link(process.join("exe")).ok()?;
    let name = exe.file_name()?.to_str()?;
    DAEMONS.into_iter().find(|daemon| *daemon == name)
}
