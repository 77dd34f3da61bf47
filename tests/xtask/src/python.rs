//! Python tools, in environments of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::build::check;

/// Python with the packages of a requirements file, made anew when it says something else.
/// `what` names them to whoever waits.
pub fn environment(requirements: &Path, place: &Path, what: &str) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(place).with_context(|| place.display().to_string())?;
    let wanted = fs::read_to_string(requirements)
        .with_context(|| format!("failed to read {}", requirements.display()))?;
    let (folder, stamp) = (place.join("venv"), place.join("requirements.txt"));
    let python = folder.join("bin/python");
    if fs::read_to_string(&stamp).is_ok_and(|there| there == wanted) {
        return Ok(python);
    }
    eprintln!("installing {what}");
    check(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&folder),
    )?;
    check(pip(&python).arg("--requirement").arg(requirements))?;
    fs::write(&stamp, wanted).with_context(|| stamp.display().to_string())?;
    Ok(python)
}

/// What installs packages into an environment.
pub fn pip(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]);
    command
}
