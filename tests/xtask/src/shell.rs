//! Shell scripts, held to the rules of shellcheck.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::build::{check, root};

/// Where there are any.
const FOLDERS: [&str; 2] = ["agent", "image"];

/// How those begin that any shell runs.
const SHELL: &[u8] = b"#!/bin/sh\n";

/// Checks all of them, and what they read.
pub fn lint() -> anyhow::Result<()> {
    let mut shellcheck = Command::new("shellcheck");
    shellcheck.args([
        "--external-sources",
        "--check-sourced",
        "--source-path=SCRIPTDIR",
    ]);
    check(shellcheck.args(all()?))
}

fn all() -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        scripts(&root().canonicalize()?.join(folder), &mut found)?;
    }
    Ok(found)
}

fn scripts(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            scripts(&path, found)?;
        } else if kind.is_file() && is_script(&path)? {
            found.push(path);
        }
    }
    Ok(())
}

fn is_script(path: &Path) -> anyhow::Result<bool> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let mut begin = Vec::new();
    file.take(SHELL.len() as u64).read_to_end(&mut begin)?;
    Ok(begin == SHELL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_any_shell_runs_is_found() {
        let found = all().unwrap();
        let is_there = |name: &str| found.iter().any(|path| path.ends_with(name));
        assert!(is_there("image/factory/flash") && is_there("usr/lib/ashlar/slot"));
        // Runs in busybox's shell alone.
        assert!(!is_there("image/boot/init"));
    }
}
