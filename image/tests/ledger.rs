//! The list of boxes that were given an identity: what is added to it, and what is found out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

/// A ledger, its key, and certificates `0` to `3`.
struct Ledger(tempfile::TempDir);

impl Ledger {
    /// With this many boxes in it.
    fn with(boxes: usize) -> Self {
        let ledger = Self(tempfile::tempdir().unwrap());
        ledger.openssl("ecparam -name prime256v1 -genkey -noout -out key");
        ledger.openssl("pkey -in key -pubout -out public");
        for number in 0..4 {
            ledger.openssl(&format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key{number} \
                 -subj /CN=box -out {number}"
            ));
        }
        for number in 0..boxes {
            assert!(ledger.add(&format!("AX-{number}"), number).is_ok());
        }
        ledger
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("ledger")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }

    fn openssl(&self, arguments: &str) {
        let mut openssl = Command::new("openssl");
        openssl.args(arguments.split_whitespace());
        let output = openssl.current_dir(&self.0).output().unwrap();
        assert!(output.status.success(), "{arguments}: {output:?}");
    }

    fn run(&self, words: &str) -> Output {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("factory/ledger");
        let mut command = Command::new(program);
        command.args(words.split(' ')).current_dir(&self.0);
        command.output().unwrap()
    }

    /// What it says, or complains of.
    fn told(&self, words: &str) -> Result<String, String> {
        let output = self.run(words);
        let told = String::from_utf8(output.stderr).unwrap();
        match output.status.success() {
            true => Ok(told),
            false => Err(told),
        }
    }

    fn add(&self, serial: &str, number: usize) -> Result<String, String> {
        let what = format!("--key key --serial {serial} --certificate {number}");
        self.told(&format!("add ledger {what}"))
    }

    fn check(&self) -> Result<String, String> {
        self.told("check ledger --public-key public")
    }

    /// What is said once the text is another.
    fn check_as(&self, text: impl AsRef<[u8]>) -> Result<String, String> {
        fs::write(self.path(), text).unwrap();
        self.check()
    }
}

#[test]
fn a_box_is_in_the_ledger_once() {
    let ledger = Ledger::with(2);
    let text = ledger.text();
    assert!(ledger.add("AX-0", 0).unwrap().contains("already"));
    for (serial, number, complaint) in [
        ("AX-0", 2, "another key"),
        ("ax-0", 2, "another key"),
        ("AX-2", 1, "another box"),
        ("AX_2", 2, "serial"),
    ] {
        let told = ledger.add(serial, number).unwrap_err();
        assert!(told.contains(complaint), "{serial} {number}: {told}");
    }
    // Signed once more, for the same key.
    ledger.openssl("x509 -in 0 -signkey key0 -days 7 -out 3");
    assert!(ledger.add("AX-0", 3).unwrap_err().contains("certificate"));
    assert_eq!(ledger.text(), text);
    assert!(ledger.check().unwrap().contains("2 boxes"));
}

#[test]
fn the_first_line_that_is_wrong_is_named() {
    let ledger = Ledger::with(4);
    let text = ledger.text();
    let lines: Vec<_> = text.lines().collect();
    let without = |number: usize| {
        let mut lines = lines.clone();
        lines.remove(number);
        lines.join("\n") + "\n"
    };
    let swapped = [lines[0], lines[2], lines[1], lines[3], ""].join("\n");
    let inserted = text.replacen(" AX-1 ", " \0AX-1 ", 1);
    for (changed, line, complaint) in [
        (text.replace(" AX-1 ", " AX-9 "), 2, "signature"),
        (text.replacen("-", "+", 1), 1, "signature"),
        (text.replace(" AX-2 ", "  AX-2 "), 3, "fields"),
        (text.replace('\n', " \n"), 1, "fields"),
        (text.replace("\n3 ", "\n\n3 "), 3, "fields"),
        (inserted, 2, "plain text"),
        (without(0), 1, "number"),
        (without(2), 3, "number"),
        (swapped, 2, "number"),
        (text.trim_end().to_owned(), 4, "whole"),
    ] {
        let told = ledger.check_as(&changed).unwrap_err();
        assert!(
            told.contains(&format!("line {line} of")),
            "{told}: {changed}"
        );
        assert!(told.contains(complaint), "{told}: {changed}");
    }
    assert!(ledger.check_as(&text).is_ok());
    ledger.openssl("pkey -in key0 -pubout -out public");
    assert!(ledger.check().unwrap_err().contains("line 1 of"));
}

#[test]
fn what_was_cut_off_is_missed_by_an_older_copy() {
    let ledger = Ledger::with(3);
    fs::copy(ledger.path(), ledger.0.path().join("older")).unwrap();
    let compare = "check ledger --public-key public --older older";
    ledger.add("AX-3", 3).unwrap();
    assert!(ledger.told(compare).is_ok());
    let text = ledger.text();
    let short: String = text.split_inclusive('\n').take(2).collect();
    assert!(ledger.check_as(short).is_ok());
    assert!(ledger.told(compare).unwrap_err().contains("older"));
}

#[test]
fn a_line_that_was_not_written_to_its_end_makes_room_for_the_next() {
    let ledger = Ledger::with(2);
    let text = ledger.text();
    fs::write(ledger.path(), format!("{text}3 2026-")).unwrap();
    ledger.add("AX-2", 2).unwrap();
    assert!(ledger.text().starts_with(&text));
    assert!(ledger.check().unwrap().contains("3 boxes"));

    let wrong = ledger.text().replace(" AX-2 ", " AX-9 ");
    fs::write(ledger.path(), &wrong).unwrap();
    assert!(ledger.add("AX-3", 3).unwrap_err().contains("line 3 of"));
    assert_eq!(ledger.text(), wrong);
}

#[test]
fn many_stations_write_to_one_ledger() {
    let ledger = Ledger::with(0);
    thread::scope(|scope| {
        for number in 0..4 {
            let ledger = &ledger;
            scope.spawn(move || ledger.add(&format!("AX-{number}"), number).unwrap());
        }
    });
    assert!(ledger.check().unwrap().contains("4 boxes"));
}

#[test]
fn what_is_not_understood_exits_with_2() {
    let ledger = Ledger::with(0);
    for words in [
        "add",
        "check ledger",
        "add ledger --key key",
        "check ledger --key key",
        "x ledger",
    ] {
        assert_eq!(ledger.run(words).status.code(), Some(2), "{words}");
    }
    assert!(!ledger.path().exists());
}
