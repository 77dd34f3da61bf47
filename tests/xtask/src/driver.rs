//! The Cinder driver, checked and tested beside the Cinder that it is for.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::build::{cargo, check, root, target};
use crate::python::{environment, pip};

/// Where its tests' own packages are listed, with their versions.
const REQUIREMENTS: &str = "tests/requirements.txt";

/// Makes the programs that its tests run, an appliance on the model kernel, as those of a test's
/// package. Chosen from the whole workspace, it and all it is made of have the features that they have
/// for `cargo test --workspace`, and are not built again.
const PROGRAMS: [&str; 5] = ["test", "--workspace", "--no-run", "--test", "features"];

/// Checks and tests it.
pub fn check_and_test() -> anyhow::Result<()> {
    let driver = root().canonicalize()?.join("driver");
    let place = target().join("driver");
    let what = "Cinder and what its driver is tested with";
    let python = environment(&driver.join(REQUIREMENTS), &place, what)?;
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&python);
        command
            .args(["-m"])
            .args(arguments)
            .current_dir(&driver)
            // Nothing is left beside the sources.
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("MYPY_CACHE_DIR", place.join("mypy"))
            .env("RUFF_CACHE_DIR", place.join("ruff"));
        command
    };
    check(&mut run(&["ruff", "format", "--check", "."]))?;
    check(&mut run(&["ruff", "check", "."]))?;
    check(&mut run(&["mypy"]))?;
    install(&driver, &place, &python)?;
    check(cargo().args(PROGRAMS))?;
    let cache = format!("cache_dir={}", place.join("pytest").display());
    check(
        run(&["pytest", "--quiet", "-o", &cache])
            .env("ASHLAR_TEST_APPLIANCE", target().join("debug/appliance")),
    )
}

/// Installs the driver as an operator does, from a copy: what builds it leaves things behind.
fn install(driver: &Path, place: &Path, python: &Path) -> anyhow::Result<()> {
    let copy = place.join("package");
    if copy.exists() {
        fs::remove_dir_all(&copy).with_context(|| copy.display().to_string())?;
    }
    fs::create_dir(&copy).with_context(|| copy.display().to_string())?;
    check(
        Command::new("cp")
            .arg("--recursive")
            .args(["pyproject.toml", "README.md", "src"].map(|name| driver.join(name)))
            .arg(&copy),
    )?;
    check(
        pip(python)
            .args(["--no-deps", "--force-reinstall"])
            .arg(&copy),
    )
}
