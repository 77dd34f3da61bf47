//! Support bundles: what is in one, and what is in none.

mod secrets;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ashlar_inprocess::Appliance;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrets::{assert_absent, assert_no_key, encoded, everything, holds};
use serde_json::Value;

/// An appliance, and a shell in its folder.
struct Desk(Appliance);

impl Desk {
    /// With a program that stands for journalctl: it says how it was called.
    async fn open() -> Desk {
        let appliance = Appliance::start().await;
        let program = appliance.dir.path().join("journalctl");
        let script = "#!/bin/sh\nprintf '{\"MESSAGE\":\"asked %s\"}\\n' \"$*\"\n";
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Desk(appliance)
    }

    fn folder(&self) -> &Path {
        self.0.dir.path()
    }

    fn ctl(&self, role: &str, line: &str) -> Output {
        let own = self.0.pki.paths(role);
        Command::new(env!("CARGO_BIN_EXE_ashlarctl"))
            .env("ASHLAR_ENDPOINT", self.0.address.to_string())
            .env("ASHLAR_CERT", own.certificate)
            .env("ASHLAR_KEY", own.key)
            .env("ASHLAR_CA", self.0.pki.paths("ca").certificate)
            .current_dir(self.folder())
            .args(line.split(' '))
            .output()
            .unwrap()
    }

    fn done(&self, line: &str) -> Vec<u8> {
        let output = self.ctl("admin", line);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {told}");
        output.stdout
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_slice(&self.done(&format!("{line} -o json"))).unwrap()
    }

