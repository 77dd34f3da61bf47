//! A newer QEMU than Debian 12 has, which emulates with two thirds of the processor time.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::Context;
use ashlar_image::archive;
use nix::unistd::geteuid;

use crate::build::target;
use crate::host::apt;

/// What comes together, of one version.
const PACKAGES: [&str; 3] = ["qemu-system-x86", "qemu-utils", "qemu-block-extra"];

/// The version from which on none newer is worth a change.
const NEW_ENOUGH: &str = "1:9";

/// The release whose own is too old.
const RELEASE: &str = "bookworm";

/// Installs it where the release has only an older one. Whoever cannot have it goes on with that.
pub fn qemu() -> anyhow::Result<()> {
    if archive::own_codename()? != RELEASE || is_new_enough()? || !geteuid().is_root() {
        return Ok(());
    }
    eprintln!("installing by apt, from backports: {}", PACKAGES.join(" "));
    if let Err(error) = install() {
        eprintln!("going on with the release's own QEMU, which is slower: {error:#}");
    }
    Ok(())
}

fn is_new_enough() -> anyhow::Result<bool> {
    let shown = Command::new("dpkg-query")
        .args(["--show", "--showformat=${Version}", PACKAGES[0]])
        .stderr(Stdio::null())
        .output()
        .context("failed to run dpkg-query: this needs Debian")?;
    let version = String::from_utf8(shown.stdout)?;
    let compared = Command::new("dpkg")
        .args(["--compare-versions", &version, "ge", NEW_ENOUGH])
        .status()?;
    Ok(!version.is_empty() && compared.success())
}

/// With sources of our own, so that those of the machine stay as they are.
fn install() -> anyhow::Result<()> {
    let folder = target().join("backports");
    let lists = folder.join("lists");
    fs::create_dir_all(lists.join("partial")).with_context(|| lists.display().to_string())?;
    let sources = folder.join("sources.list");
    let (mirror, key) = (archive::mirror()?, archive::KEYRING);
    let backports = format!("{RELEASE}-backports");
    let lines =
        [RELEASE, &backports].map(|suite| format!("deb [signed-by={key}] {mirror} {suite} main\n"));
    fs::write(&sources, lines.concat()).with_context(|| sources.display().to_string())?;
    let own = [
        "Dir::Etc::SourceParts=/dev/null".to_owned(),
        format!("Dir::Etc::SourceList={}", sources.display()),
        format!("Dir::State::Lists={}", lists.display()),
    ];
    let own: Vec<&str> = own.iter().flat_map(|option| ["-o", option]).collect();
    apt(&[&own, &["update"][..]].concat())?;
    let release = format!("--target-release={backports}");
    let install = ["install", "--yes", "--no-install-recommends", &release];
    apt(&[&own, &install[..], &PACKAGES].concat())
}
