//! The lab authority, by its command line.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::X509Certificate;

fn ashlarctl(dir: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ashlarctl"))
        .args(arguments.split_whitespace())
        .current_dir(dir)
        .output()
        .unwrap()
}

fn done(dir: &Path, arguments: &str) {
    let output = ashlarctl(dir, arguments);
    assert!(output.status.success(), "{arguments}: {output:?}");
}

fn with_certificate<T>(path: &Path, look: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
    let text = std::fs::read(path).unwrap();
    let (_, pem) = parse_x509_pem(&text).unwrap();
    look(&pem.parse_x509().unwrap())
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().unwrap();
    let names = names.map(|n| n.value.general_names.clone());
    names
        .unwrap_or_default()
        .iter()
        .map(|name| match name {
            GeneralName::URI(uri) => format!("uri {uri}"),
            GeneralName::DNSName(name) => format!("dns {name}"),
            GeneralName::IPAddress(bytes) => format!("ip {bytes:?}"),
            other => panic!("unexpected {other:?}"),
        })
        .collect()
}

#[test]
fn a_client_certificate_carries_its_role_and_client_use_only() {
    let dir = tempfile::tempdir().unwrap();
    done(dir.path(), "pki init lab");
    for role in ["reader", "operator", "admin"] {
        done(dir.path(), &format!("pki issue lab {role} --role {role}"));
        let ca = std::fs::read(dir.path().join("lab/ca.pem")).unwrap();
        let (_, ca) = parse_x509_pem(&ca).unwrap();
        let ca = ca.parse_x509().unwrap();
        with_certificate(&dir.path().join(format!("lab/{role}.pem")), |leaf| {
            assert_eq!(names(leaf), [format!("uri urn:ashlar:role:{role}")]);
            let usage = leaf.extended_key_usage().unwrap().unwrap().value;
            assert!(usage.client_auth && !usage.server_auth);
            assert!(!leaf.is_ca());
            leaf.verify_signature(Some(ca.public_key())).unwrap();
        });
    }
}

#[test]
fn a_server_certificate_carries_its_names_and_server_use_only() {
    let dir = tempfile::tempdir().unwrap();
    done(dir.path(), "pki init lab");
    done(
        dir.path(),
        "pki issue lab box --server --san box.example --san 192.0.2.7",
    );
    with_certificate(&dir.path().join("lab/box.pem"), |leaf| {
        assert_eq!(names(leaf), ["dns box.example", "ip [192, 0, 2, 7]"]);
        let usage = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && !usage.client_auth);
    });
}

#[test]
fn keys_are_for_their_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    done(dir.path(), "pki init lab");
    done(dir.path(), "pki issue lab alice --role admin");
    for key in ["lab/ca.key", "lab/alice.key"] {
        let mode = std::fs::metadata(dir.path().join(key)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600, "{key}");
    }
}

#[test]
fn nothing_is_overwritten_unless_asked() {
    let dir = tempfile::tempdir().unwrap();
    let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    done(dir.path(), "pki init lab");
    done(dir.path(), "pki issue lab alice --role reader");
    let (ca, alice) = (read("lab/ca.key"), read("lab/alice.key"));

    for again in ["pki init lab", "pki issue lab alice --role admin"] {
        let output = ashlarctl(dir.path(), again);
        assert_eq!(output.status.code(), Some(1), "{again}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("exists"), "{text}");
    }
    assert_eq!(
        (read("lab/ca.key"), read("lab/alice.key")),
        (ca, alice.clone())
    );

    done(dir.path(), "pki issue lab alice --role admin --overwrite");
    assert_ne!(read("lab/alice.key"), alice);
    let left: Vec<_> = std::fs::read_dir(dir.path().join("lab")).unwrap().collect();
    assert_eq!(left.len(), 4, "{left:?}");
}

#[test]
fn a_moment_in_the_past_gives_an_expired_certificate() {
    let dir = tempfile::tempdir().unwrap();
    done(dir.path(), "pki init lab");
    done(
        dir.path(),
        "pki issue lab old --role admin --not-after 2020-01-01T00:00:00Z",
    );
    with_certificate(&dir.path().join("lab/old.pem"), |leaf| {
        assert!(!leaf.validity().is_valid());
        assert!(leaf.validity().not_before < leaf.validity().not_after);
    });
}

#[test]
fn what_is_not_understood_exits_with_2() {
    let dir = tempfile::tempdir().unwrap();
    for bad in [
        "",
        "pki",
        "pki issue lab alice",
        "pki issue lab alice --role root",
        "pki issue lab alice --role admin --server",
        "pki issue lab alice --role admin --san x",
        "pki issue lab box --server",
        "pki issue lab alice --role admin --not-after tomorrow",
        "pki sign lab box --request box.csr",
        "pki sign lab box --role admin",
        "pki sign lab box --request box.csr --server",
        "pki sign lab box --request box.csr --role admin --san x",
        "pki sign lab box --request box.csr --role admin --days 1 --not-after 2030-01-01T00:00:00Z",
        "pki sign-device lab --serial A --request a.csr --token token",
        "pki sign-device lab --serial A_B --request a.csr --token token --proof 00",
    ] {
        let output = ashlarctl(dir.path(), bad);
        assert_eq!(output.status.code(), Some(2), "{bad}: {output:?}");
    }
}

#[test]
fn an_identity_is_a_plain_file_beside_its_authority() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        ashlarctl(dir.path(), "pki issue lab alice --role admin")
            .status
            .code(),
        Some(1)
    );
    done(dir.path(), "pki init lab");
    for name in ["../alice", "ca", ".alice", "a/b"] {
        let output = ashlarctl(dir.path(), &format!("pki issue lab {name} --role admin"));
        assert_eq!(output.status.code(), Some(1), "{name}");
    }
}

