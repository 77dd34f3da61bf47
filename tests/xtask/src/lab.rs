//! An appliance that stays.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use ashlar_site::{Options, Site, Start};
use ashlar_vm::Machine;

use crate::build;

fn folder() -> PathBuf {
    build::target().join("appliance")
}

/// Boots an appliance, leaves it running and says how to use it.
pub fn up() -> anyhow::Result<()> {
    let parts = build::parts()?;
    let options = Options {
        start: Start::Firmware,
        ..Options::default()
    };
    let site = Site::create(&parts, &folder(), &options)?;
    eprintln!("waiting for the appliance");
    site.await_management()?;
    let environment = environment(&site)?;
    let path = folder().join("env");
    fs::write(&path, &environment)?;
    site.appliance.leave();
    print!("{environment}");
    eprintln!(
        "\nto use it:  . {}\nto end it:  cargo xtask down",
        path.display()
    );
    Ok(())
}

/// Ends the appliance that `up` left running.
pub fn down() -> anyhow::Result<()> {
    if Machine::end_left(&folder().join("appliance"))? {
        eprintln!("the appliance is off");
    } else {
        eprintln!("no appliance is running");
    }
    Ok(())
}

fn environment(site: &Site) -> anyhow::Result<String> {
    let pki = site.pki.folder().canonicalize()?;
    let mut text = String::new();
    writeln!(
        text,
        "export ASHLAR_ENDPOINT=127.0.0.1:{}",
        site.ports.management
    )?;
    writeln!(
        text,
        "export ASHLAR_CERT={}",
        pki.join("admin.pem").display()
    )?;
    writeln!(
        text,
        "export ASHLAR_KEY={}",
        pki.join("admin.key").display()
    )?;
    writeln!(text, "export ASHLAR_CA={}", pki.join("ca.pem").display())?;
    writeln!(text, "export ASHLAR_ISCSI_PORT={}", site.ports.iscsi)?;
    writeln!(text, "export ASHLAR_NVME_PORT={}", site.ports.nvme)?;
    Ok(text)
}
