//! Runs recorded operations on the running kernel.
//!
//! ```text
//! kernel-conformance check FILE…    say which answers differ from the recorded ones
//! kernel-conformance record FILE…   print the files with this kernel's answers
//! ```
//!
//! Scripts named `without-…` are for a kernel whose modules that load on demand are missing,
//! all others for one that has them loaded and two disks, `/dev/vda` and `/dev/vdb`.
//!
//! It makes and removes kernel objects below configfs and opens disks: run it as root on a
//! machine made for that, whose targets serve nobody. Exit status: 0 all agree, 1 some differ,
//! 2 it could not be tried.

use std::process::ExitCode;

use ashlar_kernel_iface::conformance::Script;
use ashlar_kernel_iface::tree::RealTree;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((verb, files)) if verb == "check" && !files.is_empty() => check(files),
        Some((verb, files)) if verb == "record" && !files.is_empty() => record(files),
        _ => Err("usage: kernel-conformance check|record FILE…".to_owned()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("kernel-conformance: {message}");
            ExitCode::from(2)
        }
    }
}

fn check(files: &[String]) -> Result<bool, String> {
    let kernel = RealTree::configfs();
    let mut all_agree = true;
    for file in files {
        let script = read(file)?;
        let mismatches = script.check(&kernel);
        for mismatch in &mismatches {
            println!("{file} {mismatch}");
        }
        let agreeing = script.operations() - mismatches.len();
        println!(
            "{file}: {agreeing} of {} answers agree",
            script.operations()
        );
        all_agree &= mismatches.is_empty();
    }
    Ok(all_agree)
}

fn record(files: &[String]) -> Result<bool, String> {
    let kernel = RealTree::configfs();
    for file in files {
        println!("### {file}");
        print!("{}", read(file)?.record(&kernel));
    }
    Ok(true)
}

fn read(file: &str) -> Result<Script, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    Script::parse(&text).map_err(|error| format!("{file}: {error}"))
}
