//! The kinds of messages in the journal: code, catalog and documentation say the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use ashlar_agent::telemetry::messages;

const CATALOG: &str = "image/appliance/usr/lib/systemd/catalog/ashlar.catalog";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(file: &str) -> String {
    let text = std::fs::read_to_string(root().join(file));
    text.unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn named() -> BTreeMap<String, String> {
    let all = messages::all();
    all.map(|message| (message.id(), message.name().to_owned()))
        .collect()
}

#[test]
fn the_page_has_each_message_with_its_id() {
    let page = read("docs/messages.md");
    let (_, table) = page.split_once("## Messages").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split('`').collect::<Vec<_>>());
    let found: BTreeMap<String, String> = cells
        .map(|cells| (cells[3].to_owned(), cells[1].to_owned()))
        .collect();
    assert_eq!(found, named());
}

/// What the catalog's own program makes of it: it leaves out what it cannot read.
#[test]
fn the_catalog_explains_each_message() {
    let tree = tempfile::tempdir().unwrap();
    let folder = tree.path().join("usr/lib/systemd/catalog");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("ashlar.catalog"), read(CATALOG)).unwrap();
    let journalctl = |action: &str| {
        let output = Command::new("journalctl")
            .arg("--root")
            .arg(tree.path())
            .arg(action)
            .output()
            .expect("journalctl is part of Debian's systemd package");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{said}");
        String::from_utf8(output.stdout).unwrap()
    };
    journalctl("--update-catalog");
    let listed = journalctl("--list-catalog");
    let ids: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let expected: Vec<String> = named().into_keys().collect();
    assert_eq!(ids, expected);
}

/// A field that is in no message of its kind would be shown as it is written.
#[test]
fn the_catalog_names_fields_that_the_page_has() {
    let page = read("docs/messages.md");
    let catalog = read(CATALOG);
    let names = catalog.split('@').skip(1).step_by(2);
    for name in names {
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
}
