//! Builds bootable images from the command line.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ashlar_image::{Appliance, ApplianceInputs, Initiator, SigningKey};
use clap::{Args, Parser, Subcommand};

/// Build bootable images. Needs root.
#[derive(Parser)]
struct Arguments {
    /// Where builds are kept
    #[arg(long, global = true, default_value = "target/image")]
    cache: PathBuf,
    #[command(subcommand)]
    image: Image,
}

#[derive(Subcommand)]
enum Image {
    /// The appliance's disk, to be flashed or booted
    Appliance(Box<Flash>),
    /// A machine that uses what an appliance serves
    Initiator,
    /// The Debian packages that building needs
    Packages,
}

#[derive(Args)]
struct Flash {
    /// The management daemon
    #[arg(long, value_name = "FILE")]
    agent: PathBuf,
    /// The privileged daemon
    #[arg(long, value_name = "FILE")]
    targetd: PathBuf,
    /// The reader of disk images
    #[arg(long, value_name = "FILE")]
    convert: PathBuf,
    /// The private key, in PEM, that signs what the machine's firmware starts
    #[arg(long, value_name = "FILE", requires = "sign_certificate")]
    sign_key: Option<PathBuf>,
    /// Its certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "sign_key")]
    sign_certificate: Option<PathBuf>,
    /// What the firmware says that it is
    #[arg(long, default_value = ashlar_image::VERSION)]
    version: String,
    /// The authority, in PEM, of those who sign updates; without one there are none
    #[arg(long, value_name = "FILE")]
    update_certificate: Option<PathBuf>,
    /// The lowest version that is accepted as an update
    #[arg(long, value_name = "VERSION")]
    security_floor: Option<String>,
    /// Where to write the disk
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

fn main() -> Result<()> {
    let Arguments { cache, image } = Arguments::parse();
    match image {
        Image::Appliance(flash) => {
            let signing = flash.sign_key.zip(flash.sign_certificate);
            let built = ashlar_image::appliance(&ApplianceInputs {
                agent: flash.agent,
                targetd: flash.targetd,
                convert: flash.convert,
                version: flash.version,
                signing: signing.map(|(key, certificate)| SigningKey { key, certificate }),
                update_certificate: flash.update_certificate,
                security_floor: flash.security_floor,
                cache,
            })?;
            ashlar_image::copy(&built.disk, &flash.out)?;
            tell_appliance(&built, &flash.out)?;
        }
        Image::Initiator => tell_initiator(&ashlar_image::initiator(&cache)?),
        Image::Packages => println!("{}", ashlar_image::HOST_PACKAGES.join(" ")),
    }
    Ok(())
}

fn tell_appliance(built: &Appliance, out: &Path) -> Result<()> {
    println!("disk    {}", out.display());
    println!("kernel  {}", built.kernel.display());
    println!("initrd  {}", built.initrd.display());
    println!("cmdline {}", built.cmdline);
    println!("bill    {}", built.bill.display());
    let sizes = fs::read_to_string(&built.sizes);
    print!(
        "\n{}",
        sizes.with_context(|| built.sizes.display().to_string())?
    );
    Ok(())
}

fn tell_initiator(built: &Initiator) {
    println!("root    {}", built.root.display());
    println!("kernel  {}", built.kernel.display());
    println!("initrd  {}", built.initrd.display());
    println!("cmdline {}", built.cmdline);
}
