//! The appliance's kernel answers as was recorded.
//!
//! The model kernel, on which everything else is tested, is held to the same records. If a new
//! kernel answers otherwise, it is noticed here, and the model has to learn it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use ashlar_site::{Options, Parts, Site};

const PROGRAM: &str = "kernel-conformance";

/// The records. Those of a kernel that lacks modules are named `without-…`.
const SCRIPTS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../kernel-iface/tests/kernel-ops"
);

/// The daemons would make objects of their own.
const NO_DAEMONS: &str = "systemd.mask=ashlar-targetd.service systemd.mask=ashlar-agent.service";

/// How long all records together may take.
const LIMIT: Duration = Duration::from_secs(300);

#[test]
fn the_kernel_answers_in_conformance_with_the_records() -> anyhow::Result<()> {
    let parts = Parts::from_env()?;
    let (without, with): (Vec<_>, Vec<_>) = scripts()?
        .into_iter()
        .partition(|name| name.starts_with("without-"));
    ensure!(!without.is_empty() && !with.is_empty(), "no records");
    let options = Options {
        disks: 2,
        disk_size: 256 << 20,
        payload: Some(payload(&parts)?),
        data_disks_first: true,
        cmdline: NO_DAEMONS.into(),
        ..Options::default()
    };
    let mut site = Site::create(&parts, &parts.work.join("conformance"), &options)?;
    site.unpack()?;
    make_as_recorded(&mut site)?;
    check(&mut site, &with)?;
    // What the first time left over in the kernel shows in the second.
    check(&mut site, &with)?;
    lose_modules(&mut site)?;
    check(&mut site, &without)
}

fn scripts() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(SCRIPTS).context(SCRIPTS)? {
        let name = entry?.file_name().into_string();
        names.push(name.ok().context("a name that is no UTF-8")?);
    }
    names.sort();
    Ok(names)
}

/// A folder with the program and the records.
fn payload(parts: &Parts) -> anyhow::Result<PathBuf> {
    let folder = parts.work.join("conformance-payload");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    fs::copy(parts.programs.join(PROGRAM), folder.join(PROGRAM)).context(PROGRAM)?;
    for name in scripts()? {
        fs::copy(Path::new(SCRIPTS).join(&name), folder.join(&name)).context(name)?;
    }
    Ok(folder)
}

/// Makes the guest like the one that the records were made on.
fn make_as_recorded(site: &mut Site) -> anyhow::Result<()> {
    let mut check = |command| site.appliance.check(command);
    // The records overwrite these two.
    let serials = check("cat /sys/block/vda/serial; echo; cat /sys/block/vdb/serial")?;
    ensure!(
        serials.split_whitespace().eq(["DISK0", "DISK1"]),
        "vda and vdb are {serials:?}"
    );
    check(
        "modprobe -a dm_thin_pool dm_raid raid1 raid10 target_core_iblock iscsi_target_mod tcm_fc nvmet_tcp",
    )?;
    // Fibre Channel in memory, with one port for NVMe.
    check(
        "modprobe nvme_fcloop && echo wwnn=0x10001100aa000001,wwpn=0x20001100aa000001 \
         >/sys/class/fcloop/ctl/add_target_port",
    )?;
    check("systemctl start run-blkio.mount")?;
    // udev opens every disk that changes, and a disk that is open is in use.
    check(
        "systemctl stop systemd-udevd-control.socket systemd-udevd-kernel.socket \
         systemd-udevd.service",
    )?;
    // The kernel's own defaults: whoever listens has the address, and reservations have a place.
    check("echo 0 >/proc/sys/net/ipv4/ip_nonlocal_bind")?;
    check("echo 0 >/proc/sys/net/ipv6/ip_nonlocal_bind")?;
    check("mkdir -p /var/target").map(drop)
}

/// Takes away the modules that the kernel loads on demand, and its means to load them again.
fn lose_modules(site: &mut Site) -> anyhow::Result<()> {
    let mut check = |command| site.appliance.check(command);
    check("rmmod nvmet_tcp ib_isert iscsi_target_mod target_core_iblock")?;
    check("echo >/proc/sys/kernel/modprobe").map(drop)
}

fn check(site: &mut Site, scripts: &[String]) -> anyhow::Result<()> {
    let command = format!("cd /run/payload && ./{PROGRAM} check {}", scripts.join(" "));
    let report = site.appliance.check_within(&command, LIMIT)?;
    print!("{report}");
    Ok(())
}
