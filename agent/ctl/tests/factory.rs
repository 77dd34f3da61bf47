//! The factory's programs over `ashlarctl`, with a folder in place of a box.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ring::hmac;
use serde_json::{Value, json};

const SERIAL: &str = "AX-000123";
const TOKEN: [u8; 32] = [0x5a; 32];
/// Tools in whose place another stands, which counts calls and ends the station at one.
const TOOLS: [&str; 4] = ["ashlarctl", "mv", "qrencode", "sync"];

fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.join("../..").canonicalize().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A station, and a box that was flashed by it.
struct Station {
    folder: tempfile::TempDir,
}

impl Station {
    fn new() -> Self {
        let station = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        for folder in ["bin", "box", "boxes", "boxes/AX-000123"] {
            fs::create_dir(station.path(folder)).unwrap();
        }
        for tool in TOOLS {
            let stand_in = root().join("agent/ctl/tests/factory/stand-in");
            symlink(stand_in, station.path("bin").join(tool)).unwrap();
        }
        station.write("boxes/AX-000123/token", &hex(&TOKEN));
        station.write("box/calls", "0");
        station.openssl("ecparam -name prime256v1 -genkey -noout -out boxes/ledger.key");
        station.openssl("pkey -in boxes/ledger.key -pubout -out ledger.pub");
        let mut init = Command::new(env!("CARGO_BIN_EXE_ashlarctl"));
        let init = init
            .args(["pki", "init", "ca"])
            .current_dir(&station.folder);
        assert!(init.output().unwrap().status.success());
        station.make_box();
        station
    }

    /// Gives the box a key, as on its first start.
    fn make_box(&self) {
        self.openssl("ecparam -name prime256v1 -genkey -noout -out box/key");
        let subject = format!("-subj /CN={SERIAL}/serialNumber={SERIAL} -key box/key");
        self.openssl(&format!("req -new {subject} -out box/request.csr"));
        self.openssl("pkey -in box/key -pubout -outform DER -out box/spki");
        self.say_identity("factory", SERIAL, &TOKEN);
    }

