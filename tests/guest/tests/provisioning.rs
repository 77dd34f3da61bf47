//! A box from a blank disk to its owner, by the factory's programs, with the power cut on the way.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use ashlar_ctl::pki::{Directory, Profile, Validity};
use ashlar_protocol::{Identity, Phase, Role, Serial};
use ashlar_site::{Options, Parts, Site};

const SERIAL: &str = "AX-000123";

/// How often the power is cut while a station is at work.
const CUTS: u32 = 4;

/// From power to an answer.
const PATIENCE: Duration = Duration::from_secs(240);

#[test]
fn a_box_gets_to_its_owner_whatever_happens_to_it() -> anyhow::Result<()> {
    let parts = Parts::from_env()?;
    let mut station = Station::create(&parts)?;
    let flash = |image: &Path, disk: &Path, _: &_| station.flash(image, disk);
    let folder = parts.work.join("provisioning");
    let mut site = Site::flashed(&parts, &folder, &Options::default(), flash)?;
    station.address = format!("127.0.0.1:{}", site.ports.management);
    let shown = station.await_box()?;
    ensure!(shown.phase == Phase::Factory, "{shown:?}");
    let begin = Instant::now();
    station.test()?;
    println!("tested in {} s", begin.elapsed().as_secs());

    provisioned(&station, &mut site)?;
    let owner = Owner {
        station: &station,
        pki: site.pki.folder().to_owned(),
    };
    claimed(&owner, &mut site)?;
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
fn claimed(owner: &Owner<'_>, site: &mut Site) -> anyhow::Result<()> {
    let wrong = owner.station.folder.join("wrong");
    fs::write(&wrong, "0".repeat(25))?;
    let refused = owner.claim(&wrong).output()?;
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        !refused.status.success() && told.contains("not the one of this box"),
        "{told}"
    );
    check(&mut owner.claim(&owner.station.own("label.txt")))?;
    site.appliance.cut_power()?;
    site.appliance.power_on()?;
    let shown = owner.await_box(&owner.of_device())?;
    ensure!(shown.phase == Phase::Claimed, "{shown:?}");
    let again = owner.claim(&owner.station.own("label.txt")).output()?;
    ensure!(!again.status.success(), "it was claimed twice");
    println!("claimed, and nobody else gets in");
    Ok(())
}

/// It gets a certificate of its owner's, and serves by it.
fn enrolled(owner: &Owner<'_>, site: &mut Site) -> anyhow::Result<()> {
    let device = owner.of_device();
    let device: Vec<_> = device.iter().map(String::as_str).collect();
    let request = owner.station.folder.join("box.csr");
    let certificate = owner.station.folder.join("box.pem");
    let mut asks = owner.ctl(&device);
    check(asks.args(["identity", "request", "--out"]).arg(&request))?;
    let mut signs = Command::new(&owner.station.ctl);
    signs.args(["pki", "sign"]).arg(&owner.pki).arg("box");
    signs.args(["--server", "--san", "127.0.0.1", "--request"]);
    check(signs.arg(&request).arg("--out").arg(&certificate))?;

    // Who asks for the device proves nothing: it goes back to that with the power.
    let mut installs = owner.ctl(&device);
    check(installs.args(["identity", "install"]).arg(&certificate))?;
    site.appliance.cut_power()?;
    site.appliance.power_on()?;
    let shown = owner.await_box(&owner.of_device())?;
    ensure!(
        shown.device.as_ref() == Some(&shown.certificate),
        "{shown:?}"
    );

    let mut installs = owner.ctl(&device);
    check(installs.args(["identity", "install"]).arg(&certificate))?;
    let own = owner.await_box(&owner.of_owner())?;
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
    let own = owner.await_box(&owner.of_owner())?;
    ensure!(own.certificate.subject == "CN=box", "{own:?}");
    check(owner.ctl(&device).args(["identity", "show"]))?;
    let ours = owner.of_owner();
    let ours: Vec<_> = ours.iter().map(String::as_str).collect();
    for words in [
        &["pool", "create", "tank", "--disk", "serial-DISK0"][..],
        &["volume", "create", "db", "--pool", "tank", "--size", "1GiB"],
        &["trust", "show"],
        &["system", "health"],
    ] {
        check(owner.ctl(&ours).args(words))?;
    }
    println!("serves by its owner's certificate");
    Ok(())
}

/// Where boxes are made.
struct Station {
    folder: PathBuf,
    ctl: PathBuf,
    programs: PathBuf,
    address: String,
}

impl Station {
    fn create(parts: &Parts) -> anyhow::Result<Station> {
        let folder = parts.work.join("station");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        let maker = Directory::at(folder.join("maker"));
        maker.init("maker", Validity::days(30))?;
        let role = Some(Role::Admin);
        maker.issue("station", &Profile::Client { role }, Validity::days(30))?;
        fs::create_dir(folder.join("boxes"))?;
        let (key, public) = (folder.join("boxes/ledger.key"), folder.join("ledger.pub"));
        let mut makes = Command::new("openssl");
        makes.args([
            "ecparam",
            "-name",
            "prime256v1",
            "-genkey",
            "-noout",
            "-out",
        ]);
        check(makes.arg(&key))?;
        let mut shows = Command::new("openssl");
        shows.args(["pkey", "-pubout", "-in"]).arg(&key);
        check(shows.arg("-out").arg(&public))?;
        Ok(Station {
            folder,
            ctl: parts.programs.join("ashlarctl"),
            programs: Path::new(env!("CARGO_MANIFEST_DIR")).join("../../image/factory"),
            address: String::new(),
        })
    }

