//! Runs recorded operations on the running kernel.
//!
//! ```text
//! kernel-conformance check FILE…    say which answers differ from the recorded ones
//! kernel-conformance record FILE…   print the files with this kernel's answers
//! ```
//!
//! Files named `*.ops` are operations on configfs, but for `blkio.ops`, which are on the `blkio`
//! controller of cgroup v1, mounted on `/run/blkio`. Files named `*.dm` are operations on
//! device-mapper and disks, and who may open them.
//! Scripts named `without-…` are for a kernel whose modules that load on demand are missing,
//! all others for one that has them loaded and two disks, `/dev/vda` and `/dev/vdb`.
//!
//! It makes and removes kernel objects, and **overwrites the disk `/dev/vda`**: run it as root on a
//! machine made for that, whose targets serve nobody. Exit status: 0 all agree, 1 some differ,
//! 2 it could not be tried.

use std::process::ExitCode;

use ashlar_kernel_iface::block::RealDisks;
use ashlar_kernel_iface::conformance::{Mismatch, Script};
use ashlar_kernel_iface::dm::RealDm;
use ashlar_kernel_iface::dm::conformance::{self as dm, Stage};
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
    let mut all_agree = true;
    for file in files {
        let (mismatches, operations) = check_file(file)?;
        for mismatch in &mismatches {
            println!("{file} {mismatch}");
        }
        let agreeing = operations - mismatches.len();
        println!("{file}: {agreeing} of {operations} answers agree");
        all_agree &= mismatches.is_empty();
    }
    Ok(all_agree)
}

fn check_file(file: &str) -> Result<(Vec<Mismatch>, usize), String> {
    if is_dm(file) {
        return on_dm(file, dm::check);
    }
    let script = parse(file)?;
    let mismatches = script.check(&tree_of(file));
    Ok((mismatches, script.operations()))
}

fn record(files: &[String]) -> Result<bool, String> {
    for file in files {
        println!("### {file}");
        let recorded = if is_dm(file) {
            on_dm(file, dm::record)?
        } else {
            parse(file)?.record(&tree_of(file))
        };
        print!("{recorded}");
    }
    Ok(true)
}

fn tree_of(file: &str) -> RealTree {
    match file.ends_with("blkio.ops") {
        true => RealTree::new("/run"),
        false => RealTree::configfs(),
    }
}

fn is_dm(file: &str) -> bool {
    file.ends_with(".dm")
}

fn on_dm<T, E: std::fmt::Display>(
    file: &str,
    run: impl FnOnce(&mut Stage<'_>, &str) -> Result<T, E>,
) -> Result<T, String> {
    let device_mapper = RealDm::open().map_err(|error| error.to_string())?;
    let (disks, tree) = (RealDisks::new(), RealTree::configfs());
    let mut stage = Stage::new(&device_mapper, &disks, &tree);
    run(&mut stage, &read(file)?).map_err(|error| format!("{file}: {error}"))
}

fn parse(file: &str) -> Result<Script, String> {
    Script::parse(&read(file)?).map_err(|error| format!("{file}: {error}"))
}

fn read(file: &str) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))
}
