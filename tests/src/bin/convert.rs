//! `ashlar-convert` for tests of this package, whose own programs alone are built before they run.

use std::process::ExitCode;

fn main() -> ExitCode {
    ashlar_convert::run(std::env::args_os())
}
