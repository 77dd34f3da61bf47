//! The reader of disk images shuts itself in on the appliance's kernel, too, from inside the
//! agent's own sandbox, and reads there what it reads here.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use ashlar_site::{Options, Parts, Site};

const PROGRAM: &str = "ashlar-convert";

/// Prints what the program says of an image, and the digest of the extents it gives. Every end
/// is a pipe, as the agent's are.
const READ: &str = r#"image=$2
{ "$1" --length="$(stat -c %s "$image")" --limit=1073741824 <"$image" 2>&3 | sha256sum; } 3>&1 | cat
"#;

/// The agent's unit with another program in it. What is left out would only make it wait for
/// something or come back.
const UNIT: &str = r#"
sed -e 's|^Type=.*|Type=oneshot|' \
    -e 's|^ExecStart=.*|ExecStart=/bin/sh /run/payload/read /usr/sbin/ashlar-convert /run/payload/image|' \
    -e 's|^\[Service\]|[Service]\nStandardOutput=file:/run/read.out|' \
    -e '/^Restart/d' -e '/^WatchdogSec/d' -e '/^Condition/d' -e '/^After/d' -e '/^Wants/d' \
    /etc/systemd/system/ashlar-agent.service >/run/systemd/system/read.service
systemctl daemon-reload
systemctl start read.service || journalctl --no-pager --unit=read.service >&2
cat /run/read.out
"#;

#[test]
fn an_image_is_read_in_full_confinement() -> anyhow::Result<()> {
    let parts = Parts::from_env()?;
    let payload = parts.work.join("images-payload");
    make(&payload)?;
    let here = Command::new("sh")
        .arg(payload.join("read"))
        .arg(parts.programs.join(PROGRAM))
        .arg(payload.join("image"))
        .output()
        .context("failed to start sh")?;
    let here = String::from_utf8(here.stdout)?;
    let options = Options {
        payload: Some(payload),
        ..Options::default()
    };
    let mut site = Site::create(&parts, &parts.work.join("images"), &options)?;
    site.unpack()?;
    let there = site.appliance.check(UNIT)?;
    print!("{there}");
    let mut lines: Vec<&str> = there.lines().collect();
    lines.sort_unstable();
    ensure!(lines.len() == 2, "it printed {there:?}");
    ensure!(
        lines[1] == "open qcow2 67108864 full",
        "it is not shut in by all means: {there:?}"
    );
    ensure!(
        here.lines().any(|line| line == lines[0]),
        "here it gives {here:?}, there {there:?}"
    );
    Ok(())
}

/// A folder with the script and a compressed image.
fn make(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    fs::write(folder.join("read"), READ)?;
    let (raw, image) = (folder.join("raw"), folder.join("image"));
    let mut disk = vec![0; 64 << 20];
    for (at, byte) in disk[1 << 20..9 << 20].iter_mut().enumerate() {
        *byte = (at / 3 % 253) as u8;
    }
    fs::write(&raw, disk)?;
    let status = Command::new("qemu-img")
        .args(["convert", "-f", "raw", "-O", "qcow2", "-c"])
        .args([&raw, &image])
        .status()
        .context("failed to start qemu-img")?;
    ensure!(status.success(), "qemu-img ended with {status}");
    fs::remove_file(raw).context("the raw disk")
}
