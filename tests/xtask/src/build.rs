//! Programs and images.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use ashlar_image::{Appliance, ApplianceInputs, SigningKey};
use ashlar_site::Parts;

use crate::host;

/// Static, so that a program made here runs in any guest.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Programs that guests run: the daemons of the image, and what tests bring along.
const PROGRAMS: &[(&str, &str)] = &[
    ("ashlar-agent", "ashlar-agent"),
    ("ashlar-targetd", "ashlar-targetd"),
    ("ashlar-convert", "ashlar-convert"),
    ("ashlar-bench", "ashlar-bench"),
    ("ashlar-kernel-view", "ashlar-kernel-view"),
    ("ashlar-kernel-iface", "kernel-conformance"),
];

/// The workspace's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .components()
        .collect::<PathBuf>()
}

/// Where everything that is built goes.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| canonical().join("target"), PathBuf::from)
}

fn canonical() -> PathBuf {
    root().canonicalize().unwrap_or_else(|_| root())
}

/// `cargo` in the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(canonical());
    command
}

/// Runs a command that must succeed, saying what it is.
pub fn check(command: &mut Command) -> anyhow::Result<()> {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let status = command
        .status()
        .with_context(|| format!("failed to start {}", words[0]))?;
    ensure!(status.success(), "{} ended with {status}", words.join(" "));
    Ok(())
}

/// Installs what is missing, builds programs and images, and says where they are.
pub fn parts() -> anyhow::Result<Parts> {
    host::prepare()?;
    host::require_root()?;
    let programs = programs()?;
    let cache = target().join("image");
    eprintln!("building the images (the first time takes some minutes)");
    let appliance = appliance(&programs, &cache, None)?;
    let initiator = ashlar_image::initiator(&cache)?;
    Ok(Parts {
        appliance: appliance.into(),
        initiator: initiator.into(),
        programs,
        work: target().join("vm"),
    })
}

/// What the flashable image is to be like.
#[derive(clap::Args)]
pub struct Flash {
    /// Where to copy it; it stays among what was built otherwise.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The private key, in PEM, that signs what the machine's firmware starts.
    #[arg(long, value_name = "FILE", requires = "sign_certificate")]
    sign_key: Option<PathBuf>,
    /// Its certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "sign_key")]
    sign_certificate: Option<PathBuf>,
}

/// Builds the appliance's image, says where it is and what takes room in it.
pub fn image(flash: Flash) -> anyhow::Result<()> {
    host::prepare()?;
    host::require_root()?;
    let programs = programs()?;
    eprintln!("building the image (the first time takes some minutes)");
    let signing = flash.sign_key.zip(flash.sign_certificate);
    let signing = signing.map(|(key, certificate)| SigningKey { key, certificate });
    let built = appliance(&programs, &target().join("image"), signing)?;
    let place = match flash.out {
        Some(out) => {
            ashlar_image::copy(&built.disk, &out)?;
            out
        }
        None => built.disk,
    };
    print!("{}", fs::read_to_string(&built.sizes).context("sizes")?);
    println!("{}", place.display());
    Ok(())
}

fn appliance(
    programs: &Path,
    cache: &Path,
    signing: Option<SigningKey>,
) -> anyhow::Result<Appliance> {
    Ok(ashlar_image::appliance(&ApplianceInputs {
        agent: programs.join("ashlar-agent"),
        targetd: programs.join("ashlar-targetd"),
        convert: programs.join("ashlar-convert"),
        signing,
        cache: cache.to_owned(),
    })?)
}

fn programs() -> anyhow::Result<PathBuf> {
    eprintln!("building the programs");
    let mut build = cargo();
    build
        .args(["build", "--release", "--target", TARGET])
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    for (package, program) in PROGRAMS {
        build.args(["--package", package, "--bin", program]);
    }
    check(&mut build)?;
    Ok(target().join(TARGET).join("release"))
}
