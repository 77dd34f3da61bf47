//! Developer commands. `cargo xtask --help` lists them.

mod backports;
mod bench;
mod bill;
mod build;
mod demo;
mod driver;
mod host;
mod lab;
mod python;
mod shell;
mod suites;
mod test;
mod yocto;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Developer commands for Ashlar.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Boot an appliance and an initiator, serve volumes, cut the power, and show that all is there.
    Demo(demo::Arguments),
    /// Boot an appliance and leave it running, its ports forwarded to loopback.
    Up,
    /// End the appliance that `up` left running. Its disks are kept until the next `up`.
    Down,
    /// Run every test, from unit to virtual machine.
    Test(test::Arguments),
    /// Measure the appliance against the kernel floor.
    Bench {
        /// Where to write the figures.
        #[arg(long, value_name = "FILE")]
        json: PathBuf,
        /// Volumes present in the large measurement.
        #[arg(long, default_value_t = 2000)]
        many: u32,
    },
    /// Build the appliance's flashable image, say where it is and what takes room in it.
    Image(build::Flash),
    /// Build a bundle that updates boxes to the firmware.
    Bundle(build::Update),
    /// Write the list of crates that the Yocto recipes fetch, from Cargo.lock.
    YoctoCrates,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Demo(story) => demo::run(&story),
        Command::Up => lab::up(),
        Command::Down => lab::down(),
        Command::Test(arguments) => test::run(&arguments),
        Command::Bench { json, many } => bench::run(&json, many),
        Command::Image(flash) => build::image(flash),
        Command::Bundle(update) => build::bundle(update),
        Command::YoctoCrates => yocto::write_crates(),
    }
}
