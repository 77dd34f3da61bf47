//! Images that lie, are incomplete, or want too much, are refused by name; none costs memory.

mod images;

use std::fs;
use std::path::Path;

use ashlar_image_formats::{Format, Image, ImageError};
use images::{disk, qemu_img, scratch};

fn made(options: &[&str]) -> Vec<u8> {
    let dir = scratch();
    let (raw, path) = (dir.path().join("raw"), dir.path().join("image"));
    fs::write(&raw, disk(3 << 20)).unwrap();
    qemu_img(
        &[&["convert", "-f", "raw"], options].concat(),
        &[&raw, &path],
    );
    fs::read(path).unwrap()
}

fn created(options: &[&str], size: &str) -> Vec<u8> {
    let dir = scratch();
    let path = dir.path().join("image");
    let command = [&["create", "-q"], options].concat();
    qemu_img(&command, &[&path, Path::new(size)]);
    fs::read(path).unwrap()
}

fn patched(mut image: Vec<u8>, patches: &[(usize, &[u8])]) -> Vec<u8> {
    for (at, bytes) in patches {
        image[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    image
}

const LIMIT: u64 = 1 << 40;

/// Opens and walks the image to its end.
fn walk(image: Vec<u8>, format: Option<Format>) -> Result<u64, ImageError> {
    let mut image = Image::open(image, format, LIMIT)?;
    let (mut buffer, mut data) = (vec![0; 1 << 20], 0);
    while let Some(piece) = image.next(&mut buffer)? {
        if piece.kind == ashlar_image_formats::Kind::Data {
            data += piece.length;
        }
    }
    Ok(data)
}

fn refusal(image: Vec<u8>) -> String {
    let error = walk(image, None).expect_err("it must be refused");
    assert!(error.is_refusal(), "{error}");
    error.to_string()
}

#[track_caller]
fn refused(image: Vec<u8>, why: &str) {
    let told = refusal(image);
    assert!(told.contains(why), "{told:?} does not say {why:?}");
}

fn be32(value: u32) -> [u8; 4] {
    value.to_be_bytes()
}

fn be64(value: u64) -> [u8; 8] {
    value.to_be_bytes()
}

#[test]
fn a_qcow2_that_needs_another_file_is_refused() {
    let dir = scratch();
    let (base, data) = (dir.path().join("base"), dir.path().join("data"));
    fs::write(&base, [0; 4096]).unwrap();
    let backing = format!("backing_file={},backing_fmt=raw", base.display());
    let options = ["-f", "qcow2", "-o", &backing];
    refused(created(&options, "1M"), "a backing file");
    let external = format!("data_file={}", data.display());
    let options = ["-f", "qcow2", "-o", &external];
    refused(created(&options, "1M"), "an external data file");
    // One that names itself.
    let own = patched(
        made(&["-O", "qcow2"]),
        &[(8, &be64(104)), (16, &be32(5)), (104, b"image")],
    );
    refused(own, "a backing file");
}

#[test]
fn an_encrypted_qcow2_is_refused() {
    // Making one with LUKS measures the machine, and gives up when that is busy.
    let options = [
        "--object",
        "secret,id=s,data=abcdef",
        "-f",
        "qcow2",
        "-o",
        "encrypt.format=aes,encrypt.key-secret=s",
    ];
    let aes = created(&options, "1M");
    let luks = patched(aes.clone(), &[(32, &be32(2))]);
    refused(aes, "encrypted: AES");
    refused(luks, "encrypted: LUKS");
}

#[test]
fn a_qcow2_that_lies_in_its_header_is_refused() {
    type Patch<'a> = (usize, &'a [u8]);
    let image = made(&["-O", "qcow2"]);
    let cases: &[(&str, &[Patch<'_>])] = &[
        ("version 4", &[(4, &be32(4))]),
        ("cluster size", &[(20, &be32(8))]),
        ("cluster size", &[(20, &be32(22))]),
        ("cluster size", &[(20, &be32(u32::MAX))]),
        ("larger than any", &[(24, &be64(u64::MAX))]),
        ("L1 table is larger", &[(24, &be64(1 << 62))]),
        ("L1 table is larger", &[(36, &be32(u32::MAX))]),
        ("too small for its disk", &[(36, &be32(0))]),
        ("too small for its disk", &[(24, &be64(3 << 40))]),
        ("beginning", &[(40, &be64(0))]),
        ("beginning", &[(40, &be64(3 << 16 | 8))]),
        ("L1 table lies at", &[(40, &be64(1 << 62))]),
        ("L1 table lies at", &[(40, &be64(u64::MAX << 16))]),
        ("the features 0x20", &[(72, &be64(1 << 5))]),
        ("says so itself", &[(72, &be64(2))]),
        ("compression", &[(72, &be64(8))]),
        ("compression method 9", &[(72, &be64(8)), (104, &[9])]),
        ("impossible length", &[(100, &be32(8))]),
        (
            "too small for subclusters",
            &[(20, &be32(9)), (72, &be64(16))],
        ),
    ];
    for (why, patches) in cases {
        refused(patched(image.clone(), patches), why);
    }
}

#[test]
fn a_disk_larger_than_allowed_is_refused() {
    for (options, size) in [
        (["-f", "qcow2"], "2T"),
        (["-f", "vmdk"], "2T"),
        (["-f", "vpc"], "1500G"),
        (["-f", "vhdx"], "2T"),
    ] {
        let image = created(&options, size);
        let told = Image::open(image, None, 1 << 40).err().expect("too large");
        assert!(matches!(told, ImageError::TooLarge { .. }), "{told}");
    }
}

/// Where a qcow2 of QEMU's has its tables.
fn places(image: &[u8]) -> (usize, usize) {
    let long = |at: usize| {
        let bytes: [u8; 8] = image[at..at + 8].try_into().unwrap();
        (u64::from_be_bytes(bytes) & 0x00ff_ffff_ffff_fe00) as usize
    };
    let l1 = long(40);
    (l1, long(l1))
}

#[test]
fn a_qcow2_whose_tables_lie_ends_in_a_refusal_and_never_runs_on() {
    let image = made(&["-O", "qcow2"]);
    let (l1, l2) = places(&image);
    let far = be64(1 << 55 | 1 << 63);
    refused(patched(image.clone(), &[(l1, &far)]), "an L2 table lies at");
    refused(patched(image.clone(), &[(l2, &far)]), "a cluster lies at");
    refused(patched(image.clone(), &[(l1, &be64(0x1_0200))]), "L1");
    refused(patched(image.clone(), &[(l2, &be64(0x1_0200))]), "L2");
    refused(patched(image.clone(), &[(l2, &be64(2))]), "L2");
    refused(patched(image.clone(), &[(l2, &be64(3 << 62))]), "L2");
    // Tables that are their own tables hold no entries, or end all the same.
    for own in [l1, l2, 0] {
        let own = be64(own as u64 | 1 << 63);
        drop(walk(patched(image.clone(), &[(l1, &own)]), None));
        drop(walk(patched(image.clone(), &[(l2, &own)]), None));
    }
}

#[test]
fn a_compressed_cluster_never_gives_more_than_itself() {
    let image = made(&["-O", "qcow2", "-c"]);
    let (_, l2) = places(&image);
    let mut image = image;
    let (at, bomb) = (image.len(), deflated_zeros());
    image.extend_from_slice(&bomb);
    // As many sectors as an entry of this cluster size can tell.
    let sectors = ((bomb.len() as u64).div_ceil(512)).min(255);
    let entry = 1 << 62 | sectors << 54 | at as u64;
    let image = patched(image, &[(l2, &be64(entry))]);
    assert!(
        walk(image.clone(), None).is_ok(),
        "64 KiB of its gigabyte are taken"
    );
    // A stream that ends too early does not fill its cluster.
    refused(patched(image, &[(at, &[3, 0])]), "does not unpack");
}

/// A gigabyte, by the shortest code there is: blocks that repeat one zero 258 bytes at a time.
fn deflated_zeros() -> Vec<u8> {
    // Fixed codes: literal 0 (8 bits), then length 258 (8 bits) with distance 1 (5 bits).
    let mut bits = vec![false, true, false];
    bits.extend([false, false, true, true, false, false, false, false]);
    for _ in 0..40_000 {
        bits.extend([true, true, false, false, false, true, false, true]);
        bits.extend([false; 5]);
    }
    let byte = |bits: &[bool]| {
        let ones = bits.iter().enumerate();
        ones.fold(0, |byte, (at, one)| byte | u8::from(*one) << at)
    };
    bits.chunks(8).map(byte).collect()
}

#[test]
fn a_zstd_frame_that_wants_a_large_window_is_refused() {
    let image = made(&["-O", "qcow2", "-c", "-o", "compression_type=zstd"]);
    let (_, l2) = places(&image);
    let mut image = image;
    let at = image.len();
    // Magic; no sizes; a window of 2 GiB; one block that repeats a byte.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0, 0xa8, 3, 0, 8, 0];
    image.extend_from_slice(&frame);
    let entry = 1 << 62 | at as u64;
    refused(patched(image, &[(l2, &be64(entry))]), "does not unpack");
}

#[test]
fn a_disk_of_nothing_costs_nothing() {
    let image = created(&["-f", "qcow2", "-o", "cluster_size=2M"], "1T");
    assert_eq!(walk(image, None).unwrap(), 0);
}

#[test]
fn an_image_cut_short_anywhere_is_refused_or_whole() {
    for options in [
        &["-O", "qcow2"][..],
        &["-O", "qcow2", "-c"],
        &["-O", "vmdk"],
        &["-O", "vmdk", "-o", "subformat=streamOptimized"],
        &["-O", "vpc"],
        &["-O", "vhdx"],
    ] {
        let image = made(options);
        let whole = walk(image.clone(), None).unwrap();
        let format = Image::open(image.clone(), None, LIMIT).map(|image| image.format());
        for part in 0..24 {
            let cut = image[..image.len() * part / 24].to_vec();
            if let Ok(data) = walk(cut, Some(*format.as_ref().unwrap())) {
                assert_eq!(data, whole, "{options:?} cut at {part}/24");
            }
        }
    }
}

fn descriptor(image: &[u8], from: &str, to: &str) -> Vec<u8> {
    let at = image
        .windows(from.len())
        .position(|part| part == from.as_bytes());
    let at = at.unwrap_or_else(|| panic!("no {from} in it"));
    patched(image.to_vec(), &[(at, to.as_bytes())])
}

#[test]
fn a_vmdk_that_needs_another_file_is_refused() {
    let image = made(&["-O", "vmdk"]);
    let parent = descriptor(&image, "parentCID=ffffffff", "parentCID=deadbeef");
    refused(parent, "a parent");
    let other = descriptor(&image, "monolithicSparse", "twoGbMaxExtentSp");
    refused(other, "files of their own");
    let hint = descriptor(&image, "ddb.virtualHWVersion", "parentFileNameHint=a");
    refused(hint, "a parent");
    let several = descriptor(&image, "ddb.virtualHWVersion", "RW 5 FLAT \"/etc/x\" ");
    refused(several, "several extents");
    let flat = created(&["-f", "vmdk", "-o", "subformat=monolithicFlat"], "1M");
    refused(flat, "extents elsewhere");
    let extent = patched(image.clone(), &[(28, &[0; 16])]);
    refused(extent, "of which it is an extent");
    refused(patched(image, &[(0, b"COWD")]), "redo log");
}

#[test]
fn a_vmdk_that_lies_is_refused() {
    let image = made(&["-O", "vmdk"]);
    let le64 = |value: u64| value.to_le_bytes();
    type Patch<'a> = (usize, &'a [u8]);
    let cases: &[(&str, &[Patch<'_>])] = &[
        ("version 9", &[(4, &[9])]),
        ("contradicts", &[(12, &le64(1))]),
        ("grains", &[(20, &le64(0))]),
        ("grains", &[(20, &le64(1 << 40))]),
        ("tables have", &[(44, &[0; 4])]),
        ("tables have", &[(44, &[0xff; 4])]),
        ("grain directory lies", &[(56, &le64(1 << 40))]),
        ("no grain directory", &[(56, &le64(0))]),
        ("footer", &[(56, &le64(u64::MAX))]),
        ("impossible length", &[(36, &le64(1 << 50))]),
        ("compression method 7", &[(8, &[3, 0, 1]), (77, &[7])]),
    ];
    for (why, patches) in cases {
        refused(patched(image.clone(), patches), why);
    }
    let stream = made(&["-O", "vmdk", "-o", "subformat=streamOptimized"]);
    let marker = stream.windows(2).position(|part| part == [0x78, 0x9c]);
    let marker = marker.expect("a grain") - 12;
    let long = patched(stream.clone(), &[(marker + 8, &[0xff; 4])]);
    refused(long, "impossible length");
    let moved = patched(stream.clone(), &[(marker, &[0x77; 8])]);
    refused(moved, "another place");
    let noise = patched(stream, &[(marker + 12, &[0xff; 8])]);
    refused(noise, "does not unpack");
}

/// A vhd's footer, changed and signed again.
fn footer(mut image: Vec<u8>, patches: &[(usize, &[u8])]) -> Vec<u8> {
    let at = image.len() - 512;
    for (place, bytes) in patches {
        image[at + place..at + place + bytes.len()].copy_from_slice(bytes);
    }
    sign_sum(&mut image[at..], 64);
    image
}

fn sign_sum(bytes: &mut [u8], own: usize) {
    bytes[own..own + 4].fill(0);
    let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
    bytes[own..own + 4].copy_from_slice(&be32(!sum));
}

#[test]
fn a_vhd_that_lies_or_needs_a_parent_is_refused() {
    let image = made(&["-O", "vpc"]);
    refused(footer(image.clone(), &[(60, &be32(4))]), "a parent");
    refused(footer(image.clone(), &[(60, &be32(7))]), "type 7");
    refused(
        footer(image.clone(), &[(48, &be64(u64::MAX))]),
        "impossible size",
    );
    refused(footer(image.clone(), &[(48, &be64(1 << 40))]), "too small");
    refused(
        footer(image.clone(), &[(16, &be64(u64::MAX))]),
        "the header lies",
    );
    refused(footer(image.clone(), &[(60, &be32(2))]), "not as long");
    let last = image.len() - 1;
    let mut unsigned = image.clone();
    unsigned[last] ^= 1;
    refused(unsigned, "footer's checksum");
    let header = |patches: &[(usize, &[u8])]| {
        let mut image = patched(image.clone(), patches);
        sign_sum(&mut image[512..1536], 36);
        image
    };
    refused(header(&[(512 + 32, &be32(0))]), "block size");
    refused(header(&[(512 + 32, &be32(3 << 20))]), "block size");
    refused(header(&[(512 + 28, &be32(0))]), "too small");
    refused(
        header(&[(512 + 16, &be64(1 << 60))]),
        "table of blocks lies",
    );
    refused(
        patched(image.clone(), &[(1536, &be32(0xffff_0000))]),
        "cut short",
    );
}

/// Signs a vhdx's structure again.
fn sign_crc(bytes: &mut [u8]) {
    bytes[4..8].fill(0);
    let crc = crc32c::crc32c(bytes);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
}

const KIB: usize = 1024;

#[test]
fn a_vhdx_that_lies_or_needs_a_parent_is_refused() {
    let image = made(&["-O", "vhdx"]);
    refused(
        patched(image.clone(), &[(64 * KIB, b"x"), (128 * KIB, b"x")]),
        "headers",
    );
    refused(
        patched(image.clone(), &[(192 * KIB, b"x"), (256 * KIB, b"x")]),
        "region tables",
    );
    let one = patched(image.clone(), &[(64 * KIB, b"x"), (192 * KIB, b"x")]);
    assert!(walk(one, None).is_ok(), "one of two is enough");
    let (table, metadata) = regions(&image);
    let item = |guid: [u8; 4]| {
        let part = &image[metadata..metadata + 64 * KIB];
        let entries = part.chunks(32).skip(1);
        let entry = entries.clone().position(|entry| entry.starts_with(&guid));
        let entry = metadata + 32 * (entry.expect("the item is there") + 1);
        metadata + le32(&image, entry + 16)
    };
    let parameters = item([0x37, 0x67, 0xa1, 0xca]);
    refused(
        patched(image.clone(), &[(parameters + 4, &[2])]),
        "a parent",
    );
    refused(
        patched(image.clone(), &[(parameters, &[0; 4])]),
        "block size",
    );
    let size = item([0x24, 0x42, 0xa5, 0x2f]);
    refused(
        patched(image.clone(), &[(size, &[0xff; 8])]),
        "impossible size",
    );
    let block = [7, 0, 0x40];
    refused(patched(image.clone(), &[(table, &block)]), "a parent");
    refused(
        patched(image.clone(), &[(table, &[6, 0, 0, 0, 0, 0, 0, 0xff])]),
        "a block lies",
    );
    refused(patched(image.clone(), &[(table, &[5])]), "no entry");
}

#[test]
fn a_vhdx_with_changes_in_its_log_is_refused() {
    let mut image = made(&["-O", "vhdx"]);
    let log = le32(&image, 64 * KIB + 72);
    for at in [64 * KIB, 128 * KIB] {
        image[at + 48..at + 64].fill(0xab);
        sign_crc(&mut image[at..at + 4 * KIB]);
    }
    assert!(walk(image.clone(), None).is_ok(), "an empty log is none");
    image[log..log + 4].copy_from_slice(b"loge");
    image[log + 32..log + 48].fill(0xab);
    refused(image, "not closed cleanly");
}

fn le32(image: &[u8], at: usize) -> usize {
    u32::from_le_bytes(image[at..at + 4].try_into().unwrap()) as usize
}

/// Where the table of blocks and the metadata of a vhdx are.
fn regions(image: &[u8]) -> (usize, usize) {
    let entries = [0, 1].map(|entry| 192 * KIB + 16 + entry * 32);
    let place = |first: u8| {
        let entry = entries.iter().find(|at| image[**at] == first);
        le32(image, entry.expect("the region is there") + 16)
    };
    (place(0x66), place(0x06))
}

#[test]
fn other_bytes_are_refused_when_a_format_is_named() {
    for format in Format::ALL {
        if format == Format::Raw {
            continue;
        }
        for bytes in [vec![], vec![0; 511], vec![0; 1 << 20]] {
            let error = walk(bytes, Some(format)).expect_err("no image");
            assert!(error.is_refusal(), "{error}");
        }
    }
}
