//! The program that tells the loader which slot to start, on a directory instead of an ESP.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("appliance/usr/lib/ashlar")
        .join(name)
}

/// An ESP, and the box around it.
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

    fn entries(&self) -> PathBuf {
        self.0.path().join("esp/EFI/Linux")
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
        let output = self.run(words);
        let printed = String::from_utf8(output.stdout).unwrap();
        output.status.success().then(|| printed.trim().to_owned())
    }

    /// What it complained of when it failed.
    fn complaint(&self, words: &str) -> String {
        let output = self.run(words);
        assert!(!output.status.success(), "{words}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn run(&self, words: &str) -> Output {
        self.command(words).output().unwrap()
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(program("slot"));
        command
            .arg("--esp")
            .arg(self.0.path().join("esp"))
            .args(words.split(' '));
        command
    }
}

/// A box that was started from a slot. What it asks of the system is a program of the test's own,
/// which writes down that it was asked.
struct Started {
    esp: Esp,
}

impl Started {
    fn started_from(slot: &str, names: &[&str]) -> Self {
        let esp = Esp::with(names);
        let path = |name: &str| esp.0.path().join(name);
        for place in ["bin", "state"] {
            fs::create_dir(path(place)).unwrap();
        }
        let cmdline = format!("quiet ashlar.slot={slot} root=x ashlar.slot=c\n");
        fs::write(path("cmdline"), cmdline).unwrap();
        let started = Self { esp };
        started.answers("mountpoint", "");
        started.answers("dd", "");
        started.answers("sleep", "");
        started.answers("systemctl", "");
        started
    }