    /// What it keeps of the box under a name.
    fn own(&self, name: &str) -> PathBuf {
        self.folder.join("boxes").join(SERIAL).join(name)
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command
            .env("ASHLARCTL", &self.ctl)
            .env("ASHLAR_CERT", self.folder.join("maker/station.pem"))
            .env("ASHLAR_KEY", self.folder.join("maker/station.key"));
        command
    }

    fn of_box<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let boxes = self.folder.join("boxes");
        command.args(["--serial", SERIAL, "--state"]).arg(boxes)
    }

    fn flash(&self, image: &Path, disk: &Path) -> anyhow::Result<()> {
        File::create(disk)?.set_len(fs::metadata(image)?.len())?;
        let mut flash = self.program("flash");
        flash.arg(image).arg(disk).arg("--yes").arg("--authority");
        check(self.of_box(flash.arg(self.folder.join("maker/ca.pem"))))
    }

    fn test(&self) -> anyhow::Result<()> {
        let mut test = self.program("test");
        test.arg(&self.address)
            .args(["--mib", "16", "--disks", "2"]);
        check(self.of_box(&mut test))
    }

    fn provision(&self) -> Command {
        let mut provision = self.program("provision");
        provision.arg(&self.address).arg("--ca");
        provision.arg(self.folder.join("maker"));
        self.of_box(&mut provision);
        provision
    }

    /// One line, whatever was begun again.
    fn check_ledger(&self) -> anyhow::Result<()> {
        let ledger = self.folder.join("boxes/ledger");
        let mut checks = self.program("ledger");
        checks.arg("check").arg(&ledger).arg("--public-key");
        check(checks.arg(self.folder.join("ledger.pub")))?;
        let lines = fs::read_to_string(ledger)?.lines().count();
        ensure!(lines == 1, "the ledger has {lines} lines");
        Ok(())
    }

    /// The box as it is once it answers: to the factory, or to anybody.
    fn await_box(&self) -> anyhow::Result<Identity> {
        let maker = self.folder.join("maker");
        let file = |name: &str| maker.join(name).display().to_string();
        let token = self.own("token").display().to_string();
        let station = [
            "--cert",
            &file("station.pem"),
            "--key",
            &file("station.key"),
        ]
        .map(str::to_owned);
        let station = [&station[..], &["--token".to_owned(), token]].concat();
        let (ca, name) = (file("ca.pem"), serial()?.device_name());
        let anybody = ["--ca", &ca, "--server-name", &name].map(str::to_owned);
        await_either(&self.ctl, &self.address, &[&station, &anybody])
    }
}

/// Whose boxes they are then.
struct Owner<'s> {
    station: &'s Station,
    pki: PathBuf,
}

impl Owner<'_> {
    fn claim(&self, secret: &Path) -> Command {
        let admin = self.pki.join("admin.pem").display().to_string();
        let mut claim = self.ctl(&["--cert", &admin]);
        claim.args(["identity", "claim", "--serial", SERIAL, "--secret"]);
        claim.arg(secret).arg("--factory-ca");
        claim.arg(self.station.folder.join("maker/ca.pem"));
        claim.arg("--authority").arg(self.pki.join("ca.pem"));
        claim
    }

    fn ctl(&self, access: &[&str]) -> Command {
        let mut command = Command::new(&self.station.ctl);
        command.args(["--endpoint", &self.station.address]);
        command.args(access);
        command
    }

    fn admin(&self, trusting: &Path) -> Vec<String> {
        let file = |path: &Path| path.display().to_string();
        let (own, key) = (self.pki.join("admin.pem"), self.pki.join("admin.key"));
        let (own, key, ca) = (file(&own), file(&key), file(trusting));
        ["--cert", &own, "--key", &key, "--ca", &ca]
            .map(str::to_owned)
            .into()
    }

    /// The box by the certificate from its factory.
    fn of_device(&self) -> Vec<String> {
        let mut access = self.admin(&self.station.folder.join("maker/ca.pem"));
        access.push("--server-name".to_owned());
        access.extend(serial().map(|serial| serial.device_name()));
        access
    }

    /// The box by the certificate of its owner's.
    fn of_owner(&self) -> Vec<String> {
        self.admin(&self.pki.join("ca.pem"))
    }

    fn await_box(&self, access: &[String]) -> anyhow::Result<Identity> {
        await_either(&self.station.ctl, &self.station.address, &[access])
    }
}

fn serial() -> anyhow::Result<Serial> {
    Ok(SERIAL.parse()?)
}

/// Asks the box in one of these ways until it answers.
fn await_either(ctl: &Path, address: &str, ways: &[&[String]]) -> anyhow::Result<Identity> {
    let begin = Instant::now();
    loop {
        let mut told = String::new();
        for way in ways {
            let mut show = Command::new(ctl);
            show.args(["--endpoint", address, "--output", "json"]);
            let output = show.args(*way).args(["identity", "show"]).output()?;
            if output.status.success() {
                return Ok(serde_json::from_slice(&output.stdout)?);
            }
            told.push_str(&String::from_utf8_lossy(&output.stderr));
        }
        ensure!(
            begin.elapsed() < PATIENCE,
            "the box does not answer: {told}"
        );
        sleep(Duration::from_millis(500));
    }
}

fn check(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().context("failed to start a program")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?}: {}: {told}",
        output.status
    );
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
