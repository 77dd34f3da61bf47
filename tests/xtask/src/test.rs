//! Every test.

use std::thread;

use crate::build::{cargo, check};
use crate::{driver, host, shell, suites, yocto};

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
    /// Only what can be checked of the Yocto layers without building them.
    #[arg(long, conflicts_with_all = ["quick", "vm", "driver"])]
    yocto: bool,
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
    if arguments.yocto {
        return yocto::lint();
    }
    if !arguments.vm {
        quick()?;
    }
    if !arguments.quick {
        suites::run(arguments.only.as_deref())?;
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
    check(cargo().args(["test", "--workspace", "--no-run"]))?;
    shell::lint()?;
    yocto::lint()?;
    // Both wait for clocks and disks most of the time.
    thread::scope(|scope| {
        let driver = scope.spawn(driver::check_and_test);
        let workspace = check(cargo().args(["test", "--workspace"]));
        let driver = driver.join().expect("it does not panic");
        match (workspace, driver) {
            (Err(one), Err(other)) => anyhow::bail!("{one:#}; {other:#}"),
            (one, other) => one.and(other),
        }
    })
}