    /// Has a program do this when it is asked.
    fn answers(&self, program: &str, script: &str) {
        let path = self.esp.0.path().join("bin").join(program);
        let asked = self.esp.0.path().join("asked");
        let text = format!(
            "#!/bin/sh\necho {program} \"$@\" >>{}\n{script}\n",
            asked.display()
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn provisioned(&self) {
        fs::write(self.esp.0.path().join("state/agent.toml"), "").unwrap();
    }

    fn run(&self, words: &str) -> Output {
        let path = |name: &str| self.esp.0.path().join(name);
        let search = format!("{}:{}", path("bin").display(), env!("PATH"));
        self.esp
            .command(words)
            .env("PATH", search)
            .env("SLOT_CMDLINE", path("cmdline"))
            .env("SLOT_STATE", path("state"))
            .env("SLOT_FACTORY", path("factory"))
            .output()
            .unwrap()
    }

    fn asked(&self) -> Vec<String> {
        let asked = fs::read_to_string(self.esp.0.path().join("asked")).unwrap_or_default();
        asked.lines().map(str::to_owned).collect()
    }

    fn starts_again(&self, words: &str) -> bool {
        let output = self.run(words);
        assert!(!output.status.success(), "{words}");
        self.asked().contains(&RESTART.to_owned())
    }
}

const RESTART: &str = "systemctl --no-block reboot";

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
fn what_the_check_of_the_file_system_saves_is_removed() {
    let esp = Esp::with(&["ashlar-1-b+3.efi"]);
    let saved = esp.0.path().join("esp/FSCK0000.REC");
    fs::write(&saved, "a kernel image that lost its name").unwrap();
    assert_eq!(esp.slot("get-state b").as_deref(), Some("good"));
    assert!(!saved.exists());
}

#[test]
fn a_slot_without_a_kernel_image_is_bad_and_can_be_made_so() {
    let esp = Esp::with(&["ashlar-1-b+3.efi"]);
    assert_eq!(esp.slot("get-state a").as_deref(), Some("bad"));
    esp.slot("set-state a bad").unwrap();
    for words in ["set-state a good", "set-primary a"] {
        let complaint = esp.complaint(words);
        assert!(complaint.contains("slot a has no kernel image"), "{words}");
    }
    assert_eq!(esp.slot("get-primary").as_deref(), Some("b"));
    assert_eq!(esp.names(), ["ashlar-1-b+3.efi"]);
}

#[test]
fn two_kernel_images_of_a_slot_are_somebodys_to_sort_out() {
    let names = ["ashlar-1-b+3.efi", "ashlar-2-a+2-1.efi", "ashlar-3-a+3.efi"];
    let esp = Esp::with(&names);
    for words in [
        "get-primary",
        "get-state a",
        "set-state a good",
        "set-state a bad",
        "set-primary a",
        "set-primary b",
    ] {
        let complaint = esp.complaint(words);
        assert!(
            complaint.contains("slot a has two kernel images"),
            "{words}"
        );
    }
    assert_eq!(esp.slot("get-state b").as_deref(), Some("good"));
    assert_eq!(esp.names(), names);
}

#[test]
fn a_name_that_is_not_understood_is_not_counted_with() {
    for name in ["ashlar-x-a+3.efi", "ashlar-1-a+.efi", "ashlar-1-a+3-.efi"] {
        let esp = Esp::with(&[name]);
        let complaint = esp.complaint("get-state a");
        assert!(complaint.contains("no name of a kernel image"), "{name}");
        assert_eq!(esp.names(), [name]);
    }
}

#[test]
fn a_slot_with_no_tries_left_gives_way_to_the_other() {
    let names = ["ashlar-1-b+3.efi", "ashlar-2-a+0-3.efi"];
    assert!(Started::started_from("a", &names).starts_again("again"));
    let names = ["ashlar-1-b+0-3.efi", "ashlar-2-a+1-2.efi"];
    assert!(Started::started_from("b", &names).starts_again("again"));
}

#[test]
fn a_slot_with_tries_left_is_tried_again() {
    let names = ["ashlar-1-b+0-3.efi", "ashlar-2-a+1-2.efi"];
    assert!(Started::started_from("a", &names).starts_again("again"));
    assert!(Started::started_from("a", &["ashlar-2-a+1-2.efi"]).starts_again("again"));
}

#[test]
fn after_the_last_try_of_both_slots_the_box_stays_up() {
    for names in [
        &["ashlar-1-b+0-3.efi", "ashlar-2-a+0-3.efi"][..],
        &["ashlar-2-a+0-4.efi"],
    ] {
        let last = Started::started_from("a", names);
        assert!(!last.starts_again("again"), "{names:?}");
    }
}

#[test]
fn a_start_that_was_not_counted_is_not_repeated() {
    for names in [
        &["ashlar-1-b+3.efi", "ashlar-2-a+3.efi"][..],
        &["ashlar-1-b+2-1.efi", "ashlar-2-a+3.efi"],
        &["ashlar-1-b+2-1.efi", "ashlar-2-a.efi"],
        &["ashlar-1-b+2-1.efi"],
    ] {
        let uncounted = Started::started_from("a", names);
        assert!(!uncounted.starts_again("again"), "{names:?}");
    }
}

/// The names of a box after the first start of slot a, and after that was confirmed.
const COUNTED: [&str; 2] = ["ashlar-1-b+3.efi", "ashlar-2-a+2-1.efi"];
const CONFIRMED: [&str; 2] = ["ashlar-1-b+3.efi", "ashlar-2-a+3.efi"];

#[test]
fn a_boot_is_good_when_all_is_well_and_its_root_was_read() {
    let good = Started::started_from("a", &COUNTED);
    good.provisioned();
    let output = good.run("confirm");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(good.esp.names(), CONFIRMED);
    let asked = good.asked();
    let place = |what: &str| {
        asked
            .iter()
            .rposition(|line| line.starts_with(what))
            .unwrap()
    };
    assert!(place("dd if=/dev/mapper/root ") > place("systemctl is-active"));
    assert!(
        asked
            .iter()
            .any(|line| line.ends_with("ashlar-agent.service"))
    );
    assert!(asked.contains(&"sleep 30".to_owned()));
}

#[test]
fn a_root_that_cannot_be_read_is_not_good() {
    let damaged = Started::started_from("a", &COUNTED);
    damaged.answers("dd", "exit 1");
    assert!(damaged.starts_again("confirm"));
    assert_eq!(damaged.esp.names(), COUNTED);
}

#[test]
fn without_the_state_partition_no_boot_is_good() {
    let lost = Started::started_from("a", &COUNTED);
    lost.answers("mountpoint", "exit 1");
    assert!(lost.starts_again("confirm"));
    assert_eq!(lost.esp.names(), COUNTED);
}

#[test]
fn the_agent_must_serve_where_there_is_one() {
    let silent = "case \"$*\" in *is-active*agent*) exit 3 ;; esac";
    let unprovisioned = Started::started_from("a", &COUNTED);
    unprovisioned.answers("systemctl", silent);
    assert!(unprovisioned.run("confirm").status.success());
    assert_eq!(unprovisioned.esp.names(), CONFIRMED);
    let dead = Started::started_from("a", &COUNTED);
    dead.answers("systemctl", silent);
    dead.provisioned();
    assert!(dead.starts_again("confirm"));
    assert_eq!(dead.esp.names(), COUNTED);
    let without = Started::started_from("a", &COUNTED);
    without.answers("mountpoint", "case $2 in *factory) exit 1 ;; esac");
    assert!(without.starts_again("confirm"));
    without.provisioned();
    assert!(without.run("confirm").status.success());
    for file in ["seed.toml", "sealed.toml"] {
        let dead = Started::started_from("a", &COUNTED);
        dead.answers("systemctl", silent);
        let factory = dead.esp.0.path().join("factory");
        fs::create_dir(&factory).unwrap();
        fs::write(factory.join(file), "").unwrap();
        assert!(dead.starts_again("confirm"), "{file}");
    }
}

#[test]
fn a_daemon_that_keeps_dying_is_not_well() {
    let dying = Started::started_from("a", &COUNTED);
    let count = dying.esp.0.path().join("count");
    let counts = format!(
        "case $1 in show) echo >>{0}; wc -l <{0} ;; esac",
        count.display()
    );
    dying.answers("systemctl", &counts);
    assert!(dying.starts_again("confirm"));
    assert_eq!(dying.esp.names(), COUNTED);
    // One that did once is, from then on.
    let settled = Started::started_from("a", &COUNTED);
    let count = settled.esp.0.path().join("count");
    let counts = format!(
        "case $1 in show) echo >>{0}; head -n 2 {0} | wc -l ;; esac",
        count.display()
    );
    settled.answers("systemctl", &counts);
    assert!(settled.run("confirm").status.success());
    assert_eq!(settled.esp.names(), CONFIRMED);
}

/// A box that runs slot a, whose slot b is to be updated, and the pieces of a kernel image.
fn updated(names: &[&str]) -> Started {
    let started = Started::started_from("a", names);
    fs::remove_file(started.esp.0.path().join("bin/dd")).unwrap();
    for (name, content) in [("part.0", "a new "), ("part.1", "kernel image")] {
        fs::write(started.esp.0.path().join(name), content).unwrap();
    }
    started
}

impl Started {
    fn write_kernel(&self, slot: &str) -> Output {
        let path = |name: &str| self.esp.0.path().join(name).display().to_string();
        self.run(&format!(
            "write-kernel {slot} {} {}",
            path("part.0"),
            path("part.1")
        ))
    }
}

/// The names of a box after an update has brought slot b a kernel image, and before it is the
/// primary one.
const WRITTEN: [&str; 2] = ["ashlar-1-b+0-3.efi", "ashlar-2-a+3.efi"];

#[test]
fn an_update_goes_from_one_slot_to_the_other_and_each_step_leaves_one_that_starts() {
    let box_a = updated(&["ashlar-2-a+3.efi", "ashlar-1-b+3.efi"]);
    let step = |words: &str, names: &[&str], primary: &str| {
        assert!(box_a.run(words).status.success(), "{words}");
        assert_eq!(box_a.esp.names(), names, "{words}");
        assert_eq!(box_a.esp.slot("get-primary").as_deref(), Some(primary));
    };
    step("set-state b bad", &WRITTEN, "a");
    step("remove-kernel b", &["ashlar-2-a+3.efi"], "a");
    let output = box_a.write_kernel("b");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(box_a.esp.names(), WRITTEN);
    assert_eq!(box_a.esp.slot("get-primary").as_deref(), Some("a"));
    let written = fs::read_to_string(box_a.esp.entries().join(WRITTEN[0])).unwrap();
    assert_eq!(written, "a new kernel image");
    let names = ["ashlar-2-a+3.efi", "ashlar-3-b+3.efi"];
    step("set-primary b", &names, "b");
}

#[test]
fn what_an_update_left_unfinished_is_no_kernel_image_and_is_removed() {
    for cut in ["", "half a kernel im"] {
        let esp = Esp::with(&["ashlar-2-a+3.efi"]);
        fs::write(esp.entries().join("ashlar-unfinished"), cut).unwrap();
        assert_eq!(esp.slot("get-primary").as_deref(), Some("a"));
        assert_eq!(esp.slot("get-state b").as_deref(), Some("bad"));
        assert_eq!(esp.names(), ["ashlar-2-a+3.efi"]);
        assert!(esp.complaint("set-primary b").contains("no kernel image"));
    }
}

/// The check of the file system leaves one of the two names empty, whichever.
#[test]
fn a_cut_while_a_kernel_image_gets_its_name_leaves_it_or_none() {
    let names = ["ashlar-2-a+3.efi", "ashlar-unfinished", WRITTEN[0]];
    for (emptied, left) in [(names[1], &WRITTEN[..]), (names[2], &names[..1])] {
        let cut = updated(&names);
        fs::write(cut.esp.entries().join(emptied), "").unwrap();
        assert_eq!(cut.esp.slot("get-primary").as_deref(), Some("a"));
        assert_eq!(cut.esp.names(), left);
        assert!(cut.write_kernel("b").status.success());
        assert_eq!(cut.esp.names(), WRITTEN);
    }
}

#[test]
fn a_kernel_image_that_is_not_on_the_disk_as_it_was_gets_no_name() {
    for (program, does) in [
        ("dd", "echo something else"),
        ("dd", "exit 1"),
        ("sync", "exit 1"),
    ] {
        let failing = updated(&["ashlar-2-a+3.efi", "ashlar-1-b+0-3.efi"]);
        failing.answers(program, does);
        let output = failing.write_kernel("b");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(complaint.contains("cannot be written"), "{complaint}");
        assert_eq!(failing.esp.names(), ["ashlar-2-a+3.efi"]);
    }
}

#[test]
fn the_slot_that_runs_keeps_its_kernel_image() {
    let running = updated(&COUNTED);
    for output in [running.run("remove-kernel a"), running.write_kernel("a")] {
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(
            complaint.contains("the one that was started"),
            "{complaint}"
        );
        assert_eq!(running.esp.names(), COUNTED);
    }
}

#[test]
fn a_kernel_image_is_of_files_that_are_there() {
    let missing = updated(&CONFIRMED);
    let output = missing.run("write-kernel b /nowhere/kernel.efi");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("no file /nowhere"), "{complaint}");
    fs::write(missing.esp.0.path().join("part.0"), "").unwrap();
    fs::write(missing.esp.0.path().join("part.1"), "").unwrap();
    assert_eq!(missing.esp.names(), CONFIRMED);
    assert!(!missing.write_kernel("b").status.success());
    assert_eq!(missing.esp.names(), ["ashlar-2-a+3.efi"]);
}

#[test]
fn what_there_is_to_fall_back_to_is_kept_until_the_slot_that_runs_is_good() {
    let unconfirmed = updated(&["ashlar-2-a+2-1.efi", "ashlar-1-b+3.efi"]);
    let output = unconfirmed.run("set-state b bad");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("not known to be good"), "{complaint}");
    assert_eq!(unconfirmed.esp.names(), COUNTED);
    // A slot that is bad already is nothing to fall back to, and an update may be what helps.
    let last = updated(&["ashlar-2-a+0-3.efi", "ashlar-1-b+0-3.efi"]);
    assert!(last.run("set-state b bad").status.success());
    assert!(last.run("set-state a bad").status.success());
}

