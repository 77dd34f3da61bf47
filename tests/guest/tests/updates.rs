//! Updates of the firmware: written by the slot that runs, started by the machine's own firmware.

use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::ensure;
use ashlar_guest_tests::firmware::{await_entries, entries, kernel_image, slots_started};
use ashlar_site::{Options, Parts, Site, Start};

/// Other than the one that runs.
const VERSION: &str = "1000.2.3";

const BUNDLE: &str = "/var/lib/ashlar/update/bundle.raucb";

/// As whom the agent runs, and what it calls.
const AS_AGENT: &str = "setpriv --reuid=ashlar --regid=ashlar --clear-groups busctl";
const INSTALLER: &str = "de.pengutronix.rauc / de.pengutronix.rauc.Installer";

/// From the call to a slot that is written, emulated.
const PATIENCE: Duration = Duration::from_secs(240);

#[test]
fn an_update_is_started_when_it_is_whole_and_by_the_right_hand() -> anyhow::Result<()> {
    let parts = Parts::from_env()?;
    let options = Options {
        payload: Some(bundles(&parts)?),
        ..Options::default()
    };
    let mut site = Site::create(&parts, &parts.work.join("updates"), &options)?;

    let stranger = site.appliance.run(&format!(
        "setpriv --reuid=nobody busctl call {INSTALLER} GetPrimary"
    ))?;
    ensure!(stranger.stderr.contains("denied"), "{stranger:?}");
    for (bundle, tamper, complaint) in [
        ("stranger", "", "unable to get local issuer certificate"),
        ("server", "", "unsuitable certificate purpose"),
        ("signer", "truncate -s -1M", "Invalid bundle format"),
        (
            "signer",
            "dd if=/dev/zero bs=1 count=64 seek=20M conv=notrunc status=none of=",
            "Input/output error",
        ),
    ] {
        lay(&mut site, bundle)?;
        if !tamper.is_empty() {
            let space = if tamper.ends_with('=') { "" } else { " " };
            site.appliance.check(&format!("{tamper}{space}{BUNDLE}"))?;
        }
        let told = install(&mut site)?;
        ensure!(told.contains(complaint), "{bundle} {tamper}: {told:?}");
        ensure!(primary(&mut site)? == "a");
        println!("refused: {told}");
    }

    lay(&mut site, "signer")?;
    call(&mut site)?;
    await_step(&mut site, "kernel.1")?;
    // Somewhere in the middle of what takes some seconds.
    sleep(Duration::from_secs(2));
    site.appliance.cut_power()?;
    let disk = site.folder().join("system.img");
    println!("cut with {:?}", entries(&disk)?);
    site.appliance.power_on()?;
    ensure!(primary(&mut site)? == "a");
    ensure!(slot(&mut site, "get-state b")? == "bad");

    let begin = Instant::now();
    let told = install(&mut site)?;
    ensure!(told.is_empty(), "{told}");
    ensure!(primary(&mut site)? == "b");
    println!("installed in {} s", begin.elapsed().as_secs());
    site.appliance.cut_power()?;
    await_entries(&disk, ["ashlar-2-a+3.efi", "ashlar-3-b+3.efi"])?;
    let kernel = kernel_image(&disk, "ashlar-3-b+3.efi")?;
    let release = format!("\"Ashlar {VERSION}, slot b\"");
    ensure!(
        kernel
            .windows(release.len())
            .any(|there| there == release.as_bytes())
    );

    let by_firmware = Options {
        start: Start::Firmware,
        // With several, an emulated kernel may take its timer for broken and not start at all.
        processors: 1,
        ..options
    };
    let site = site.again(&parts, &by_firmware)?;
    site.await_management()?;
    ensure!(slots_started(&site)? == ["b"]);
    await_entries(&disk, ["ashlar-2-a+3.efi", "ashlar-3-b+3.efi"])?;
    println!("slot b came up, and was confirmed");
    Ok(())
}

/// A folder with the same update by everybody who signs.
fn bundles(parts: &Parts) -> anyhow::Result<PathBuf> {
    let folder = parts.work.join("updates-payload");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let built = parts.bundle(VERSION)?;
    for name in ["stranger", "server"] {
        let signer = parts.updates.signer(name);
        ashlar_image::resign(&built, &signer, &folder.join(name), &parts.cache)?;
    }
    fs::copy(built, folder.join("signer"))?;
    Ok(folder)
}

/// Has a bundle where the agent would put it.
fn lay(site: &mut Site, name: &str) -> anyhow::Result<()> {
    let lay = format!(
        "umask 077 && rm -f {BUNDLE} && \
         tar -xOf /dev/disk/by-id/virtio-PAYLOAD ./{name} >{BUNDLE} && \
         chown ashlar:ashlar {BUNDLE} && sync {BUNDLE}"
    );
    site.appliance.check(&lay).map(drop)
}

fn call(site: &mut Site) -> anyhow::Result<()> {
    let call = format!("{AS_AGENT} call {INSTALLER} InstallBundle 'sa{{sv}}' {BUNDLE} 0");
    site.appliance.check(&call).map(drop)
}

/// Installs what lies there; answers what was told of the end, which is nothing when it is good.
fn install(site: &mut Site) -> anyhow::Result<String> {
    call(site)?;
    let begin = Instant::now();
    while property(site, "Operation")? != "s \"idle\"" {
        ensure!(
            begin.elapsed() < PATIENCE,
            "{}",
            property(site, "Progress")?
        );
        sleep(Duration::from_millis(200));
    }
    let told = property(site, "LastError")?;
    Ok(told.trim_start_matches("s ").trim_matches('"').to_owned())
}

/// Waits until an installation is at this.
fn await_step(site: &mut Site, step: &str) -> anyhow::Result<()> {
    let begin = Instant::now();
    loop {
        let progress = property(site, "Progress")?;
        if progress.contains(step) {
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "{progress}");
        sleep(Duration::from_millis(200));
    }
}

fn property(site: &mut Site, name: &str) -> anyhow::Result<String> {
    let get = format!("{AS_AGENT} get-property {INSTALLER} {name}");
    Ok(site.appliance.check(&get)?.trim().to_owned())
}

fn primary(site: &mut Site) -> anyhow::Result<String> {
    slot(site, "get-primary")
}

fn slot(site: &mut Site, words: &str) -> anyhow::Result<String> {
    let told = site
        .appliance
        .check(&format!("/usr/lib/ashlar/slot {words}"))?;
    Ok(told.trim().to_owned())
}
