//! What is on the disks, and what a box makes of it.

use std::fs;
use std::path::Path;

use ashlar_protocol::{Pem, Phase, RequestSpec, SealSpec};
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams};
use rcgen::{DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use time::OffsetDateTime;

use super::factory::Device;
use super::*;
use crate::config::IdentityFolders;

const TOKEN: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// The two folders of a box, and its maker.
struct Rig {
    dir: TempDir,
    maker: Issuer<'static, KeyPair>,
    authority: String,
}

impl Rig {
    fn new() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["factory", "folder"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "maker");
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap().pem();
        let maker = Issuer::new(params, key);
        Rig {
            dir,
            maker,
            authority,
        }
    }

    fn seeded() -> Rig {
        let rig = Rig::new();
        let authority = &rig.authority;
        let seed = format!(
            "serial = \"AX-1\"\ntoken = \"{TOKEN}\"\nauthority = \"\"\"\n{authority}\"\"\"\n"
        );
        rig.write("factory/seed.toml", &seed);
        rig
    }

    /// One that is sealed.
    async fn sealed() -> (Rig, SealSpec) {
        let rig = Rig::seeded();
        let identity = rig.open().unwrap();
        let caller = rig.station();
        let asked = identity.request(RequestSpec::default(), Arc::clone(&caller));
        let asked = asked.await.unwrap();
        let asked = CertificateSigningRequestParams::from_pem(asked.request.as_str()).unwrap();
        let Device::New(new) = &*identity.kept().unwrap().state().device else {
            panic!("it is sealed already");
        };
        let names = vec![key::dns("ax-1.device.ashlar.internal").unwrap()];
        let params = new.subject(names).params();
        let signed = params.signed_by(&asked.public_key, &rig.maker).unwrap();
        let spec = SealSpec {
            certificates: Pem::try_from(signed.pem()).unwrap(),
            claim: [7; 32].into(),
        };
        identity.seal(spec.clone(), caller).await.unwrap();
        (rig, spec)
    }

    /// What a client of the maker's shows.
    fn station(&self) -> Shown {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.maker).unwrap();
        [signed.der().clone()].into()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn open(&self) -> Result<Identity, IdentityError> {
        Identity::open(&Config {
            identity: IdentityFolders {
                factory: self.path("factory"),
                folder: self.path("folder"),
            },
            ..Config::default()
        })
    }

    fn refused(&self) -> String {
        chain(&self.open().err().unwrap())
    }
}

fn phase(identity: &Identity) -> Phase {
    identity.show().unwrap().phase
}

#[test]
fn a_box_without_a_seed_is_nobody() {
    assert!(Rig::new().refused().contains("there is no seed in"));
}

#[test]
fn a_damaged_seed_is_named_and_its_token_is_not() {
    let rig = Rig::seeded();
    let seed = fs::read_to_string(rig.path("factory/seed.toml")).unwrap();
    for damaged in [
        "",
        &seed.replace("AX-1", "-"),
        &seed.replace("token", "tokan"),
        &seed.replace(TOKEN, &TOKEN[1..]),
        &seed.replace("CERTIFICATE", "CERTIFICAT"),
    ] {
        rig.write("factory/seed.toml", damaged);
        let told = rig.refused();
        assert!(
            told.contains("seed.toml") || told.contains("authority"),
            "{told}"
        );
        assert!(!told.contains(&TOKEN[8..]), "{told}");
    }
}

#[test]
fn nothing_is_made_twice() {
    let rig = Rig::seeded();
    let first = rig.open().unwrap().show().unwrap();
    assert_eq!(rig.open().unwrap().show().unwrap().proof, first.proof);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(rig.path("factory/device.key"))
            .unwrap()
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_power_cut_while_it_is_sealed_leaves_either() {
    let (rig, spec) = Rig::sealed().await;
    assert_eq!(phase(&rig.open().unwrap()), Phase::Unclaimed);
    assert!(!rig.path("factory/seed.toml").exists());
    // After the one file and before the other.
    rig.write("factory/seed.toml", "what was there");
    assert_eq!(phase(&rig.open().unwrap()), Phase::Unclaimed);
    assert!(!rig.path("factory/seed.toml").exists());
    // Amid the one file: it has another name as long as it is not whole.
    let sealed = fs::read_to_string(rig.path("factory/sealed.toml")).unwrap();
    rig.write("factory/sealed.toml.new", &sealed[..9]);
    let identity = rig.open().unwrap();
    let stranger = || Shown::from([]);
    identity.seal(spec.clone(), stranger()).await.unwrap();
    let other = SealSpec {
        claim: [8; 32].into(),
        ..spec.clone()
    };
    let refused = identity.seal(other, stranger()).await.unwrap_err();
    assert_eq!(refused.code, ProblemCode::WrongState);
    let shut_out = identity.seal(spec, rig.station()).await.unwrap_err();
    assert_eq!(shut_out.code, ProblemCode::Forbidden);
}

#[tokio::test]
async fn what_is_damaged_is_named() {
    let (rig, _) = Rig::sealed().await;
    for (file, damaged) in [
        ("folder/trust.toml", "authorities = 5"),
        ("folder/trust.toml", ""),
        ("factory/sealed.toml", ""),
        ("factory/device.key", "x"),
    ] {
        let before = fs::read(rig.path(file)).ok();
        rig.write(file, damaged);
        let told = rig.refused();
        let name = Path::new(file).file_name().unwrap().to_str().unwrap();
        assert!(
            told.contains(name) || told.contains("key"),
            "{file}: {told}"
        );
        match before {
            Some(before) => fs::write(rig.path(file), before).unwrap(),
            None => fs::remove_file(rig.path(file)).unwrap(),
        }
    }
    fs::remove_file(rig.path("factory/device.key")).unwrap();
    assert!(rig.refused().contains("device.key is missing"));
}

#[tokio::test]
async fn the_device_certificate_stands_in_for_a_damaged_one() {
    let (rig, _) = Rig::sealed().await;
    let device = rig.open().unwrap().show().unwrap().certificate;
    let another = KeyPair::generate().unwrap().serialize_pem();
    let strange = format!("{another}{}", rig.authority);
    for damaged in [b"", &b"\xff"[..], another.as_bytes(), strange.as_bytes()] {
        fs::write(rig.path("folder/own.pem"), damaged).unwrap();
        assert_eq!(rig.open().unwrap().show().unwrap().certificate, device);
    }
}

#[test]
fn time_goes_on_from_where_it_was_seen() {
    let rig = Rig::seeded();
    let now = rig.open().unwrap().clock().seconds();
    let later = u64::try_from(now).unwrap() + 1000;
    rig.write("folder/seen", &later.to_string());
    assert_eq!(rig.open().unwrap().clock().past(), later);
    rig.write("folder/seen", "yesterday");
    assert!(rig.open().unwrap().clock().past() < later);
}

#[test]
fn certificates_are_judged_by_no_earlier_time_than_is_known_to_be_past() {
    let rig = Rig::seeded();
    let identity = rig.open().unwrap();
    let now = identity.clock().seconds();
    let at = |seconds| OffsetDateTime::from_unix_timestamp(now + seconds).unwrap();
    let admits = |from, to| {
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (at(from), at(to));
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let signed = params.signed_by(&KeyPair::generate().unwrap(), &rig.maker);
        let chain = [signed.unwrap().der().clone()];
        identity.door().entry().admits(&chain)
    };
    assert!(admits(-500, 500) && !admits(500, 2000));
    identity.clock().raise(u64::try_from(now + 1000).unwrap());
    assert!(!admits(-500, 500) && admits(500, 2000));
}
