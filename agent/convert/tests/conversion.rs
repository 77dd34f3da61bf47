//! The agent's end of a conversion, with the real process and with processes that misbehave.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use ashlar_convert::{Conversion, ConvertError, Order};
use ashlar_image_formats::Format;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

fn order(program: &Path, image: &Path) -> Order {
    Order {
        program: program.to_owned(),
        length: fs::metadata(image).unwrap().len(),
        limit: 1 << 30,
        format: None,
    }
}

fn start(program: &Path, image: &Path) -> Conversion {
    let file = File::open(image).unwrap();
    Conversion::spawn(&order(program, image), file.into()).unwrap()
}

fn real() -> PathBuf {
    env!("CARGO_BIN_EXE_ashlar-convert").into()
}

/// A disk of 20 MiB with three stretches of data, one of them of zeros.
fn disk() -> Vec<u8> {
    let mut disk = vec![0; 20 << 20];
    for (at, byte) in disk[70_000..3_000_000].iter_mut().enumerate() {
        *byte = (at / 7 % 251) as u8;
    }
    disk[(12 << 20) + 5] = 1;
    let last = disk.len() - 1;
    disk[last] = 2;
    disk
}

fn image(dir: &TempDir, options: &[&str]) -> PathBuf {
    let (raw, path) = (dir.path().join("raw"), dir.path().join("image"));
    fs::write(&raw, disk()).unwrap();
    let status = Command::new("qemu-img")
        .args(["convert", "-f", "raw"])
        .args(options)
        .args([&raw, &path])
        .status()
        .expect("QEMU's tools are installed");
    assert!(status.success());
    path
}

/// The disk that frames describe, which must be whole and in order.
fn decode(mut frames: &[u8]) -> Vec<u8> {
    let (whole, mut disk) = (frames, Vec::new());
    loop {
        let (head, rest) = frames.split_at(24);
        let long = |at: usize| u64::from_be_bytes(head[at..at + 8].try_into().unwrap());
        let (offset, length) = (long(8) as usize, long(16) as usize);
        assert_eq!(offset, disk.len());
        assert!(head[0] == 3 || (offset | length).is_multiple_of(4096));
        frames = rest;
        match head[0] {
            0 => {
                let (data, rest) = frames.split_at(length);
                assert!(data.len() <= ashlar_convert::MOST_DATA);
                disk.extend_from_slice(data);
                frames = rest;
            }
            1 | 2 => disk.resize(offset + length, 0),
            3 => {
                let before = &whole[..whole.len() - 24 - 32];
                assert_eq!(rest, Sha256::digest(before).as_slice());
                return disk;
            }
            kind => panic!("no kind {kind}"),
        }
    }
}

