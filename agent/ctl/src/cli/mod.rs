//! The command line: what there is to say, and what comes of it.

mod pki;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

/// Manage an Ashlar block-storage appliance.
#[derive(Debug, Parser)]
#[command(name = "ashlarctl", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    noun: Noun,
}

#[derive(Debug, Subcommand)]
enum Noun {
    /// Make a small certificate authority and certificates for labs
    #[command(subcommand)]
    Pki(pki::Verb),
}

/// Parses the arguments and does what they say; exits with 2 when they say nothing.
pub fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(usage) = error.downcast_ref::<clap::Error>() {
                usage.exit();
            }
            eprintln!("ashlarctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.noun {
        Noun::Pki(verb) => pki::run(verb),
    }
}

/// Arguments that each are fine but do not go together.
fn usage(text: &str) -> anyhow::Error {
    Arguments::command()
        .error(ErrorKind::ArgumentConflict, text)
        .into()
}
