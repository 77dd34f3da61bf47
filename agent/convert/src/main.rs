//! `ashlar-convert --length BYTES --limit BYTES [--format NAME]`: extents of the image on standard
//! input to standard output. Started by the agent.

use std::process::ExitCode;

fn main() -> ExitCode {
    ashlar_convert::run(std::env::args_os())
}
