//! What becomes of a box: from a blank disk in the factory to its owner, to another version, and
//! back from one that does not start.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ashlar_image::Slot;
use ashlar_protocol::{Firmware, Phase, Pool, SlotName};
use ashlar_site::factory::{By, Owner, Station, check};
use ashlar_site::firmware::{await_entries, damage, slots_started};
use ashlar_site::{Options, Parts, Site, Start};
use serde::de::DeserializeOwned;

use super::{chapter, tell};
use crate::build;

/// The versions that the box gets after the one it is flashed with.
const SECOND: &str = "1000.0.0";
const THIRD: &str = "1000.1.0";

/// The last that a kernel says when its machine is started again in order.
const RESTARTS: &[u8] = b"reboot: Restarting system";

/// From a request to start again to a kernel that does.
const PATIENCE: Duration = Duration::from_secs(240);

/// Tells the story and checks every line of it.
pub fn run() -> anyhow::Result<()> {
    let begin = Instant::now();
    let parts = build::parts()?;
    let folder = parts.work.join("demo-firmware");
    let mut station = Station::create(&parts, &folder.join("station"))?;

    chapter("A blank disk in a factory");
    let flash = |image: &Path, disk: &Path, _: &_| station.flash(image, disk);
    let options = Options {
        start: Start::Firmware,
        ..Options::default()
    };
    let site = Site::flashed(&parts, &folder.join("box"), &options, flash)?;
    station.find_at(site.ports.management);
    made(&station)?;

    let owner = Owner::of(&station, &site.pki);
    let mut life = Life {
        station: &station,
        owner: &owner,
        disk: site.folder().join("system.img"),
        site,
    };
    life.claimed()?;
    life.used()?;
    life.updated(&parts)?;
    life.fallen_back(&parts)?;
    chapter(&format!("Done in {} s", begin.elapsed().as_secs()));
    Ok(())
}

fn made(station: &Station) -> anyhow::Result<()> {
    tell("the image and a seed with the box's serial number are on it");
    let shown = station.await_box()?;
    ensure!(shown.phase == Phase::Factory, "{shown:?}");
    tell("the box started from it, made its own key, and answers whoever knows its seed");
    station.test()?;
    tell("its disks and its network passed their test");
    check(&mut station.provision())?;
    station.check_ledger()?;
    let shown = station.await_box()?;
    ensure!(shown.phase == Phase::Unclaimed, "{shown:?}");
    let device = shown.device.context("it has no identity")?;
    tell(&format!(
        "it was sealed with an identity of the factory's, {}, and is in the signed ledger",
        device.subject
    ));
    tell("its label has the secret by which it can be claimed, as text and as a QR code");
    Ok(())
}

/// A box that has left the factory.
struct Life<'s> {
    station: &'s Station,
    owner: &'s Owner<'s>,
    disk: PathBuf,
    site: Site,
}

impl Life<'_> {
    fn claimed(&self) -> anyhow::Result<()> {
        chapter("Its owner claims it");
        let label = self.station.own("label.txt");
        check(&mut self.owner.claim(&label))?;
        tell("the secret from the label was good for it, once");
        let again = self.owner.claim(&label).output()?;
        ensure!(!again.status.success(), "it was claimed twice");
        tell("whoever comes second is refused");
        let certificate = self.owner.sign()?;
        let mut installs = self.owner.admin(By::Factory)?;
        check(installs.args(["identity", "install"]).arg(&certificate))?;
        let shown = self.owner.await_box(By::Owner)?;
        ensure!(shown.phase == Phase::Claimed, "{shown:?}");
        tell(&format!(
            "it asked for a certificate of its owner's and serves by that: {}",
            shown.certificate.subject
        ));
        Ok(())
    }

    fn used(&self) -> anyhow::Result<()> {
        for words in [
            &["pool", "create", "tank", "--disk", "serial-DISK0"][..],
            &["volume", "create", "db", "--pool", "tank", "--size", "1GiB"],
        ] {
            check(self.owner.admin(By::Owner)?.args(words))?;
        }
        tell("it has a pool, and a volume on it");
        Ok(())
    }

    fn updated(&mut self, parts: &Parts) -> anyhow::Result<()> {
        chapter("It gets another version");
        self.install(parts, SECOND)?;
        check(self.owner.admin(By::Owner)?.args(["system", "restart"]))?;
        self.await_restart()?;
        let shown = self.runs(SlotName::B, SECOND)?;
        ensure!(shown.next == SlotName::B, "{shown:?}");
        // Until then there would be nothing to come back to.
        await_entries(&self.disk, ["ashlar-2-a+3.efi", "ashlar-3-b+3.efi"])?;
        tell("that start was counted, came up well, and was confirmed");
        Ok(())
    }

    fn fallen_back(&mut self, parts: &Parts) -> anyhow::Result<()> {
        chapter("The next version does not start");
        self.install(parts, THIRD)?;
        self.site.appliance.cut_power()?;
        await_entries(&self.disk, ["ashlar-3-b+3.efi", "ashlar-4-a+3.efi"])?;
        damage(&self.disk, Slot::A, &parts.appliance.cmdline)?;
        tell("the power went, and bits of the new slot were flipped on the disk");
        self.site.appliance.power_on()?;
        self.runs(SlotName::B, SECOND)?;
        let started = slots_started(&self.site)?;
        tell(&format!(
            "the slots that were started: {}",
            started.join(", ")
        ));
        await_entries(&self.disk, ["ashlar-3-b+3.efi", "ashlar-4-a+0-3.efi"])?;
        tell("the slot that does not verify has no tries left, and nobody had to come");
        Ok(())
    }

    fn install(&self, parts: &Parts, version: &str) -> anyhow::Result<()> {
        let bundle = parts.bundle(version)?;
        let size = fs::metadata(&bundle)?.len() >> 20;
        let begin = Instant::now();
        let mut installs = self.owner.admin(By::Owner)?;
        check(installs.args(["firmware", "install"]).arg(&bundle))?;
        tell(&format!(
            "a signed bundle of {version}, {size} MiB, was sent and installed in {} s",
            begin.elapsed().as_secs()
        ));
        Ok(())
    }

    /// That a version runs in a slot, and that all is there.
    fn runs(&self, slot: SlotName, version: &str) -> anyhow::Result<Firmware> {
        self.owner.await_box(By::Owner)?;
        let shown: Firmware = self.ask(&["firmware", "show"])?;
        ensure!(
            shown.running == slot && shown.version == version,
            "{shown:?}"
        );
        let pool: Pool = self.ask(&["pool", "show", "tank"])?;
        ensure!(pool.volumes == 1, "{pool:?}");
        tell(&format!(
            "it runs {version} from slot {slot}; identity, pool and volume are there"
        ));
        Ok(shown)
    }

    fn ask<T: DeserializeOwned>(&self, words: &[&str]) -> anyhow::Result<T> {
        let mut asks: Command = self.owner.admin(By::Owner)?;
        let output = asks.args(["--output", "json"]).args(words).output()?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{words:?}: {told}");
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Waits for the kernel to start the machine again. An emulated one does not always come back
    /// from that, so it is switched off and on.
    fn await_restart(&mut self) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            let console = fs::read(self.site.appliance.console())?;
            if console
                .windows(RESTARTS.len())
                .any(|there| there == RESTARTS)
            {
                break;
            }
            ensure!(begin.elapsed() < PATIENCE, "it was not started again");
            sleep(Duration::from_millis(200));
        }
        self.site.appliance.cut_power()?;
        self.site.appliance.power_on()
    }
}
