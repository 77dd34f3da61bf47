//! A box from a blank disk to its owner, by the factory's programs, with the power cut on the way.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use ashlar_protocol::Phase;
use ashlar_site::factory::{By, Owner, Station, check};
use ashlar_site::{Options, Parts, Site};

/// How often the power is cut while a station is at work.
const CUTS: u32 = 4;

/// From an answer to a certificate that is kept.
const PATIENCE: Duration = Duration::from_secs(240);

#[test]
fn a_box_gets_to_its_owner_whatever_happens_to_it() -> anyhow::Result<()> {
    let parts = Parts::from_env()?;
    let mut station = Station::create(&parts, &parts.work.join("station"))?;
    let flash = |image: &Path, disk: &Path, _: &_| station.flash(image, disk);
    let folder = parts.work.join("provisioning");
    let mut site = Site::flashed(&parts, &folder, &Options::default(), flash)?;
    station.find_at(site.ports.management);
    let shown = station.await_box()?;
    ensure!(shown.phase == Phase::Factory, "{shown:?}");
    let begin = Instant::now();
    station.test()?;
    println!("tested in {} s", begin.elapsed().as_secs());

    provisioned(&station, &mut site)?;
    let owner = Owner::of(&station, &site.pki);
    claimed(&station, &owner, &mut site)?;
    enrolled(&owner, &mut site)
}

/// The station is at it again and again while the power is cut, until nobody cuts it any more.
fn provisioned(station: &Station, site: &mut Site) -> anyhow::Result<()> {
    let before = station.await_box()?.proof;
    let mut random = Random::new();
    println!("the cuts are those of {}", random.0);
    for cut in 1..=CUTS {
        let mut working = station.provision().spawn()?;
        let after = Duration::from_millis(random.below(2500));
        sleep(after);
        site.appliance.cut_power()?;
        let ended = working.wait()?;
        site.appliance.power_on()?;
        let shown = station.await_box()?;
        println!(
            "cut {cut} after {after:?}: {ended}, and it is {:?}",
            shown.phase
        );
        match shown.phase {
            Phase::Factory => ensure!(shown.proof == before, "it has another key"),
            Phase::Unclaimed => station.check_ledger()?,
            other => bail!("it is {other:?}"),
        }
    }
    for _again in 0..2 {
        check(&mut station.provision())?;
        station.check_ledger()?;
    }
    println!("sealed, with one key and one line in the ledger, after {CUTS} cuts");
    Ok(())
}

/// The owner takes it with the secret from its label. What was answered outlives a power cut.
fn claimed(station: &Station, owner: &Owner<'_>, site: &mut Site) -> anyhow::Result<()> {
    let wrong = station.own("wrong");
    fs::write(&wrong, "0".repeat(25))?;
    let refused = owner.claim(&wrong).output()?;
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        !refused.status.success() && told.contains("not the one of this box"),
        "{told}"
    );
    check(&mut owner.claim(&station.own("label.txt")))?;
    site.appliance.cut_power()?;
    site.appliance.power_on()?;
    let shown = owner.await_box(By::Factory)?;
    ensure!(shown.phase == Phase::Claimed, "{shown:?}");
    let again = owner.claim(&station.own("label.txt")).output()?;
    ensure!(!again.status.success(), "it was claimed twice");
    println!("claimed, and nobody else gets in");
    Ok(())
}

/// It gets a certificate of its owner's, and serves by it.
fn enrolled(owner: &Owner<'_>, site: &mut Site) -> anyhow::Result<()> {
    let certificate = owner.sign()?;

    // Who asks for the device proves nothing: it goes back to that with the power.
    let mut installs = owner.admin(By::Factory)?;
    check(installs.args(["identity", "install"]).arg(&certificate))?;
    site.appliance.cut_power()?;
    site.appliance.power_on()?;
    let shown = owner.await_box(By::Factory)?;
    ensure!(
        shown.device.as_ref() == Some(&shown.certificate),
        "{shown:?}"
    );

    let mut installs = owner.admin(By::Factory)?;
    check(installs.args(["identity", "install"]).arg(&certificate))?;
    let own = owner.await_box(By::Owner)?;
    ensure!(own.certificate.subject == "CN=box", "{own:?}");
    // It is kept behind the client's back: the request's key goes last.
    let begin = Instant::now();
    let waits = "test -e /var/lib/ashlar/identity/request.key";
    while site.appliance.run(waits)?.status == 0 {
        ensure!(begin.elapsed() < PATIENCE, "the certificate is not kept");
        sleep(Duration::from_millis(200));
    }
    site.appliance.cut_power()?;
    site.appliance.power_on()?;
    let own = owner.await_box(By::Owner)?;
    ensure!(own.certificate.subject == "CN=box", "{own:?}");
    check(owner.admin(By::Factory)?.args(["identity", "show"]))?;
    for words in [
        &["pool", "create", "tank", "--disk", "serial-DISK0"][..],
        &["volume", "create", "db", "--pool", "tank", "--size", "1GiB"],
        &["trust", "show"],
        &["system", "health"],
    ] {
        check(owner.admin(By::Owner)?.args(words))?;
    }
    println!("serves by its owner's certificate");
    helped(owner)
}

/// Those who help it see what is in its journal and its kernel, and not what is on its label.
fn helped(owner: &Owner<'_>) -> anyhow::Result<()> {
    let opened = owner.support_bundle()?;
    let read = |name: &str| fs::read_to_string(opened.join(name)).with_context(|| name.to_owned());
    for (name, told) in [
        ("contents.json", "\"statistics/volumes\""),
        ("journal/units.jsonl", "ashlar-targetd"),
        ("journal/kernel.jsonl", "Linux version"),
        ("kernel/targetd.json", "\"features\""),
        ("firmware.json", "\"running\""),
        ("events.jsonl", "system.identity-claim-done"),
        ("volumes.jsonl", "\"db\""),
    ] {
        ensure!(read(name)?.contains(told), "{name} is without {told}");
    }
    ensure!(
        !read("contents.json")?.contains("\"lacks\""),
        "{}",
        read("contents.json")?
    );
    let label = fs::read_to_string(owner.label())?;
    let label = label
        .split_whitespace()
        .last()
        .context("nothing is on the label")?;
    let mut search = Command::new("grep");
    search.args(["-rqiF", "-e", label, "-e", &label.replace('-', "")]);
    ensure!(
        search.arg(&opened).status()?.code() == Some(1),
        "its claim secret is told"
    );
    println!("its support bundle is opened by those whom it is for");
    Ok(())
}

/// Numbers that differ from run to run; what came of them is printed.
struct Random(u64);

impl Random {
    fn new() -> Random {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Random(now.unwrap_or_default().as_nanos() as u64 | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
