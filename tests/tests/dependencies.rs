//! What `deny.toml` says of licences, bans and sources, held to the lock file by every test run.
//!
//! cargo-deny reads the same file and knows more, above all the advisories. It is several hundred
//! crates to build, which takes longer than all other quick tests; this takes a second.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{Dependency, DependencyKind, Metadata, MetadataCommand, Package};
use serde::Deserialize;
use spdx::{Expression, LicenseReq, Licensee, ParseMode};

const SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";

#[derive(Deserialize)]
struct Rules {
    licenses: Licenses,
    bans: Bans,
    sources: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    /// Those of ours that may name it all the same.
    #[serde(default)]
    wrappers: BTreeSet<String>,
}

fn rules() -> Rules {
    toml::from_str(include_str!("../../deny.toml")).expect("deny.toml is sound")
}

/// What is linked into anything for the boxes we build for.
fn metadata() -> Metadata {
    let filter = ["--filter-platform", "x86_64-unknown-linux-gnu", "--locked"];
    MetadataCommand::new()
        .other_options(filter.map(str::to_owned))
        .exec()
        .expect("cargo reads its own workspace")
}

fn permitted(package: &Package, allowed: &[Licensee]) -> Result<(), String> {
    let text = package.license.as_deref().ok_or("it says no licence")?;
    let expression = Expression::parse_mode(text, ParseMode::LAX).map_err(|e| e.to_string())?;
    let takes = |wanted: &LicenseReq| allowed.iter().any(|licence| licence.satisfies(wanted));
    match expression.evaluate(takes) {
        true => Ok(()),
        false => Err(format!("{text} is not allowed")),
    }
}

#[test]
fn all_licences_are_allowed_ones() {
    let allow = rules().licenses.allow;
    let allowed: Vec<_> = allow
        .iter()
        .map(|licence| Licensee::parse(licence).expect("an SPDX licence"))
        .collect();
    let broken: Vec<_> = metadata()
        .packages
        .iter()
        .filter_map(|package| Some((package, permitted(package, &allowed).err()?)))
        .map(|(package, why)| format!("{} {}: {why}", package.name, package.version))
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_licence_that_is_not_allowed_is_noticed() {
    let mut package = metadata().packages.remove(0);
    let allowed = [Licensee::parse("MIT").unwrap()];
    for (licence, fine) in [
        ("MIT", true),
        ("GPL-3.0-only OR MIT", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0-only", false),
        ("MIT AND GPL-2.0-only", false),
    ] {
        package.license = Some(licence.to_owned());
        assert_eq!(permitted(&package, &allowed).is_ok(), fine, "{licence}");
    }
    package.license = None;
    assert!(permitted(&package, &allowed).is_err());
}

#[test]
fn everything_comes_from_the_public_registry() {
    let sources = rules().sources;
    assert_eq!(sources["unknown-registry"], "deny");
    assert_eq!(sources["unknown-git"], "deny");
    for package in metadata().packages {
        if let Some(source) = &package.source {
            assert_eq!(source.repr, SOURCE, "{}", package.name);
        }
    }
}

#[test]
fn banned_crates_are_named_by_nobody_who_may_not() {
    let bans = rules().bans.deny;
    let mut broken = Vec::new();
    for package in metadata().packages {
        let banned = |ban: &Ban| ban.wrappers.is_empty() && ban.name == package.name.as_str();
        if bans.iter().any(banned) {
            broken.push(format!("{} is linked", package.name));
        }
        let linked = |d: &&Dependency| d.kind != DependencyKind::Development && !d.optional;
        for dependency in package.dependencies.iter().filter(linked) {
            let ban = bans.iter().find(|ban| ban.name == dependency.name);
            let told = ban.is_some_and(|ban| !ban.wrappers.contains(package.name.as_str()));
            if told {
                broken.push(format!("{} names {}", package.name, dependency.name));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
