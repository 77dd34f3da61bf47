//! The program that flashes a new box's disk, on disks as images have them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::command::run;
use crate::disk::Disk;

/// Where the factory's file system is, in bytes.
const FACTORY: u64 = 193 << 20;

/// A station with an authority, an image, and a disk that is larger.
struct Station(tempfile::TempDir);

impl Station {
    fn new() -> Self {
        let station = Self(tempfile::tempdir().unwrap());
        let image = station.path("image");
        Disk::create(&image).unwrap().write_factory().unwrap();
        let size = fs::metadata(&image).unwrap().len();
        station.disk("disk", size + (8 << 20));
        let mut authority = Command::new("openssl");
        authority
            .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes".split(' '))
            .args("-subj /CN=factory -days 2 -keyout ca.key -out ca.pem".split(' '))
            .current_dir(&station.0);
        run(&mut authority).unwrap();
        station
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn disk(&self, name: &str, size: u64) {
        File::create(self.path(name))
            .and_then(|file| file.set_len(size))
            .unwrap();
    }

    fn flash(&self, words: &str) -> Output {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("factory/flash");
        Command::new(program)
            .args(words.split(' '))
            .current_dir(&self.0)
            .output()
            .unwrap()
    }

    fn refused(&self, words: &str) -> String {
        let output = self.flash(words);
        assert_eq!(output.status.code(), Some(1), "{words}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// What the seed on a disk says.
    fn seed(&self, disk: &str) -> String {
        let place = format!("{}?offset={FACTORY}", self.path(disk).display());
        let mut show = Command::new("debugfs");
        let text = run(show.args(["-R", "cat seed.toml", &place])).unwrap();
        String::from_utf8(text).unwrap()
    }
}

#[test]
fn a_disk_gets_the_image_and_a_seed_and_again_the_same() {
    let station = Station::new();
    let words = "image disk --serial AX-000123 --authority ca.pem --state boxes --yes";
    let output = station.flash(words);
    assert!(output.status.success(), "{output:?}");

    let token = fs::read_to_string(station.path("boxes/AX-000123/token")).unwrap();
    let token = token.trim_end();
    assert!(token.len() == 64 && token.bytes().all(|b| b.is_ascii_hexdigit()));
    let authority = fs::read_to_string(station.path("ca.pem")).unwrap();
    let wanted = format!(
        "serial = \"AX-000123\"\ntoken = \"{token}\"\nauthority = \"\"\"\n{authority}\"\"\"\n"
    );
    assert_eq!(station.seed("disk"), wanted);
    let told = [output.stdout, output.stderr].concat();
    assert!(!String::from_utf8(told).unwrap().contains(token));
    let mut compare = Command::new("cmp");
    compare.arg(format!("--bytes={FACTORY}"));
    run(compare.args([station.path("image"), station.path("disk")])).unwrap();
    assert!(!station.path("boxes/AX-000123/seed.toml").exists());

    assert!(station.flash(words).status.success());
    assert_eq!(station.seed("disk"), wanted);
    let another = words.replace("000123", "000124");
    assert!(station.flash(&another).status.success());
    assert!(!station.seed("disk").contains(token));
}

#[test]
fn what_must_not_be_overwritten_is_not() {
    let station = Station::new();
    let size = fs::metadata(station.path("image")).unwrap().len();
    station.disk("small", size - 512);
    station.disk("blank", 1 << 20);
    fs::create_dir_all(station.path("boxes/AX-9")).unwrap();
    fs::write(station.path("boxes/AX-9/idevid.pem"), "").unwrap();
    for (words, complaint) in [
        ("image small --serial AX-1 --authority ca.pem --yes", "has"),
        ("image disk --serial AX-1 --authority ca.pem", "--yes"),
        (
            "image image --serial AX-1 --authority ca.pem --yes",
            "itself",
        ),
        (
            "image boxes --serial AX-1 --authority ca.pem --yes",
            "neither",
        ),
        (
            "image none --serial AX-1 --authority ca.pem --yes",
            "no disk",
        ),
        (
            "none disk --serial AX-1 --authority ca.pem --yes",
            "no image",
        ),
        ("blank disk --serial AX-1 --authority ca.pem --yes", "table"),
        (
            "image disk --serial AX-1 --authority ca.key --yes",
            "private",
        ),
        ("image disk --serial AX-1 --authority blank --yes", "PEM"),
        (
            "image disk --serial AX_1 --authority ca.pem --yes",
            "serial",
        ),
        (
            "image disk --serial ../1 --authority ca.pem --yes",
            "serial",
        ),
        ("image disk --serial ax-9 --authority ca.pem --yes", "case"),
        (
            "image disk --serial AX-9 --authority ca.pem --yes",
            "identity",
        ),
    ] {
        let told = station.refused(&format!("{words} --state boxes"));
        assert!(told.contains(complaint), "{words}: {told}");
    }
    let blocks = std::os::unix::fs::MetadataExt::blocks;
    assert_eq!(blocks(&fs::metadata(station.path("disk")).unwrap()), 0);
    for words in [
        "image",
        "image disk --serial",
        "image disk --serial A --state s",
    ] {
        assert_eq!(station.flash(words).status.code(), Some(2), "{words}");
    }
}