/// A request for a key that openssl made.
fn request(dir: &Path, serial: &str) {
    let subject = format!("/CN={serial}/serialNumber={serial}");
    openssl(dir, "ecparam -name prime256v1 -genkey -noout -out box.key");
    let arguments = "req -new -key box.key -out box.csr -subj";
    openssl(dir, &format!("{arguments} {subject}"));
}

fn openssl(dir: &Path, arguments: &str) -> String {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The proof that belongs to the request, by openssl.
fn proof(dir: &Path, token: &str) -> String {
    openssl(dir, "pkey -in box.key -pubout -outform DER -out box.spki");
    let keyed = format!("dgst -sha256 -mac HMAC -macopt hexkey:{token} -r box.spki");
    openssl(dir, &keyed).split(' ').next().unwrap().to_owned()
}

#[test]
fn a_request_is_signed_for_a_server_or_a_client() {
    let dir = tempfile::tempdir().unwrap();
    done(dir.path(), "pki init lab");
    request(dir.path(), "anything");
    let sign = "pki sign lab box --request box.csr";
    done(
        dir.path(),
        &format!("{sign} --server --san box.example --days 2 --out box.pem"),
    );
    with_certificate(&dir.path().join("box.pem"), |leaf| {
        assert_eq!(names(leaf), ["dns box.example"]);
        assert_eq!(leaf.subject().to_string(), "CN=box");
    });
    openssl(dir.path(), "verify -CAfile lab/ca.pem box.pem");
    let own = openssl(dir.path(), "pkey -in box.key -pubout");
    let signed = openssl(dir.path(), "x509 -in box.pem -noout -pubkey");
    assert_eq!(own, signed);

    let output = ashlarctl(dir.path(), &format!("{sign} --role reader"));
    std::fs::write(dir.path().join("reader.pem"), output.stdout).unwrap();
    with_certificate(&dir.path().join("reader.pem"), |leaf| {
        assert_eq!(names(leaf), ["uri urn:ashlar:role:reader"]);
    });
}

#[test]
fn a_box_gets_its_identity_for_the_proof_that_openssl_makes() {
    let dir = tempfile::tempdir().unwrap();
    let token = "0123456789abcdef".repeat(4);
    std::fs::write(dir.path().join("token"), format!("{token}\n")).unwrap();
    done(dir.path(), "pki init factory");
    request(dir.path(), "AX-7");
    let proof = proof(dir.path(), &token);
    let with = |verb: &str, serial: &str, proof: &str| {
        let what = format!("--serial {serial} --request box.csr --token token --proof {proof}");
        ashlarctl(dir.path(), &format!("pki {verb} {what}"))
    };
    let sign = |serial: &str, proof: &str| with("sign-device factory", serial, proof);

    let output = sign("AX-7", &proof);
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.ends_with(b"-----END CERTIFICATE-----\n"));
    std::fs::write(dir.path().join("box.pem"), &output.stdout).unwrap();
    openssl(dir.path(), "verify -CAfile factory/ca.pem box.pem");
    with_certificate(&dir.path().join("box.pem"), |leaf| {
        assert_eq!(names(leaf), ["dns ax-7.device.ashlar.internal"]);
        assert_eq!(leaf.subject().to_string(), "CN=AX-7, serialNumber=AX-7");
    });
    let output = with("check-device", "AX-7", &proof);
    assert!(output.status.success() && output.stdout.is_empty());

    for (serial, proof) in [("AX-8", proof.as_str()), ("AX-7", &"0".repeat(64))] {
        for output in [sign(serial, proof), with("check-device", serial, proof)] {
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            assert!(output.stdout.is_empty(), "{output:?}");
            assert!(!String::from_utf8(output.stderr).unwrap().contains(&token));
        }
    }
}

#[test]
fn a_claim_secret_is_printed_alone() {
    let dir = tempfile::tempdir().unwrap();
    let output = ashlarctl(dir.path(), "pki claim-secret");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.trim_end().len(), 29, "{text:?}");
    assert!(text.ends_with('\n') && text.lines().count() == 1);
}
