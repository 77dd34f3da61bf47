//! What the host must have.

use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use nix::unistd::geteuid;

use crate::backports;

/// Packages beyond those that images and machines name themselves: libiscsi within QEMU's tools
/// for the demo, its suite for SCSI disks, `systemd-analyze` for the units' hardening, what thin metadata are checked
/// against, a message bus for what stands in for the updater, Python for the Cinder driver and for
/// what checks the Yocto layers, what the factory's programs call, what checks shell scripts.
const OWN_PACKAGES: &[&str] = &[
    "dbus-daemon",
    "fdisk",
    "jq",
    "libiscsi-bin",
    "openssl",
    "python3-venv",
    "qemu-block-extra",
    "qrencode",
    "shellcheck",
    "systemd",
    "thin-provisioning-tools",
];

/// Installs what is missing by apt, saying what; where that may not be done, says how to.
pub fn prepare() -> anyhow::Result<()> {
    backports::qemu()?;
    install(&missing_packages()?)?;
    // The first may have removed what was there of another version: of QEMU's tools, above all.
    install(&missing_packages()?)?;
    let missing = missing_packages()?;
    ensure!(
        missing.is_empty(),
        "apt did not install {}",
        missing.join(" ")
    );
    Ok(())
}

fn install(missing: &[String]) -> anyhow::Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !geteuid().is_root() {
        bail!(
            "these Debian packages are missing: {list}\n\
             install them with\n\n    sudo apt-get install --no-install-recommends {list}\n"
        );
    }
    eprintln!("installing by apt: {list}");
    apt(&["update"])?;
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(missing.iter().map(String::as_str));
    apt(&arguments)
}

/// Images are made by mmdebstrap with root's privilege over owners and device nodes.
pub fn require_root() -> anyhow::Result<()> {
    ensure!(
        geteuid().is_root(),
        "images are built as root: run this with sudo or as root"
    );
    Ok(())
}

fn missing_packages() -> anyhow::Result<Vec<String>> {
    let wanted = ashlar_image::HOST_PACKAGES
        .iter()
        .chain(ashlar_vm::HOST_PACKAGES)
        .chain(OWN_PACKAGES);
    let mut missing: Vec<String> = Vec::new();
    for package in wanted {
        let output = Command::new("dpkg-query")
            .args(["--show", "--showformat=${db:Status-Status}", package])
            .stderr(Stdio::null())
            .output()
            .context("failed to run dpkg-query: this needs Debian")?;
        if output.stdout != b"installed" && !missing.iter().any(|m| m == package) {
            missing.push((*package).to_owned());
        }
    }
    Ok(missing)
}

pub fn apt(arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("apt-get")
        .args(["-qq", "-o", "Dpkg::Use-Pty=0"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(std::io::stderr())
        .status()
        .context("failed to run apt-get")?;
    ensure!(
        status.success(),
        "apt-get {} ended with {status}",
        arguments.join(" ")
    );
    Ok(())
}
