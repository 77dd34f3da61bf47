//! `docs/features.md` names tests that exist and are run, and leaves none out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Files of tests on the real kernel that are no feature of their own.
const NO_FEATURE: [&str; 2] = [
    // The model kernel is held to the real one.
    "tests/guest/tests/conformance.rs",
    // It runs the scenarios.
    "tests/guest/tests/scenarios.rs",
];

/// What a row says that is shown by nothing that runs by itself.
const BY_HAND: &str = "by hand";

/// What a row says, or its section, of which nothing on the real kernel shows anything.
const ELSEWHERE: [&str; 6] = [
    BY_HAND,
    "model kernel",
    "(a stand-in for ",
    "(a folder in place of the box)",
    "(off the kernel)",
    "without building th",
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

fn read(file: &str) -> String {
    let text = fs::read_to_string(root().join(file));
    text.unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn rows(page: &str) -> impl Iterator<Item = &str> {
    let rows = page.lines().filter(|line| line.starts_with("| "));
    rows.filter(|row| !row.starts_with("| what ") && !row.starts_with("| **"))
}

#[test]
fn each_row_names_tests_that_exist() {
    for row in rows(&page()) {
        assert!(!proofs(row).is_empty(), "{row}");
        for proof in proofs(row) {
            match proof.split_once(": ") {
                Some((file, test)) => check_run(row, file, test),
                None => drop(read(&proof)),
            }
        }
    }
}

/// Who reads of a feature takes it for shown on the real kernel, unless it says otherwise.
#[test]
fn each_row_says_what_is_not_shown_on_the_real_kernel() {
    let page = page();
    let elsewhere = |text: &str| ELSEWHERE.iter().any(|words| text.contains(words));
    let mut section = "";
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        if line.starts_with("| **") {
            section = line;
        }
        let real = |proof: &String| {
            let kernel = ["tests/scenarios/", "tests/guest/"];
            kernel.iter().any(|folder| proof.starts_with(folder))
        };
        let proofs = proofs(line);
        let shown = proofs.is_empty() || proofs.iter().any(real);
        assert!(shown || elsewhere(line) || elsewhere(section), "{line}");
    }
}

/// A test that nothing runs shows nothing, and one that is run by hand only is said to be.
fn check_run(row: &str, file: &str, test: &str) {
    let text = read(file);
    if !file.ends_with(".rs") {
        assert!(text.contains(&format!("def {test}(")), "{file}: {test}");
        return;
    }
    let mut names = text.lines().filter_map(|line| declared(line.trim_start()));
    assert!(names.any(|name| name == test), "{file}: {test}");
    let run = Tests::of(file).run(test);
    let said = row.contains(BY_HAND);
    match run {
        Run::Always => {}
        Run::ByHand => assert!(
            said,
            "{test} is ignored, and {row:?} does not say {BY_HAND:?}"
        ),
        Run::Never => panic!("{file}: no test runs {test}"),
    }
}

/// When a function of tests is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    Always,
    /// By a test that is ignored unless it is asked for.
    ByHand,
    Never,
}

/// The functions that are compiled together with a file's, by name.
struct Tests(BTreeMap<String, Function>);

#[derive(Default)]
struct Function {
    test: bool,
    ignored: bool,
    body: String,
}

impl Tests {
    /// Of a file, and of what it is a module of or has modules in: `tests/x.rs` and `tests/x/`.
    fn of(file: &str) -> Tests {
        let own = Path::new(file);
        let folder = own.parent().unwrap();
        let above = folder.with_extension("rs");
        let mut files = vec![own.to_owned(), above];
        for folder in [own.with_extension(""), folder.to_owned()] {
            // Beside it, there are modules only if there is something that they are modules of.
            if folder == own.parent().unwrap() && !root().join(&files[1]).exists() {
                continue;
            }
            let there = fs::read_dir(root().join(&folder)).into_iter().flatten();
            files.extend(there.map(|entry| folder.join(entry.unwrap().file_name())));
        }
        let texts = files
            .iter()
            .filter(|file| file.extension() == Some("rs".as_ref()));
        let texts = texts.filter_map(|file| fs::read_to_string(root().join(file)).ok());
        let mut tests = Tests(BTreeMap::new());
        for text in texts {
            tests.take(&text);
        }
        tests
    }

    fn take(&mut self, text: &str) {
        let (mut attributes, mut last) = (Vec::new(), None);
        for line in text.lines().map(str::trim_start) {
            if line.starts_with("#[") {
                attributes.push(line);
            } else if let Some(name) = declared(line) {
                let function = self.0.entry(name.to_owned()).or_default();
                function.test |= attributes.iter().any(|word| is_test(word));
                function.ignored |= attributes.iter().any(|word| word.starts_with("#[ignore"));
                attributes.clear();
                last = Some(name.to_owned());
            } else if !line.starts_with("//") {
                attributes.clear();
                if let Some(function) = last.as_ref().and_then(|last| self.0.get_mut(last)) {
                    function.body += line;
                    function.body.push('\n');
                }
            }
        }
    }

    fn run(&self, name: &str) -> Run {
        let begin = |ignored| {
            let tests = self.0.iter().filter(|(_, function)| function.test);
            let tests = tests.filter(|(_, function)| function.ignored == ignored);
            self.reached(tests.map(|(name, _)| &**name).collect())
        };
        match (begin(false).contains(name), begin(true).contains(name)) {
            (true, _) => Run::Always,
            (false, true) => Run::ByHand,
            (false, false) => Run::Never,
        }
    }

    /// Those functions, and what they call.
    fn reached<'t>(&'t self, mut reached: BTreeSet<&'t str>) -> BTreeSet<&'t str> {
        loop {
            let bodies: Vec<_> = reached.iter().map(|name| &self.0[*name].body).collect();
            let called = self.0.keys().filter(|name| {
                let call = format!("{name}(");
                bodies
                    .iter()
                    .any(|body| body.split(&call).skip(1).count() > 0)
            });
            let before = reached.len();
            reached.extend(called.map(String::as_str));
            if reached.len() == before {
                return reached;
            }
        }
    }
}

/// `#[test]`, `#[tokio::test]`, with arguments or not.
fn is_test(attribute: &str) -> bool {
    let path = attribute.trim_start_matches("#[");
    let path = path.split([']', '(']).next().unwrap_or_default();
    path == "test" || path.ends_with("::test")
}

/// The name of the function that a line declares.
fn declared(line: &str) -> Option<&str> {
    let words = ["pub(super) ", "pub(crate) ", "pub ", "async "];
    let mut rest = line;
    for word in words {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let name = rest.strip_prefix("fn ")?;
    name.split(['(', '<']).next()
}

#[test]
fn what_is_ignored_or_called_by_nobody_is_told_from_what_is_run() {
    let mut tests = Tests(BTreeMap::new());
    tests.take(
        "#[tokio::test(flavor = \"multi_thread\")]\nasync fn all() {\n    m::some().await;\n}\n\
         #[test]\n#[ignore = \"slow\"]\nfn slow() {\n    slowly();\n    both();\n}\n\
         pub async fn some() {\n    both();\n}\n\
         fn slowly() {}\nfn both() {}\n/// Nobody calls nobody().\nfn nobody() {}\n",
    );
    for (name, run) in [
        ("all", Run::Always),
        ("some", Run::Always),
        ("both", Run::Always),
        ("slow", Run::ByHand),
        ("slowly", Run::ByHand),
        ("nobody", Run::Never),
    ] {
        assert_eq!(tests.run(name), run, "{name}");
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
