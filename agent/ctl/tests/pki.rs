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
