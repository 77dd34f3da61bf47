//! Requests and what is signed for them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use ashlar_protocol::{Role, Serial};
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, PublicKeyData, SanType,
};
use ring::hmac;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::X509Certificate;

use super::request::serial_number;
use super::*;

const TOKEN: [u8; 32] = [0xa5; 32];

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// A request as a box makes it.
fn requested(serial: &str, key: &KeyPair) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, serial);
    params.distinguished_name.push(serial_number(), serial);
    params.serialize_request(key).unwrap().pem().unwrap()
}

fn request(serial: &str, key: &KeyPair) -> Request {
    Request::from_pem(requested(serial, key).as_bytes()).unwrap()
}

/// Its proof as a box makes it.
fn proof(token: &[u8], key: &KeyPair) -> String {
    let with = hmac::Key::new(hmac::HMAC_SHA256, token);
    let tag = hmac::sign(&with, &key.subject_public_key_info());
    tag.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

fn token(directory: &Path, text: &str) -> Result<Token, DeviceError> {
    let path = directory.join("token");
    fs::write(&path, text).unwrap();
    Token::read(&path)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn device(serial: &str, key: &KeyPair) -> Device {
    let directory = tempfile::tempdir().unwrap();
    let token = token(directory.path(), &hex(&TOKEN)).unwrap();
    let of: Serial = serial.parse().unwrap();
    Device::proven(of, request(serial, key), &token, &proof(&TOKEN, key)).unwrap()
}

fn authority() -> Authority {
    Authority::create("factory", Validity::days(1)).unwrap().0
}

fn look<T>(pem: &str, look: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
    let (rest, pem) = parse_x509_pem(pem.as_bytes()).unwrap();
    assert!(rest.is_empty(), "there is something behind it");
    look(&pem.parse_x509().unwrap())
}

/// What a client says of a server with this certificate that it reached under this name.
fn verified(authority: &Authority, pem: &str, name: &str) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.certificate().as_bytes()).unwrap();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    let leaf = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let name = ServerName::try_from(name).unwrap();
    let verifier = verifier.build().unwrap();
    let now = UnixTime::now();
    let verdict = verifier.verify_server_cert(&leaf, &[], &name, &[], now);
    verdict.map(drop)
}

#[test]
fn an_identity_for_life_names_the_box_and_holds_its_key() {
    let (authority, key) = (authority(), key());
    let pem = authority.sign_device(&device("AX-000123", &key)).unwrap();
    verified(&authority, &pem, "ax-000123.device.ashlar.internal").unwrap();
    verified(&authority, &pem, "ax-000124.device.ashlar.internal").unwrap_err();
    look(&pem, |leaf| {
        assert_eq!(
            leaf.subject().to_string(),
            "CN=AX-000123, serialNumber=AX-000123"
        );
        assert_eq!(leaf.public_key().raw, key.subject_public_key_info());
        assert_eq!(leaf.validity().not_after.timestamp(), 253_402_300_799);
        let usage = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && !usage.client_auth && !usage.any);
        let usage = leaf.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && usage.flags == 1);
        assert!(!leaf.is_ca());
    });
}

#[test]
fn a_request_decides_nothing_but_the_key() {
    let (authority, key) = (authority(), key());
    let mut params = CertificateParams::new(vec!["other.example".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "admin");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let uri = Role::Admin.uri().try_into().unwrap();
    params.subject_alt_names.push(SanType::URI(uri));
    let asked = params.serialize_request(&key).unwrap().pem().unwrap();
    let request = Request::from_pem(asked.as_bytes()).unwrap();

    let names = vec!["box.example".to_owned()];
    let server = Profile::Server { names };
    let days = Validity::days(1);
    let pem = authority.sign("box", &request, &server, days).unwrap();
    verified(&authority, &pem, "box.example").unwrap();
    verified(&authority, &pem, "other.example").unwrap_err();
    look(&pem, |leaf| {
        assert_eq!(leaf.subject().to_string(), "CN=box");
        assert_eq!(leaf.public_key().raw, key.subject_public_key_info());
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), 1);
        let usage = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && !usage.client_auth);
        assert!(!leaf.is_ca());
    });
    let reader = Profile::Client {
        role: Some(Role::Reader),
    };
    let pem = authority.sign("eve", &request, &reader, days).unwrap();
    look(&pem, |leaf| {
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        let names = format!("{:?}", names.value.general_names);
        assert_eq!(names, format!("[URI({:?})]", Role::Reader.uri()));
    });
}

#[test]
fn certificates_of_one_key_have_different_numbers() {
    let (authority, key) = (authority(), key());
    let device = device("A", &key);
    let number = |_| {
        let pem = authority.sign_device(&device).unwrap();
        look(&pem, |leaf| {
            assert!(leaf.raw_serial().len() == 16 && leaf.raw_serial()[0] < 0x80);
            leaf.raw_serial().to_vec()
        })
    };
    let numbers: BTreeSet<_> = (0..8).map(number).collect();
    assert_eq!(numbers.len(), 8);
}

/// A request whose key was put in place of the one that signed it.
fn with_another_key(text: &str, old: &KeyPair, new: &KeyPair) -> String {
    let (_, pem) = parse_x509_pem(text.as_bytes()).unwrap();
    let (mut der, old) = (pem.contents, old.public_key_raw());
    let at = der.windows(old.len()).position(|part| part == old).unwrap();
    der[at..at + old.len()].copy_from_slice(new.public_key_raw());
    encoded(&der)
}