    fn say_identity(&self, phase: &str, serial: &str, token: &[u8]) {
        let key = hmac::Key::new(hmac::HMAC_SHA256, token);
        let spki = fs::read(self.path("box/spki")).unwrap();
        let proof = hex(hmac::sign(&key, &spki).as_ref());
        let identity = json!({"phase": phase, "serial": serial, "proof": proof});
        self.write("box/identity.json", &identity.to_string());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn openssl(&self, arguments: &str) {
        let mut openssl = Command::new("openssl");
        openssl.args(arguments.split(' ')).current_dir(&self.folder);
        let output = openssl.output().unwrap();
        assert!(output.status.success(), "{arguments}: {output:?}");
    }

    fn command(&self, words: &str) -> Command {
        let mut words = words.split(' ');
        let program = root().join("image/factory").join(words.next().unwrap());
        let mut command = Command::new(program);
        let real = std::env::var("PATH").unwrap();
        command
            .args(words)
            .current_dir(&self.folder)
            .env("PATH", format!("{}:{real}", self.path("bin").display()))
            .env("REAL_PATH", real)
            .env("REAL_ASHLARCTL", env!("CARGO_BIN_EXE_ashlarctl"))
            .env("STAND_IN", self.path("box"))
            .env("PAUSE", "0")
            .env("ASHLAR_CERT", "station.pem")
            .env("ASHLAR_CA", "another.pem")
            .process_group(0);
        command
    }

    fn provision(&self, more: &str) -> Command {
        self.command(&format!(
            "provision box --serial {SERIAL} --state boxes --ca ca{more}"
        ))
    }

    fn test(&self) -> Output {
        let words = format!("test box --serial {SERIAL} --state boxes --mib 1");
        self.command(&words).output().unwrap()
    }

    /// What a program that was refused says.
    fn refused(&self, command: &mut Command) -> String {
        let output = command.output().unwrap();
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// The box has its identity, the ledger one line, the label what belongs to both.
    fn check_sealed(&self) {
        let own = |name: &str| self.read(&format!("boxes/{SERIAL}/{name}"));
        assert_eq!(self.read("box/sealed.pem"), own("idevid.pem"));
        assert_eq!(self.read("box/claim"), own("claim"));
        let ledger = self.read("boxes/ledger");
        let fields: Vec<_> = ledger.split(' ').collect();
        assert_eq!((ledger.lines().count(), fields.len()), (1, 7), "{ledger}");
        assert_eq!(fields[2], SERIAL);
        let label = format!(
            "serial {SERIAL}\nsha256 {}\nclaim  {}",
            fields[4],
            own("claim")
        );
        assert_eq!(own("label.txt"), label);
        let mut check = self.command("ledger check boxes/ledger --public-key ledger.pub");
        assert!(check.output().unwrap().status.success());
        for file in ["token", "claim", "label.txt", "label.png", "label.utf8"] {
            let path = self.path("boxes").join(SERIAL).join(file);
            let mode = fs::metadata(path).unwrap().permissions().mode();
            // The token's mode is this test's.
            assert!(mode & 0o077 == 0 || file == "token", "{file}: {mode:o}");
        }
    }

    /// Neither the token nor the claim secret was an argument, or told.
    fn check_secrets(&self, output: &Output) {
        let told = [&output.stdout[..], &output.stderr].concat();
        let told = String::from_utf8(told).unwrap() + &self.read("box/said");
        for secret in [&hex(&TOKEN), self.read("box/claim").trim()] {
            assert!(!secret.is_empty() && !told.contains(secret), "{told}");
        }
    }
}

#[test]
fn a_box_is_provisioned_once_however_often_that_is_asked() {
    let station = Station::new();
    let output = station.provision(" --untested").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    station.check_sealed();
    station.check_secrets(&output);
    let identity = station.read("box/sealed.pem");
    let again = station.provision("").output().unwrap();
    assert!(again.status.success(), "{again:?}");
    station.check_sealed();
    assert_eq!(station.read("box/sealed.pem"), identity);
}

#[test]
fn a_station_that_dies_at_any_call_goes_on() {
    for call in 1.. {
        let station = Station::new();
        let mut first = station.provision(" --untested");
        let first = first.env("KILL_AT", call.to_string()).output().unwrap();
        if first.status.success() {
            assert!(call > 20, "it ended before call {call}");
            return station.check_sealed();
        }
        assert_eq!(first.status.code(), None, "call {call}: {first:?}");
        let again = station.provision(" --untested").output().unwrap();
        assert!(again.status.success(), "call {call}: {again:?}");
        station.check_sealed();
    }
}

#[test]
fn a_box_that_is_not_what_it_says_gets_no_identity() {
    type Change = fn(&Station);
    let table: [(Change, &str); 6] = [
        (|s| s.say_identity("factory", SERIAL, &[0; 32]), "proof"),
        (|s| s.say_identity("claimed", SERIAL, &TOKEN), "claimed"),
        (|s| s.say_identity("factory", "AX-2", &TOKEN), "AX-2"),
        (
            |s| drop(fs::remove_file(s.path("boxes/AX-000123/token"))),
            "not flashed here",
        ),
        (
            |s| drop(fs::remove_file(s.path("boxes/ledger.key"))),
            "no key for the ledger",
        ),
        // Somebody who answers for the box, with a key of his own.
        (
            |s| {
                let identity = s.read("box/identity.json");
                s.make_box();
                s.write("box/identity.json", &identity);
            },
            "proof",
        ),
    ];
    for (change, complaint) in table {
        let station = Station::new();
        change(&station);
        let told = station.refused(&mut station.provision(" --untested"));
        assert!(told.contains(complaint), "{complaint}: {told}");
        assert!(
            !station.path("boxes/AX-000123/idevid.pem").exists(),
            "{told}"
        );
        assert!(!station.path("boxes/ledger").exists(), "{told}");
    }
}

#[test]
fn a_box_that_has_made_another_key_is_refused() {
    let station = Station::new();
    station.write("box/broken", "");
    let told = station.refused(&mut station.provision(" --untested"));
    assert!(told.contains("does not want"), "{told}");
    fs::remove_file(station.path("box/broken")).unwrap();
    station.make_box();
    let told = station.refused(&mut station.provision(" --untested"));
    assert!(told.contains("another key"), "{told}");
    // Even if the station has forgotten the first.
    fs::remove_file(station.path("boxes/AX-000123/idevid.pem")).unwrap();
    let told = station.refused(&mut station.provision(" --untested"));
    assert!(told.contains("in boxes/ledger with another key"), "{told}");
    assert!(!station.path("box/claim").exists());
}

#[test]
fn another_command_signs() {
    let station = Station::new();
    let names = "subjectAltName=DNS:ax-000123.device.ashlar.internal";
    station.write("right", &format!("{names}\nextendedKeyUsage=serverAuth\n"));
    station.write("wrong", "subjectAltName=DNS:ax-2.device.ashlar.internal\n");
    let sign = "openssl x509 -req -CA ca/ca.pem -CAkey ca/ca.key -days 9 2>/dev/null";
    station.write("sign", &format!("{sign} -extfile \"$1\" -in \"$3\"\n"));
    for failing in ["false", "true", "sh sign wrong", "cat ca/ca.pem; :"] {
        let mut provision = station.provision(" --untested");
        station.refused(provision.env("SIGN", failing));
        assert!(!station.path("boxes/ledger").exists(), "{failing}");
    }
    let mut provision = station.provision(" --untested");
    let output = provision.env("SIGN", "sh sign right").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    station.check_sealed();
}

fn disks(station: &Station, names: &[&str]) {
    let disk = |name: &&str| json!({"id": name, "size": 4 << 20, "in_use": false});
    let mut all: Vec<_> = names.iter().map(disk).collect();
    all.push(json!({"id": "system", "size": 4 << 20, "in_use": true}));
    station.write("box/disks.json", &Value::from(all).to_string());
}

#[test]
fn a_box_is_provisioned_that_has_passed_its_test() {
    let station = Station::new();
    let refused = |complaint: &str| {
        let told = station.refused(&mut station.provision(""));
        assert!(told.contains(complaint), "{told}");
    };
    let result =
        || serde_json::from_str::<Value>(&station.read("boxes/AX-000123/test.json")).unwrap();
    refused("was not tested");

    disks(&station, &[]);
    assert!(!station.test().status.success());
    disks(&station, &["one", "two", "three"]);
    station.write("box/bad", "two\n");
    assert!(!station.test().status.success());
    let passed: Vec<_> = result()["disks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|disk| disk["passed"].clone())
        .collect();
    assert_eq!(passed, [true, false, true]);
    refused("not passed");

    // What a station leaves that dies in the middle.
    station.write("box/pool", "two\n");
    station.write("box/volume", "");
    fs::remove_file(station.path("box/bad")).unwrap();
    let output = station.test();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(result()["passed"], true);
    for left in ["box/pool", "box/volume", "boxes/AX-000123/work"] {
        assert!(!station.path(left).exists(), "{left}");
    }
    station.make_box();
    refused("not passed");
    assert!(station.test().status.success());
    assert!(station.provision("").output().unwrap().status.success());
    station.check_sealed();
}

#[test]
fn nothing_is_kept_of_a_box_that_was_not_flashed() {
    let station = Station::new();
    for program in ["test", "provision"] {
        let more = if program == "test" { "" } else { " --ca ca" };
        let words = format!("{program} box --serial AX-9 --state boxes{more}");
        let told = station.refused(&mut station.command(&words));
        assert!(told.contains("not flashed here"), "{told}");
    }
    assert!(!station.path("boxes/AX-9").exists());
}

#[test]
fn two_programs_do_not_work_on_one_box() {
    let station = Station::new();
    let lock = fs::File::create(station.path("boxes/AX-000123/lock")).unwrap();
    lock.lock().unwrap();
    let told = station.refused(&mut station.provision(" --untested"));
    assert!(told.contains("at work"), "{told}");
}
