//! `ashlarctl`: manages an Ashlar appliance from a command line.
//!
//! Exit codes: 0 done, 1 failed, 2 not understood.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
