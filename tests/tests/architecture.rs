//! The dependency direction, read from the manifests.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Who must not name whom, and why.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    (
        "ashlar-agent",
        &["ashlar-kernel-iface", "ashlar-targetd"],
        "the agent has no privilege and must not grow a way to use one",
    ),
    (
        "ashlar-thin-metadata",
        &["ashlar-kernel-iface", "nix", "libc", "tokio"],
        "it reads what is given to it and does nothing else",
    ),
    (
        "ashlar-ctl",
        &[
            "ashlar-kernel-iface",
            "ashlar-targetd",
            "ashlar-agent",
            "sled",
        ],
        "operators' tools know the protocol and nothing behind it",
    ),
    (
        "ashlar-targetd",
        &[
            "hyper",
            "hyper-util",
            "rustls",
            "tokio-rustls",
            "sled",
            "tokio",
            "ashlar-agent",
            "ashlar-protocol",
        ],
        "the privileged daemon speaks to no network and keeps no metadata",
    ),
    (
        "ashlar-kernel-iface",
        &["tokio", "hyper", "rustls", "sled", "serde_cbor"],
        "kernel calls block, and nothing from outside is parsed beside them",
    ),
    (
        "ashlar-protocol",
        &[
            "tokio",
            "hyper",
            "rustls",
            "sled",
            "serde_cbor",
            "ashlar-kernel-iface",
        ],
        "a contract has no runtime",
    ),
    (
        "ashlar-targetd-protocol",
        &[
            "tokio",
            "hyper",
            "rustls",
            "sled",
            "serde_cbor",
            "ashlar-kernel-iface",
            "ashlar-protocol",
        ],
        "a contract has no runtime",
    ),
];

/// Crates that only one of ours may name.
const WALLED: &[(&str, &str, &str)] = &[
    (
        "serde_cbor",
        "ashlar-codec",
        "it is unmaintained and stands behind our checks",
    ),
    (
        "sled",
        "ashlar-agent",
        "it is not durable by itself and stands behind our journal",
    ),
];

/// Normal and build dependencies of every workspace member by package name.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .expect("cargo reads its own workspace");
    metadata
        .packages
        .iter()
        .map(|package| {
            let names = package
                .dependencies
                .iter()
                .filter(|d| d.kind != DependencyKind::Development)
                .map(|d| d.name.clone())
                .collect();
            (package.name.to_string(), names)
        })
        .collect()
}

#[test]
fn manifests_keep_the_dependency_direction() {
    let dependencies = dependencies();
    let mut broken = Vec::new();
    for (package, forbidden, reason) in FORBIDDEN {
        assert!(dependencies.contains_key(*package), "{package} is a member");
        for (by, named) in through_ours(&dependencies, package) {
            // What stands behind one of ours is kept from everybody else below.
            let walled = |name: &str| {
                WALLED
                    .iter()
                    .any(|(crate_, owner, _)| *crate_ == name && *owner == by)
            };
            let forbidden = forbidden.iter().filter(|d| !walled(d) || by == *package);
            for dependency in forbidden.filter(|d| named.contains(**d)) {
                broken.push(format!("{package} names {dependency} by {by}: {reason}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// What a package and the members that it is built upon name, by who does.
fn through_ours<'a>(
    dependencies: &'a BTreeMap<String, BTreeSet<String>>,
    package: &'a str,
) -> BTreeMap<&'a str, &'a BTreeSet<String>> {
    let mut found = BTreeMap::new();
    let mut next = vec![package];
    while let Some(name) = next.pop() {
        if let Some(named) = dependencies.get(name)
            && found.insert(name, named).is_none()
        {
            next.extend(named.iter().map(String::as_str));
        }
    }
    found
}

#[test]
fn walled_crates_have_one_user() {
    let mut broken = Vec::new();
    for (package, named) in dependencies() {
        for (dependency, owner, reason) in WALLED {
            if named.contains(*dependency) && package != *owner {
                broken.push(format!("{package} names {dependency}: {reason}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn only_the_store_knows_sled() {
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/../agent/src");
    let mut broken = Vec::new();
    for path in rust_files(sources.as_ref()) {
        let relative = path
            .strip_prefix(sources)
            .expect("found below it")
            .to_owned();
        let text = std::fs::read_to_string(&path).expect("sources are text");
        if !relative.starts_with("store") && text.contains("sled::") {
            broken.push(relative.display().to_string());
        }
    }
    assert!(broken.is_empty(), "these name sled: {}", broken.join(", "));
}

fn rust_files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("the folder is there") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}
