//! `docs/features.md` names tests that exist, and leaves none out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Files of tests on the real kernel that are no feature of their own.
const NO_FEATURE: [&str; 2] = [
    // The model kernel is held to the real one.
    "tests/guest/tests/conformance.rs",
    // It runs the scenarios.
    "tests/guest/tests/scenarios.rs",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What stands in the table's second column between backticks.
fn proofs(page: &str) -> Vec<String> {
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let cells = rows.filter_map(|row| row.split('|').nth(2));
    cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

fn page() -> String {
    fs::read_to_string(root().join("docs/features.md")).unwrap()
}

#[test]
fn each_row_names_tests_that_exist() {
    for row in page().lines().filter(|line| line.starts_with("| ")) {
        let heading = row.starts_with("| what ") || row.starts_with("| **");
        assert!(heading || !proofs(row).is_empty(), "{row}");
    }
    for proof in proofs(&page()) {
        let (file, test) = match proof.split_once(": ") {
            Some((file, test)) => (file, Some(test)),
            None => (&*proof, None),
        };
        let text = fs::read_to_string(root().join(file));
        let text = text.unwrap_or_else(|error| panic!("{file}: {error}"));
        if let Some(test) = test {
            assert!(text.contains(&format!("fn {test}(")), "{proof}");
        }
    }
}

#[test]
fn each_test_on_the_real_kernel_shows_something() {
    let page = page();
    let named: BTreeSet<_> = proofs(&page)
        .into_iter()
        .map(|proof| proof.split(": ").next().unwrap_or_default().to_owned())
        .chain(NO_FEATURE.map(str::to_owned))
        .collect();
    for folder in ["tests/scenarios", "tests/guest/tests"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap();
            if path.is_file() {
                let file = format!("{folder}/{file}");
                assert!(named.contains(&file), "{file} is not in docs/features.md");
            }
        }
    }
}

/// Tests in virtual machines are selected by what their names begin with; one that is named
/// otherwise would never run.
#[test]
fn each_test_on_the_real_kernel_is_one_that_is_run() {
    let manifest = fs::read_to_string(root().join("tests/guest/Cargo.toml")).unwrap();
    let mut paths = BTreeSet::new();
    for test in manifest.split("[[test]]").skip(1) {
        let value = |key: &str| {
            let line = test.lines().find_map(|line| line.strip_prefix(key));
            let line = line.and_then(|line| line.trim_start().strip_prefix("= "));
            line.unwrap_or_else(|| panic!("{key} is not in {test}"))
        };
        let (name, path) = (value("name"), value("path"));
        assert_eq!(value("required-features"), r#"["vm"]"#, "{name}");
        assert!(name.starts_with("\"vm-"), "{name}");
        paths.insert(path.trim_matches('"').to_owned());
    }
    for entry in fs::read_dir(root().join("tests/guest/tests")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let file = format!("tests/{}", path.file_name().unwrap().to_str().unwrap());
            assert!(paths.contains(&file), "{file} is in no [[test]]");
        }
    }
}