#[test]
fn a_slot_that_lost_its_kernel_image_while_it_runs_has_the_other_to_fall_back_to() {
    for words in ["set-state b bad", "remove-kernel b"] {
        let lost = updated(&["ashlar-1-b+3.efi"]);
        assert!(!lost.run(words).status.success(), "{words}");
        assert_eq!(lost.esp.names(), ["ashlar-1-b+3.efi"], "{words}");
    }
}

#[test]
fn the_slot_that_runs_is_confirmed_by_its_start_alone() {
    let names = ["ashlar-1-b+3.efi", "ashlar-2-a+2-1.efi"];
    let unconfirmed = updated(&names);
    assert!(!unconfirmed.run("set-state a good").status.success());
    assert!(unconfirmed.run("set-primary a").status.success());
    assert_eq!(unconfirmed.esp.names(), names);
    // It comes first, and is no better for that.
    let second = updated(&["ashlar-1-a+2-1.efi", "ashlar-2-b+0-3.efi"]);
    assert!(second.run("set-primary a").status.success());
    assert_eq!(
        second.esp.names(),
        ["ashlar-2-b+0-3.efi", "ashlar-3-a+2-1.efi"]
    );
}

#[test]
fn of_two_slots_of_one_order_the_one_made_primary_comes_first() {
    let esp = Esp::with(&["ashlar-1-a+3.efi", "ashlar-1-b+0-3.efi"]);
    esp.slot("set-primary b").unwrap();
    assert_eq!(esp.names(), ["ashlar-1-a+3.efi", "ashlar-2-b+3.efi"]);
    assert_eq!(esp.slot("get-primary").as_deref(), Some("b"));
}

