//! Every test.

use anyhow::Context;

use crate::build::{cargo, check, parts};
use crate::{driver, host};

/// Which tests to run; all by default.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only what needs no virtual machine.
    #[arg(long, conflicts_with = "vm")]
    quick: bool,
    /// Only what needs one.
    #[arg(long)]
    vm: bool,
    /// Only those of the Cinder driver.
    #[arg(long, conflicts_with_all = ["quick", "vm"])]
    driver: bool,
    /// Only tests in virtual machines from files whose names contain this.
    #[arg(long, requires = "vm", value_name = "TEXT")]
    only: Option<String>,
}

/// Runs them.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    host::prepare()?;
    if arguments.driver {
        return driver::check_and_test();
    }
    if !arguments.vm {
        quick()?;
    }
    if !arguments.quick {
        virtual_machines(arguments.only.as_deref())?;
    }
    Ok(())
}

fn quick() -> anyhow::Result<()> {
    check(cargo().args(["fmt", "--all", "--check"]))?;
    check(cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--features",
        "ashlar-guest-tests/vm",
        "--",
        "-D",
        "warnings",
    ]))?;
    check(cargo().args(["test", "--workspace"]))?;
    driver::check_and_test()
}

/// One at a time: each has the whole host, and an emulated guest needs it. Of the whole workspace,
/// as those without machines: selected by package, all libraries would be built once more, with
/// the features that this package alone asks for.
fn virtual_machines(only: Option<&str>) -> anyhow::Result<()> {
    let (variable, path) = parts()?.save().context("saving the parts")?;
    let mut test = cargo();
    test.args([
        "test",
        "--workspace",
        "--features",
        "ashlar-guest-tests/vm",
        "--test",
    ])
    .arg(format!("vm-*{}*", only.unwrap_or_default()))
    .args(["--", "--test-threads=1", "--nocapture"])
    .env(variable, path);
    check(&mut test)
}
