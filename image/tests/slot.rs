//! The program that tells the loader which slot to start, on a directory instead of an ESP.

use std::fs;
use std::path::Path;
use std::process::Command;

struct Esp(tempfile::TempDir);

impl Esp {
    fn with(names: &[&str]) -> Self {
        let esp = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(esp.entries()).unwrap();
        for name in names {
            fs::write(esp.entries().join(name), name).unwrap();
        }
        esp
    }

    fn entries(&self) -> std::path::PathBuf {
        self.0.path().join("EFI/Linux")
    }

    fn names(&self) -> Vec<String> {
        let listed = fs::read_dir(self.entries()).unwrap();
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = listed
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// What it printed, or `None` when it failed.
    fn slot(&self, words: &str) -> Option<String> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("appliance/usr/lib/ashlar/slot");
        let output = Command::new(program)
            .arg("--esp")
            .arg(self.0.path())
            .args(words.split(' '))
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        output.status.success().then(|| printed.trim().to_owned())
    }
}

#[test]
fn the_highest_slot_with_tries_left_is_the_one_that_starts() {
    let primary = |names: &[&str]| Esp::with(names).slot("get-primary").unwrap();
    assert_eq!(primary(&["ashlar-2-a+3.efi", "ashlar-1-b+3.efi"]), "a");
    assert_eq!(primary(&["ashlar-9-a+2-1.efi", "ashlar-10-b+1-2.efi"]), "b");
    assert_eq!(primary(&["ashlar-2-a+0-3.efi", "ashlar-1-b+3.efi"]), "b");
    assert_eq!(primary(&["ashlar-2-a+0-3.efi", "ashlar-1-b+0-3.efi"]), "a");
    assert_eq!(primary(&["ashlar-1-b.efi"]), "b");
}

#[test]
fn a_good_slot_has_all_tries_again_and_a_bad_one_none() {
    let esp = Esp::with(&["ashlar-2-a+2-1.efi", "ashlar-1-b+0-3.efi"]);
    assert_eq!(esp.slot("get-state a").as_deref(), Some("good"));
    assert_eq!(esp.slot("get-state b").as_deref(), Some("bad"));
    esp.slot("set-state a good").unwrap();
    assert_eq!(esp.names(), ["ashlar-1-b+0-3.efi", "ashlar-2-a+3.efi"]);
    esp.slot("set-state a bad").unwrap();
    assert_eq!(esp.names(), ["ashlar-1-b+0-3.efi", "ashlar-2-a+0-3.efi"]);
}

#[test]
fn a_slot_made_primary_comes_before_the_other_with_all_its_tries() {
    let esp = Esp::with(&["ashlar-2-a+3.efi", "ashlar-1-b+0-3.efi"]);
    esp.slot("set-primary b").unwrap();
    assert_eq!(esp.names(), ["ashlar-2-a+3.efi", "ashlar-3-b+3.efi"]);
    assert_eq!(esp.slot("get-primary").as_deref(), Some("b"));
    esp.slot("set-primary b").unwrap();
    assert_eq!(esp.names(), ["ashlar-2-a+3.efi", "ashlar-3-b+3.efi"]);
}

#[test]
fn what_a_power_cut_left_empty_is_no_slot() {
    let esp = Esp::with(&["ashlar-2-a+3.efi", "ashlar-1-b+3.efi"]);
    fs::write(esp.entries().join("ashlar-2-a+2-1.efi"), "").unwrap();
    assert_eq!(esp.slot("get-primary").as_deref(), Some("a"));
    assert_eq!(esp.names(), ["ashlar-1-b+3.efi", "ashlar-2-a+3.efi"]);
}

#[test]
fn nothing_changes_for_words_it_does_not_know() {
    let names = ["ashlar-1-b+3.efi", "ashlar-2-a+3.efi"];
    let esp = Esp::with(&names);
    for words in [
        "set-state a fine",
        "set-state c good",
        "set-primary",
        "show",
    ] {
        assert_eq!(esp.slot(words), None, "{words}");
    }
    assert_eq!(esp.names(), names);
}