/// Whether a box takes a bundle: its status.
fn accepts(floor: &str, manifest: &str) -> Option<i32> {
    accepts_images(floor, manifest, IMAGES)
}

/// What is in a bundle, and what is done with it, as RAUC writes it.
const IMAGES: &str = "\n[bundle]\nformat=verity\n\n[hooks]\nfilename=hook\n\n\
                      [image.rootfs]\nsha256=00\nsize=4096\nfilename=root.img\n\
                      hooks=pre-install;\n\n[image.kernel]\nhooks=install;\n";

fn accepts_images(floor: &str, manifest: &str, images: &str) -> Option<i32> {
    let directory = tempfile::tempdir().unwrap();
    let conf = directory.path().join("system.conf");
    fs::write(&conf, format!("[system]\ncompatible=box-1\n{floor}\n")).unwrap();
    let manifest = format!("[update]\n{manifest}\n{images}");
    fs::write(directory.path().join("manifest.raucm"), manifest).unwrap();
    let output = Command::new(program("accept"))
        .env("ACCEPT_CONF", conf)
        .env("RAUC_BUNDLE_MOUNT_POINT", directory.path())
        .output()
        .unwrap();
    output.status.code()
}

#[test]
fn a_bundle_for_other_boxes_is_not_accepted_whatever_the_caller_asked_for() {
    assert_eq!(accepts("", "compatible=box-1\nversion=1.0.0"), Some(0));
    for other in [
        "compatible=box-2",
        "compatible=",
        "",
        "compatible=box-1\ncompatible=box-2",
    ] {
        assert_eq!(accepts("", other), Some(10), "{other}");
    }
}

