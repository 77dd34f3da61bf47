//! Programs and images.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use ashlar_image::{Again, ApplianceInputs, SigningKey, UpdateSigner};
use ashlar_site::{Parts, Updates};

use crate::host;

/// Static, so that a program made here runs in any guest.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Programs that guests run: the daemons of the image, and what tests bring along. Beside them what
/// a factory's station runs.
const PROGRAMS: &[(&str, &str)] = &[
    ("ashlar-agent", "ashlar-agent"),
    ("ashlar-targetd", "ashlar-targetd"),
    ("ashlar-convert", "ashlar-convert"),
    ("ashlar-ctl", "ashlarctl"),
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
    let updates = Updates::at(&target().join("update"))?;
    let inputs = Parts::inputs(&programs, &cache, Some(&updates));
    let appliance = ashlar_image::appliance(&inputs)?;
    let initiator = ashlar_image::initiator(&cache)?;
    Ok(Parts {
        bill: appliance.bill.clone(),
        appliance: appliance.into(),
        initiator: initiator.into(),
        programs,
        cache,
        updates,
        work: target().join("vm"),
    })
}

/// What is the same of an image and of a bundle that updates a box to it.
#[derive(clap::Args)]
struct Firmware {
    /// What the firmware says that it is.
    #[arg(long, default_value = ashlar_image::VERSION)]
    version: String,
    /// The authority, in PEM, of those who sign updates of this firmware; without one it takes
    /// none. Lists of revoked certificates behind it are heeded.
    #[arg(long, value_name = "FILE")]
    update_certificate: Option<PathBuf>,
    /// The lowest version that this firmware accepts as an update.
    #[arg(long, value_name = "VERSION")]
    security_floor: Option<String>,
    /// The private key, in PEM, that signs what the machine's firmware starts.
    #[arg(long, value_name = "FILE", requires = "sign_certificate")]
    sign_key: Option<PathBuf>,
    /// Its certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "sign_key")]
    sign_certificate: Option<PathBuf>,
}

impl Firmware {
    fn inputs(self) -> anyhow::Result<ApplianceInputs> {
        host::prepare()?;
        host::require_root()?;
        let programs = programs()?;
        let signing = self.sign_key.zip(self.sign_certificate);
        Ok(ApplianceInputs {
            version: self.version,
            signing: signing.map(|(key, certificate)| SigningKey { key, certificate }),
            update_certificate: self.update_certificate,
            security_floor: self.security_floor,
            ..Parts::inputs(&programs, &target().join("image"), None)
        })
    }
}

/// What the flashable image is to be like.
#[derive(clap::Args)]
pub struct Flash {
    #[command(flatten)]
    firmware: Firmware,
    /// Build all of it once more, from the packages on, and fail if it is not the same. Not signed.
    #[arg(long)]
    twice: bool,
    /// Where to copy it; it stays among what was built otherwise.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Builds the appliance's image, says where it is and what takes room in it.
pub fn image(flash: Flash) -> anyhow::Result<()> {
    let inputs = flash.firmware.inputs()?;
    eprintln!("building the image (the first time takes some minutes)");
    if flash.twice {
        let differing = ashlar_image::again(&inputs, Again::FromPackages)?;
        ensure!(
            differing.is_empty(),
            "it differs in {}",
            differing.join("; ")
        );
        eprintln!("the same twice");
    }
    let built = ashlar_image::appliance(&inputs)?;
    let place = match flash.out {
        Some(out) => {
            ashlar_image::copy(&built.disk, &out)?;
            let beside = bill_of(&out);
            fs::copy(&built.bill, &beside).with_context(|| beside.display().to_string())?;
            out
        }
        None => built.disk,
    };
    print!("{}", fs::read_to_string(&built.sizes).context("sizes")?);
    println!("{}", place.display());
    Ok(())
}

/// Where the bill of materials of an image goes: beside it.
fn bill_of(image: &Path) -> PathBuf {
    let mut name = image.as_os_str().to_owned();
    name.push(".cdx.json");
    name.into()
}

/// What an update is to be like.
#[derive(clap::Args)]
pub struct Update {
    #[command(flatten)]
    firmware: Firmware,
    /// The private key, in PEM, that signs the bundle.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Its certificate, in PEM, for the signing of code.
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    /// A certificate between that and the one that boxes have.
    #[arg(long, value_name = "FILE")]
    intermediate: Vec<PathBuf>,
    /// Where to copy the bundle.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Builds a bundle that updates boxes, and says how large it is.
pub fn bundle(update: Update) -> anyhow::Result<()> {
    let signer = UpdateSigner {
        key: update.key,
        certificate: update.certificate,
        intermediates: update.intermediate,
    };
    ensure!(
        update.firmware.update_certificate.is_some(),
        "--update-certificate FILE is missing: a box with this firmware would never take another \
         update"
    );
    let inputs = update.firmware.inputs()?;
    eprintln!("building the bundle (the first time takes some minutes)");
    let built = ashlar_image::bundle(&inputs, &signer)?;
    let bytes = fs::copy(&built, &update.out).context("copying the bundle")?;
    println!("{} has {bytes} bytes", update.out.display());
    Ok(())
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