#[test]
fn every_format_arrives_as_it_was() {
    for (format, options) in [
        (Format::Raw, &["-O", "raw"][..]),
        (Format::Qcow2, &["-O", "qcow2"]),
        (Format::Qcow2, &["-O", "qcow2", "-c"]),
        (
            Format::Qcow2,
            &["-O", "qcow2", "-o", "cluster_size=512", "-S", "512"],
        ),
        (
            Format::Qcow2,
            &[
                "-O",
                "qcow2",
                "-c",
                "-o",
                "compression_type=zstd,cluster_size=2M",
            ],
        ),
        (
            Format::Vmdk,
            &["-O", "vmdk", "-o", "subformat=streamOptimized"],
        ),
        (Format::Vhd, &["-O", "vpc", "-o", "force_size=on"]),
        (Format::Vhdx, &["-O", "vhdx"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut conversion = start(&real(), &image(&dir, options));
        let opened = conversion.opened().unwrap();
        assert_eq!((opened.format, opened.size), (format, 20 << 20));
        let mut frames = Vec::new();
        conversion.frames().read_to_end(&mut frames).unwrap();
        conversion.finish().unwrap();
        assert!(frames.len() < 4 << 20, "{options:?}: zeros were left out");
        assert!(decode(&frames) == disk(), "{options:?}");
    }
}

#[test]
fn a_refusal_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(&dir, &["-O", "qcow2"]);
    let mut order = order(&real(), &path);
    order.limit = 1 << 20;
    let open = |order: &Order| {
        let file = File::open(&path).unwrap();
        let mut conversion = Conversion::spawn(order, file.into()).unwrap();
        conversion.opened().unwrap_err()
    };
    let error = open(&order);
    assert!(error.is_refusal());
    assert!(matches!(error, ConvertError::TooLarge(_)), "{error:?}");
    let told = "the qcow2 image holds a disk of 20971520 bytes; at most 1048576 fit";
    assert_eq!(error.to_string(), told);
    (order.limit, order.format) = (1 << 30, Some(Format::Vhdx));
    let error = open(&order);
    assert!(matches!(error, ConvertError::Refused(_)), "{error:?}");
    assert!(error.to_string().contains("no vhdx signature"));
}

#[test]
fn damage_found_on_the_way_is_a_refusal_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(&dir, &["-O", "qcow2"]);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - (1 << 20)]).unwrap();
    let mut conversion = start(&real(), &path);
    conversion.opened().unwrap();
    let mut frames = Vec::new();
    conversion.frames().read_to_end(&mut frames).unwrap();
    let error = conversion.finish().unwrap_err();
    assert!(error.is_refusal(), "{error}");
    assert!(error.to_string().contains("cut short"), "{error}");
}

/// A program that does as the shell says.
fn misbehaving(dir: &TempDir, script: &str) -> PathBuf {
    let path = dir.path().join("program");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

fn ended(script: &str) -> ConvertError {
    let dir = tempfile::tempdir().unwrap();
    let path = image(&dir, &["-O", "qcow2"]);
    let mut conversion = start(&misbehaving(&dir, script), &path);
    match conversion.opened() {
        Err(error) => error,
        Ok(_) => {
            std::io::copy(conversion.frames(), &mut std::io::sink()).unwrap();
            conversion.finish().unwrap_err()
        }
    }
}

#[test]
fn a_process_that_dies_is_an_error_and_no_more() {
    let error = ended("kill -SEGV $$");
    assert_eq!(error.signal(), Some(11), "{error}");
    let error = ended("echo open qcow2 5 full >&2; kill -KILL $$");
    assert_eq!(error.signal(), Some(9), "{error}");
    let error = ended("head -c 1000000 /dev/zero >&2");
    assert!(matches!(error, ConvertError::Died(_)), "{error}");
    let error = ended("echo 'failed because' >&2; exit 1");
    assert_eq!(error.to_string(), "failed to convert the image: because");
}

#[test]
fn a_process_that_says_all_is_well_and_stays_is_ended() {
    let error = ended("echo open qcow2 5 full >&2; exec >&- 2>&-; sleep 600");
    assert_eq!(error.signal(), Some(9), "{error}");
}

fn stopped(program: &Path, image: &Path, until_open: bool) {
    let mut conversion = start(program, image);
    if until_open {
        conversion.opened().unwrap();
    }
    let stop = conversion.stopper();
    let stopping = thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        stop.stop();
    });
    let error = match until_open {
        false => conversion.opened().unwrap_err(),
        true => conversion.finish().unwrap_err(),
    };
    stopping.join().unwrap();
    assert!(matches!(error, ConvertError::Stopped), "{error}");
}

#[test]
fn a_process_that_hangs_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(&dir, &["-O", "qcow2"]);
    stopped(&misbehaving(&dir, "exec sleep 600"), &path, false);
    let open = "echo open qcow2 5 full >&2; exec sleep 600";
    stopped(&misbehaving(&dir, open), &path, true);
    // The real one waits for somebody to read.
    stopped(&real(), &path, true);
}

#[test]
fn a_program_that_is_missing_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(&dir, &["-O", "qcow2"]);
    let order = order(&dir.path().join("none"), &path);
    let error = Conversion::spawn(&order, File::open(&path).unwrap().into()).unwrap_err();
    assert!(matches!(error, ConvertError::Run(_)), "{error}");
}