#[test]
fn a_bundle_that_would_leave_a_kernel_image_of_another_root_is_not_accepted() {
    let good = "compatible=box-1\nversion=1.0.0";
    for with in [
        IMAGES.replace("pre-install;", "pre-install"),
        IMAGES.replace("pre-install;", "pre-install;post-install;"),
        IMAGES.replace("=install;", "=post-install;install;"),
    ] {
        assert_eq!(accepts_images("", good, &with), Some(0), "{with}");
    }
    for without in [
        IMAGES.replace("hooks=pre-install;", "hooks=post-install;"),
        IMAGES.replace("hooks=install;\n", ""),
        IMAGES.replace("=install;", "=pre-install;"),
        IMAGES.replace("[image.kernel]\nhooks=install;\n", ""),
        IMAGES.replace("[image.rootfs]", "[image.other]"),
    ] {
        assert_eq!(accepts_images("", good, &without), Some(12), "{without}");
    }
}

#[test]
fn a_bundle_older_than_the_floor_is_not_accepted_whatever_the_caller_asked_for() {
    let status = |version: &str| {
        let manifest = format!("compatible=box-1\n{version}");
        accepts("min-bundle-version=1.10.0", &manifest)
    };
    for good in ["1.10.0", "1.10.1-rc.1", "1.10.0+1", "2.0.0", "10.0.0"] {
        assert_eq!(status(&format!("version={good}")), Some(0), "{good}");
    }
    for bad in ["1.9.9", "1.10.0-rc.1", "0.99.99", ""] {
        assert_eq!(status(&format!("version={bad}")), Some(11), "{bad}");
    }
    assert_eq!(status(""), Some(11));
}

#[test]
fn a_partition_is_the_systems_by_the_disk_that_the_root_is_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let make = |name: &str| fs::create_dir_all(path(name)).unwrap();
    for place in ["sys/dev/block", "sys/class/block", "bin"] {
        make(place);
    }
    for (disk, parts) in [("vda", ["vda1", "vda3"]), ("vdb", ["vdb1", "vdb3"])] {
        for part in parts {
            make(&format!("sys/devices/{disk}/{part}"));
            let to = path(&format!("sys/devices/{disk}/{part}"));
            symlink(to, path(&format!("sys/class/block/{part}"))).unwrap();
        }
    }
    make("sys/devices/dm-0/slaves");
    symlink(
        path("sys/devices/vdb/vdb3"),
        path("sys/devices/dm-0/slaves/vdb3"),
    )
    .unwrap();
    let mountpoint = path("bin/mountpoint");
    fs::write(&mountpoint, "#!/bin/sh\necho 254:3\n").unwrap();
    fs::set_permissions(&mountpoint, fs::Permissions::from_mode(0o755)).unwrap();
    let is = |partition: &str| {
        let output = Command::new(program("on-system-disk"))
            .arg(partition)
            .env(
                "PATH",
                format!("{}:{}", path("bin").display(), env!("PATH")),
            )
            .env("ON_SYSTEM_DISK_SYS", path("sys"))
            .output()
            .unwrap();
        output.status.success()
    };
    // Verified, and as it lies on the disk.
    for root in ["dm-0", "vdb/vdb3"] {
        let device = path("sys/dev/block/254:3");
        let _ = fs::remove_file(&device);
        symlink(path(&format!("sys/devices/{root}")), &device).unwrap();
        assert!(is("vdb1") && is("vdb3"), "{root}");
        assert!(!is("vda1") && !is("vda3"), "{root}");
    }
    assert!(!is("vdc1"));
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
