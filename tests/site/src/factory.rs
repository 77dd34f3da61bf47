//! Where boxes are made, and whose they are then: a station with the factory's programs, and an
//! owner with `ashlarctl`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ashlar_ctl::pki::{Directory, Profile, Validity};
use ashlar_protocol::{Identity, Role, Serial};

use crate::{Parts, Pki};

const SERIAL: &str = "AX-000123";

/// From power to an answer.
const PATIENCE: Duration = Duration::from_secs(240);

/// Where a box is made.
pub struct Station {
    folder: PathBuf,
    ctl: PathBuf,
    programs: PathBuf,
    address: String,
}

impl Station {
    /// A new one in `folder`, with an authority of its own, throwing away what was there.
    ///
    /// # Errors
    /// When a file cannot be made; below, also when a program of the factory's or `ashlarctl`
    /// fails, or the box does not answer.
    pub fn create(parts: &Parts, folder: &Path) -> anyhow::Result<Station> {
        let folder = folder.to_owned();
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

    /// Has it find the box at a port of the host's.
    pub fn find_at(&mut self, port: u16) {
        self.address = format!("127.0.0.1:{port}");
    }

    /// What it keeps of the box under a name.
    pub fn own(&self, name: &str) -> PathBuf {
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

    /// Writes the image and a seed to what becomes the box's disk.
    pub fn flash(&self, image: &Path, disk: &Path) -> anyhow::Result<()> {
        File::create(disk)?.set_len(fs::metadata(image)?.len())?;
        let mut flash = self.program("flash");
        flash.arg(image).arg(disk).arg("--yes").arg("--authority");
        check(self.of_box(flash.arg(self.folder.join("maker/ca.pem"))))
    }

    /// Has the box's disks and network tested.
    pub fn test(&self) -> anyhow::Result<()> {
        let mut test = self.program("test");
        test.arg(&self.address)
            .args(["--mib", "16", "--disks", "2"]);
        check(self.of_box(&mut test))
    }

    /// What gives the box its identity, and may be run again whatever became of it.
    pub fn provision(&self) -> Command {
        let mut provision = self.program("provision");
        provision.arg(&self.address).arg("--ca");
        provision.arg(self.folder.join("maker"));
        self.of_box(&mut provision);
        provision
    }

    /// One line, whatever was begun again.
    pub fn check_ledger(&self) -> anyhow::Result<()> {
        let ledger = self.folder.join("boxes/ledger");
        let mut checks = self.program("ledger");
        checks.arg("check").arg(&ledger).arg("--public-key");
        check(checks.arg(self.folder.join("ledger.pub")))?;
        let lines = fs::read_to_string(ledger)?.lines().count();
        ensure!(lines == 1, "the ledger has {lines} lines");
        Ok(())
    }

    /// The box as it is once it answers: to the factory, or to anybody.
    pub fn await_box(&self) -> anyhow::Result<Identity> {
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

/// Whose box it is then.
pub struct Owner<'s> {
    station: &'s Station,
    pki: PathBuf,
}

/// Which of its certificates a box is asked by.
#[derive(Clone, Copy, Debug)]
pub enum By {
    /// The one from its factory.
    Factory,
    /// The one of its owner's.
    Owner,
}

impl Owner<'_> {
    /// Who has these certificates.
    pub fn of<'s>(station: &'s Station, pki: &Pki) -> Owner<'s> {
        Owner {
            station,
            pki: pki.folder().to_owned(),
        }
    }

    /// What takes the box, by the secret in a file.
    pub fn claim(&self, secret: &Path) -> Command {
        let admin = self.pki.join("admin.pem").display().to_string();
        let mut claim = self.ctl(&["--cert", &admin]);
        claim.args(["identity", "claim", "--serial", SERIAL, "--secret"]);
        claim.arg(secret).arg("--factory-ca");
        claim.arg(self.station.folder.join("maker/ca.pem"));
        claim.arg("--authority").arg(self.pki.join("ca.pem"));
        claim
    }

    /// Has the box ask for a certificate of its owner's, and answers it.
    pub fn sign(&self) -> anyhow::Result<PathBuf> {
        let request = self.station.folder.join("box.csr");
        let certificate = self.station.folder.join("box.pem");
        let mut asks = self.admin(By::Factory)?;
        check(asks.args(["identity", "request", "--out"]).arg(&request))?;
        let mut signs = Command::new(&self.station.ctl);
        signs.args(["pki", "sign"]).arg(&self.pki).arg("box");
        signs.args(["--server", "--san", "127.0.0.1", "--request"]);
        check(signs.arg(&request).arg("--out").arg(&certificate))?;
        Ok(certificate)
    }

    /// What is on the box's label.
    pub fn label(&self) -> PathBuf {
        self.station.own("label.txt")
    }

    /// Has the box make a support bundle, and opens it as those do whom it is for.
    pub fn support_bundle(&self) -> anyhow::Result<PathBuf> {
        let folder = self.station.folder.join("support");
        fs::create_dir(&folder)?;
        let shell = |line: &str| {
            let mut shell = Command::new("sh");
            check(shell.args(["-ec", line]).current_dir(&folder))
        };
        shell(
            "openssl req -x509 -newkey rsa:3072 -nodes -days 1 -subj /CN=support \
             -keyout key.pem -out support.pem",
        )?;
        let mut asks = self.admin(By::Owner)?;
        asks.args(["support", "bundle"]).arg(folder.join("box.cms"));
        check(asks.arg("--to").arg(folder.join("support.pem")))?;
        shell(
            "openssl cms -decrypt -binary -inform DER -in box.cms -recip support.pem -inkey key.pem \
             -out box.tar.gz && tar xzf box.tar.gz",
        )?;
        Ok(folder.join("ashlar-support"))
    }

    fn ctl(&self, access: &[&str]) -> Command {
        let mut command = Command::new(&self.station.ctl);
        command.args(["--endpoint", &self.station.address]);
        command.args(access);
        command
    }

    /// `ashlarctl` for an admin.
    pub fn admin(&self, by: By) -> anyhow::Result<Command> {
        let access = self.access(by)?;
        Ok(self.ctl(&access.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    /// The box as it is once it answers.
    pub fn await_box(&self, by: By) -> anyhow::Result<Identity> {
        let station = self.station;
        await_either(&station.ctl, &station.address, &[&self.access(by)?])
    }

    fn access(&self, by: By) -> anyhow::Result<Vec<String>> {
        let authority = match by {
            By::Factory => self.station.folder.join("maker/ca.pem"),
            By::Owner => self.pki.join("ca.pem"),
        };
        let files = [
            ("--cert", self.pki.join("admin.pem")),
            ("--key", self.pki.join("admin.key")),
            ("--ca", authority),
        ];
        let files = files.map(|(option, file)| [option.to_owned(), file.display().to_string()]);
        let mut access = files.concat();
        if let By::Factory = by {
            access.extend(["--server-name".to_owned(), serial()?.device_name()]);
        }
        Ok(access)
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

/// Runs a program that must succeed.
///
/// # Errors
/// When it does not, with what it said.
pub fn check(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().context("failed to start a program")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?}: {}: {told}",
        output.status
    );
    Ok(())
}