    fn refused(&self, role: &str, line: &str) -> String {
        let output = self.ctl(role, line);
        assert!(!output.status.success(), "{line}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// A line of shell in the folder.
    fn shell(&self, line: &str) {
        let output = Command::new("sh")
            .args(["-euc", line])
            .current_dir(self.folder())
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
    }

    /// A key and a certificate of its own, called so.
    fn certificate(&self, name: &str, options: &str) {
        self.shell(&format!(
            "openssl req -x509 -nodes -days 1 -subj /CN={name} -keyout {name}.key -out {name}.pem {options}"
        ));
    }

    /// Has a bundle made for somebody, who then opens it.
    fn opened(&self, name: &str) -> PathBuf {
        self.done(&format!("support bundle {name}.cms --to {name}.pem"));
        self.shell(&format!(
            "openssl cms -decrypt -binary -inform DER -in {name}.cms -recip {name}.pem \
             -inkey {name}.key -out {name}.tar.gz
             mkdir {name}; tar xzf {name}.tar.gz -C {name}"
        ));
        self.folder().join(name).join("ashlar-support")
    }
}

fn value(path: PathBuf) -> Value {
    let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_has_what_helps_and_only_its_recipient_opens_it() {
    let desk = Desk::open().await;
    let pool = desk.0.pool().await;
    desk.done("volume create db1 --pool pool --size 1GiB");
    desk.certificate("rsa", "-newkey rsa:2048");
    desk.certificate("p256", "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1");
    desk.certificate(
        "p384",
        "-newkey ec -pkeyopt ec_paramgen_curve:secp384r1 -addext keyUsage=keyAgreement",
    );
    for name in ["rsa", "p256", "p384"] {
        let bundle = desk.opened(name);
        let contents = value(bundle.join("contents.json"));
        for part in contents["parts"].as_array().unwrap() {
            // A box of files has neither trust nor an updater; all else is there, or empty.
            let lacks = part["lacks"].as_str().is_some();
            let name = part["name"].as_str().unwrap();
            assert_eq!(lacks, ["trust", "firmware"].contains(&name), "{part}");
        }
        assert_eq!(value(bundle.join("system.json"))["name"], "box1");
        assert_eq!(value(bundle.join("pools.jsonl"))["id"], pool.to_string());
        assert_eq!(value(bundle.join("volumes.jsonl"))["name"], "db1");
        let kernel = value(bundle.join(format!("kernel/pool-{pool}.json")));
        assert_eq!(kernel["id"], pool.to_string());
        let audit = fs::read_to_string(bundle.join("audit.jsonl")).unwrap();
        assert!(audit.contains("volume-create"), "{audit}");
        let units = fs::read_to_string(bundle.join("journal/units.jsonl")).unwrap();
        assert!(units.contains("--unit=ashlar-*"), "{units}");
    }

    // Nobody else's key opens it, nor is one that was changed taken for whole.
    desk.certificate("other", "-newkey rsa:2048");
    desk.shell(
        "! openssl cms -decrypt -inform DER -in rsa.cms -recip other.pem -inkey other.key -out /dev/null",
    );
    let mut changed = fs::read(desk.folder().join("rsa.cms")).unwrap();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    fs::write(desk.folder().join("changed.cms"), changed).unwrap();
    desk.shell("! openssl cms -decrypt -inform DER -in changed.cms -recip rsa.pem -inkey rsa.key -out /dev/null");

    let audit = String::from_utf8(desk.done("audit export")).unwrap();
    assert_eq!(audit.matches("support-bundle").count(), 3, "{audit}");
    desk.0.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_a_bundle() {
    let desk = Desk::open().await;
    desk.0.pool().await;
    desk.done("volume create db1 --pool pool --size 1GiB");
    let host = desk.json(
        "host create web --iqn iqn.2026-11.org.example:web --nqn nqn.2014-08.org.example:web \
         --mutual",
    );
    desk.done("volume attach db1 web --transport iscsi");
    desk.certificate("rsa", "-newkey rsa:2048");
    let bundle = desk.opened("rsa");
    let all = everything(&bundle);
    // The bundle is of this box, and what is looked for can be found.
    assert!(holds(&all, b"\"name\":\"web"));
    for plain in [&b"some twelve bytes"[..], b"\x00\x01\xfe\xff_and_others"] {
        for form in encoded(plain) {
            let around = [b"...", &form[..], b"..."].concat();
            let found = std::panic::catch_unwind(|| assert_absent(&around, "it", plain));
            assert!(found.is_err());
        }
    }

    let mut secrets = Vec::new();
    collect(&host["secrets"], &mut secrets);
    assert!(secrets.len() >= 3, "{host}");
    for secret in &secrets {
        assert_absent(&all, "a host's secret", secret.as_bytes());
        // DH-HMAC-CHAP's have the key itself in base64.
        if let Some(key) = secret
            .strip_prefix("DHHC-1:")
            .and_then(|rest| rest.split(':').nth(1))
        {
            let key = STANDARD.decode(key).unwrap();
            assert_absent(&all, "a host's key", &key[..key.len() - 4]);
        }
    }
    for name in ["server", "admin", "operator", "reader"] {
        assert_no_key(&all, &desk.0.pki.paths(name).key);
    }
    desk.0.stop().await;
}

/// Every text below a value that may be a secret.
fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) if text.len() >= 12 => found.push(text.clone()),
        Value::Object(map) => {
            for (key, inner) in map {
                if key != "user" && key != "username" {
                    collect(inner, found);
                }
            }
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_encrypted_to_is_refused_by_name() {
    let desk = Desk::open().await;
    desk.certificate("ed", "-newkey ed25519");
    desk.certificate("small", "-newkey rsa:1024");
    desk.certificate(
        "signer",
        "-newkey rsa:2048 -addext keyUsage=digitalSignature",
    );
    desk.certificate("curve", "-newkey ec -pkeyopt ec_paramgen_curve:secp521r1");
    desk.certificate("good", "-newkey rsa:2048");
    desk.shell(
        "cat good.pem signer.pem >two.pem; echo hello >text.pem
         printf -- '-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n' >broken.pem
         openssl req -new -key good.key -subj /CN=x -out request.pem",
    );
    // A point that is on no curve, in a certificate that is fine otherwise.
    desk.certificate(
        "point",
        "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -outform DER",
    );
    let path = desk.folder().join("point.pem");
    let mut der = fs::read(&path).unwrap();
    let at = der
        .windows(4)
        .position(|window| window == b"\x03\x42\x00\x04");
    der[at.unwrap() + 40] ^= 1;
    let text = STANDARD.encode(der);
    let text = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    fs::write(path, text).unwrap();
    for (name, told) in [
        ("point", "no point of its curve"),
        (
            "ed",
            "nothing can be encrypted to a key of the kind 1.3.101.112",
        ),
        ("small", "its RSA key has 1024 bits"),
        ("signer", "without keyEncipherment"),
        ("curve", "neither P-256 nor P-384"),
        ("two", "there are 2, and it is for one"),
        ("broken", "no X.509"),
        ("request", "certificate"),
        ("text", "is not PEM"),
    ] {
        let line = format!("support bundle out.cms --to {name}.pem");
        let error = desk.refused("admin", &line);
        assert!(error.contains(told), "{name}: {error}");
        assert!(!desk.folder().join("out.cms").exists(), "{name}");
    }
    let error = desk.refused("operator", "support bundle out.cms --to good.pem");
    assert!(error.contains("forbidden"), "{error}");
    // Why the journal cannot be read is told.
    let script = "#!/bin/sh\necho no such luck >&2; exit 3\n";
    fs::write(desk.folder().join("journalctl"), script).unwrap();
    desk.certificate("other", "-newkey rsa:2048");
    let contents = fs::read_to_string(desk.opened("other").join("contents.json")).unwrap();
    assert!(contents.contains("no such luck"), "{contents}");
    // Where there is no journal, the rest is told all the same, and that it lacks.
    fs::remove_file(desk.folder().join("journalctl")).unwrap();
    let contents = value(desk.opened("good").join("contents.json"));
    let parts = contents["parts"].as_array().unwrap();
    let journal = parts.iter().find(|part| part["name"] == "journal/units");
    let lacks = journal.unwrap()["lacks"].as_str().unwrap();
    assert!(lacks.contains("No such file"), "{lacks}");
    desk.0.stop().await;
}
