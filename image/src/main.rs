//! Builds bootable images from the command line.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ashlar_image::{Appliance, ApplianceInputs, Initiator};
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
    Appliance(Flash),
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
    /// Where to write the disk
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

fn main() -> Result<()> {
    let Arguments { cache, image } = Arguments::parse();
    match image {
        Image::Appliance(Flash {
            agent,
            targetd,
            convert,
            out,
        }) => {
            let built = ashlar_image::appliance(&ApplianceInputs {
                agent,
                targetd,
                convert,
                cache,
            })?;
            copy(&built, &out)?;
            tell_appliance(&built, &out);
        }
        Image::Initiator => tell_initiator(&ashlar_image::initiator(&cache)?),
        Image::Packages => println!("{}", ashlar_image::HOST_PACKAGES.join(" ")),
    }
    Ok(())
}

fn copy(built: &Appliance, out: &Path) -> Result<()> {
    let status = Command::new("cp")
        .args(["--reflink=auto", "--sparse=auto"])
        .arg(&built.disk)
        .arg(out)
        .status()
        .context("failed to start cp")?;
    ensure!(status.success(), "failed to write {}", out.display());
    Ok(())
}

fn tell_appliance(built: &Appliance, out: &Path) {
    println!("disk    {}", out.display());
    println!("kernel  {}", built.kernel.display());
    println!("initrd  {}", built.initrd.display());
    println!("cmdline {}", built.cmdline);
}

fn tell_initiator(built: &Initiator) {
    println!("root    {}", built.root.display());
    println!("kernel  {}", built.kernel.display());
    println!("initrd  {}", built.initrd.display());
    println!("cmdline {}", built.cmdline);
}
