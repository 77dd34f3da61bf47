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

/// A qcow2 of a few clusters of 4 KiB, whose disk of so many MiB is told by one L2 table again and
/// again: its entries, by turns.
fn repeated(dir: &TempDir, mib: u64, entries: [u64; 2]) -> PathBuf {
    const CLUSTER: usize = 4096;
    // One table is of 2 MiB of the disk.
    let tables = mib / 2;
    let l1_clusters = (tables as usize * 8).div_ceil(CLUSTER);
    let (l1, l2) = (CLUSTER, (1 + l1_clusters) * CLUSTER);
    let mut image = vec![0; l2 + 2 * CLUSTER];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb\0\0\0\x03");
    put(20, &12_u32.to_be_bytes());
    put(24, &(mib << 20).to_be_bytes());
    put(36, &(tables as u32).to_be_bytes());
    put(40, &(l1 as u64).to_be_bytes());
    put(96, &4_u32.to_be_bytes());
    put(100, &104_u32.to_be_bytes());
    for table in 0..tables as usize {
        put(l1 + table * 8, &(l2 as u64).to_be_bytes());
    }
    let data = (l2 + CLUSTER) as u64;
    for entry in 0..CLUSTER / 8 {
        // Whatever is no place is itself.
        let told = match entries[entry % 2] {
            DATA => data,
            other => other,
        };
        put(l2 + entry * 8, &told.to_be_bytes());
    }
    put(data as usize, &[7; CLUSTER]);
    let path = dir.path().join("image");
    fs::write(&path, image).unwrap();
    path
}

/// In [`repeated`]: the cluster that has data, one that is zeros, and none.
const DATA: u64 = u64::MAX;
const ZERO: u64 = 1;
const HOLE: u64 = 0;

/// What comes of an image without ever being held at once: how often each kind of frame came, and
/// how much of the disk they are.
#[derive(Debug, Default, PartialEq)]
struct Counted {
    data: u64,
    zeros: u64,
    holes: u64,
    size: u64,
}

/// Reads the frames one by one; `each` looks at those of data.
fn counted(frames: &mut impl Read, mut each: impl FnMut(u64, &[u8])) -> Counted {
    let (mut counted, mut bytes) = (Counted::default(), Vec::new());
    loop {
        let mut head = [0; 24];
        frames.read_exact(&mut head).unwrap();
        let long = |at: usize| u64::from_be_bytes(head[at..at + 8].try_into().unwrap());
        let (offset, length) = (long(8), long(16));
        assert_eq!(offset, counted.size);
        match head[0] {
            0 => {
                assert!(length as usize <= ashlar_convert::MOST_DATA);
                bytes.resize(length as usize, 0);
                frames.read_exact(&mut bytes).unwrap();
                each(offset, &bytes);
                counted.data += 1;
            }
            1 => counted.zeros += 1,
            2 => counted.holes += 1,
            3 => {
                frames.read_exact(&mut [0; 32]).unwrap();
                assert_eq!(frames.read(&mut [0]).unwrap(), 0);
                return counted;
            }
            kind => panic!("no kind {kind}"),
        }
        counted.size += length;
    }
}

/// The process has 128 MiB of addresses in all, its program and stack included, so whatever it comes
/// to the end of it has done in less: pieces are handed on as they come, and never gathered.
#[test]
fn a_disk_in_as_many_pieces_as_can_be_is_handed_on_piece_by_piece() {
    for (mib, entries, expected) in [
        // Each cluster of data stands alone.
        (
            16,
            [DATA, HOLE],
            Counted {
                data: 16 * 128,
                holes: 16 * 128,
                zeros: 0,
                size: 16 << 20,
            },
        ),
        // Nothing but where nothing is, told 65,536 times, from a table of 4 KiB.
        (
            256,
            [HOLE, ZERO],
            Counted {
                data: 0,
                holes: 256 * 128,
                zeros: 256 * 128,
                size: 256 << 20,
            },
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let image = repeated(&dir, mib, entries);
        assert!(fs::metadata(&image).unwrap().len() <= 20 << 10);
        let mut conversion = start(&real(), &image);
        assert_eq!(conversion.opened().unwrap().size, mib << 20);
        let seen = counted(conversion.frames(), |_, bytes| assert_eq!(bytes, [7; 4096]));
        conversion.finish().unwrap();
        assert_eq!(seen, expected);
    }
}

/// A small image of a large disk: every entry names the one compressed cluster that there is. It is
/// unpacked each time and never for more than a cluster, and the disk is no larger than it says.
#[test]
fn entries_that_name_one_compressed_cluster_are_worth_a_cluster_each() {
    const CLUSTER: usize = 64 << 10;
    let dir = tempfile::tempdir().unwrap();
    let (raw, path) = (dir.path().join("raw"), dir.path().join("image"));
    let cluster: Vec<u8> = (0..CLUSTER).map(|at| (at / 11 % 247) as u8).collect();
    fs::write(&raw, &cluster).unwrap();
    let file = File::options().write(true).open(&raw).unwrap();
    let size = 32 << 20;
    file.set_len(size).unwrap();
    let status = Command::new("qemu-img")
        .args(["convert", "-f", "raw", "-O", "qcow2", "-c"])
        .args([&raw, &path])
        .status()
        .expect("QEMU's tools are installed");
    assert!(status.success());
    let mut image = fs::read(&path).unwrap();
    let long = |at: usize| u64::from_be_bytes(image[at..at + 8].try_into().unwrap());
    let place = |at: usize| (long(at) & 0x00ff_ffff_ffff_fe00) as usize;
    let table = place(place(40));
    let entry = long(table);
    assert_eq!(entry >> 62, 1, "it is compressed");
    let entries = size as usize / CLUSTER;
    for at in 0..entries {
        image[table + at * 8..][..8].copy_from_slice(&entry.to_be_bytes());
    }
    assert!(image.len() < 512 << 10, "{}", image.len());
    fs::write(&path, image).unwrap();

    let mut conversion = start(&real(), &path);
    assert_eq!(conversion.opened().unwrap().size, size);
    let mut bytes = 0;
    let seen = counted(conversion.frames(), |_, data| {
        assert!(data.chunks(CLUSTER).all(|part| part == cluster));
        bytes += data.len() as u64;
    });
    conversion.finish().unwrap();
    assert_eq!((bytes, seen.size), (size, size));

    // Where there is room for less, it is refused before any of it is unpacked.
    let mut order = order(&real(), &path);
    order.limit = size - 1;
    let file = File::open(&path).unwrap();
    let mut conversion = Conversion::spawn(&order, file.into()).unwrap();
    let error = conversion.opened().unwrap_err();
    assert!(matches!(error, ConvertError::TooLarge(_)), "{error:?}");
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