/// A request as PEM.
fn encoded(der: &[u8]) -> String {
    let alphabet: Vec<_> = ('A'..='Z')
        .chain('a'..='z')
        .chain('0'..='9')
        .chain(['+', '/'])
        .collect();
    let mut text = String::new();
    for part in der.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| {
            bits << 8 | usize::from(*part.get(at).unwrap_or(&0))
        });
        for at in 0..4 {
            let digit = alphabet[bits >> (18 - 6 * at) & 63];
            text.push(if at <= part.len() { digit } else { '=' });
        }
    }
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
}

#[test]
fn what_is_no_sound_request_is_refused() {
    let (key, other) = (key(), self::key());
    let sound = requested("A", &key);
    assert!(Request::from_pem(sound.as_bytes()).is_ok());
    let with = |algorithm| requested("A", &KeyPair::generate_for(algorithm).unwrap());
    let certificate = authority().certificate().to_owned();
    let refused = |text: &str| Request::from_pem(text.as_bytes()).unwrap_err();

    for text in ["", "request", &certificate, &sound[..sound.len() / 2]] {
        assert!(matches!(refused(text), RequestError::Pem(_)), "{text}");
    }
    let stolen = with_another_key(&sound, &key, &other);
    assert!(matches!(refused(&stolen), RequestError::Unsound(_)));
    for text in [with(&PKCS_ECDSA_P384_SHA384), with(&PKCS_ED25519)] {
        assert!(matches!(refused(&text), RequestError::Key), "{text}");
    }
}

#[test]
fn a_file_that_is_too_large_is_not_read_as_a_request() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("request");
    let mut text = requested("A", &key());
    text.push_str(&"\n".repeat((64 << 10) - text.len()));
    fs::write(&path, &text).unwrap();
    assert!(Request::read(&path).is_ok());
    text.push('\n');
    fs::write(&path, &text).unwrap();
    let refused = Request::read(&path).unwrap_err();
    assert!(matches!(refused, RequestError::TooLarge { .. }));
    let missing = Request::read(&directory.path().join("no")).unwrap_err();
    assert!(matches!(missing, RequestError::Read { .. }));
}

#[test]
fn only_the_box_with_the_token_gets_an_identity() {
    let directory = tempfile::tempdir().unwrap();
    let token = token(directory.path(), &format!("{}\n", hex(&TOKEN))).unwrap();
    let (key, other) = (key(), self::key());
    let good = proof(&TOKEN, &key);
    let attempt = |serial: &str, subject: &str, proof: &str| {
        let serial = serial.parse().unwrap();
        let device = Device::proven(serial, request(subject, &key), &token, proof);
        device.map(drop).map_err(|refused| match refused {
            DeviceError::Serial { .. } => "serial",
            DeviceError::Proof { .. } => "proof",
            other => panic!("{other}"),
        })
    };
    let flipped = format!(
        "{}{}",
        &good[..63],
        if good.ends_with('0') { '1' } else { '0' }
    );
    for (serial, subject, proof, outcome) in [
        ("A", "A", good.as_str(), Ok(())),
        ("A", "A", &good.to_uppercase(), Ok(())),
        ("A", "B", &good, Err("serial")),
        ("A", "a", &good, Err("serial")),
        ("A", "A", &flipped, Err("proof")),
        ("A", "A", &proof(&TOKEN, &other), Err("proof")),
        ("A", "A", &proof(&[0; 32], &key), Err("proof")),
        ("A", "A", "", Err("proof")),
        ("A", "A", &good[..62], Err("proof")),
        ("A", "A", &format!("{good}00"), Err("proof")),
        ("A", "A", &"é".repeat(32), Err("proof")),
    ] {
        assert_eq!(
            attempt(serial, subject, proof),
            outcome,
            "{subject} {proof}"
        );
    }
    let nameless = CertificateParams::default();
    let nameless = nameless.serialize_request(&key).unwrap().pem().unwrap();
    let nameless = Request::from_pem(nameless.as_bytes()).unwrap();
    let refused = Device::proven("A".parse().unwrap(), nameless, &token, &good).unwrap_err();
    assert!(matches!(refused, DeviceError::Serial { found: None, .. }));
}

#[test]
fn a_token_is_64_hex_digits() {
    let directory = tempfile::tempdir().unwrap();
    let good = hex(&TOKEN);
    for text in [good.clone(), format!("{good}\n"), good.to_uppercase()] {
        assert!(token(directory.path(), &text).is_ok(), "{text:?}");
    }
    for text in [
        "",
        "a5",
        &good[1..],
        &format!("{good}a"),
        &format!(" {good}"),
        &"g".repeat(64),
    ] {
        let refused = token(directory.path(), text).err().unwrap();
        assert!(matches!(refused, DeviceError::Token { .. }), "{text:?}");
        assert!(text.is_empty() || !refused.to_string().contains(text));
    }
}

#[test]
fn a_claim_secret_is_five_groups_of_crockfords_alphabet() {
    let secrets: Vec<_> = (0..200).map(|_| claim_secret().unwrap()).collect();
    let mut seen = BTreeSet::new();
    for secret in &secrets {
        let groups: Vec<_> = secret.split('-').collect();
        assert_eq!(groups.len(), 5, "{}", **secret);
        assert!(groups.iter().all(|group| group.len() == 5));
        seen.extend(groups.concat().chars());
    }
    // Of 5,000 characters one that is missing has a chance of 10⁻⁶⁸.
    assert_eq!(String::from_iter(seen), "0123456789ABCDEFGHJKMNPQRSTVWXYZ");
    let different: BTreeSet<_> = secrets.iter().map(|secret| secret.as_str()).collect();
    assert_eq!(different.len(), secrets.len());
}
