//! Images made by QEMU's tools in all their variants come out as those tools read them.

mod images;

use std::fs::{self, File};
use std::path::Path;

use ashlar_image_formats::{FileSource, Format, Image, Kind};
use images::{disk, qemu_img, scratch};

/// Options of `qemu-img convert`, and the format as we name it.
const VARIANTS: &[(Format, &[&str])] = &[
    (Format::Qcow2, &["-O", "qcow2"]),
    (Format::Qcow2, &["-O", "qcow2", "-o", "compat=0.10"]),
    (Format::Qcow2, &["-O", "qcow2", "-o", "cluster_size=512"]),
    (Format::Qcow2, &["-O", "qcow2", "-o", "cluster_size=4k"]),
    (Format::Qcow2, &["-O", "qcow2", "-o", "cluster_size=2M"]),
    (Format::Qcow2, &["-O", "qcow2", "-o", "extended_l2=on"]),
    (
        Format::Qcow2,
        &["-O", "qcow2", "-o", "extended_l2=on,cluster_size=16k"],
    ),
    (
        Format::Qcow2,
        &["-O", "qcow2", "-o", "extended_l2=on", "-c"],
    ),
    (Format::Qcow2, &["-O", "qcow2", "-c"]),
    (
        Format::Qcow2,
        &["-O", "qcow2", "-c", "-o", "cluster_size=512"],
    ),
    (
        Format::Qcow2,
        &["-O", "qcow2", "-c", "-o", "cluster_size=2M"],
    ),
    (Format::Qcow2, &["-O", "qcow2", "-c", "-o", "compat=0.10"]),
    (
        Format::Qcow2,
        &["-O", "qcow2", "-c", "-o", "compression_type=zstd"],
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
        Format::Qcow2,
        &["-O", "qcow2", "-o", "preallocation=metadata"],
    ),
    (
        Format::Qcow2,
        &["-O", "qcow2", "-o", "preallocation=falloc"],
    ),
    (Format::Qcow2, &["-O", "qcow2", "-o", "preallocation=full"]),
    (Format::Qcow2, &["-O", "qcow2", "-o", "lazy_refcounts=on"]),
    (Format::Qcow2, &["-O", "qcow2", "-o", "refcount_bits=1"]),
    (Format::Qcow2, &["-O", "qcow2", "-S", "0"]),
    (Format::Vmdk, &["-O", "vmdk"]),
    (Format::Vmdk, &["-O", "vmdk", "-o", "compat6"]),
    (Format::Vmdk, &["-O", "vmdk", "-o", "zeroed_grain=on"]),
    (
        Format::Vmdk,
        &["-O", "vmdk", "-o", "subformat=streamOptimized"],
    ),
    (Format::Vhd, &["-O", "vpc"]),
    (Format::Vhd, &["-O", "vpc", "-o", "force_size=on"]),
    (Format::Vhd, &["-O", "vpc", "-o", "subformat=fixed"]),
    (
        Format::Vhd,
        &["-O", "vpc", "-o", "subformat=fixed,force_size=on"],
    ),
    (Format::Vhdx, &["-O", "vhdx"]),
    (Format::Vhdx, &["-O", "vhdx", "-o", "subformat=fixed"]),
    (Format::Vhdx, &["-O", "vhdx", "-o", "block_size=1M"]),
    (Format::Vhdx, &["-O", "vhdx", "-o", "block_state_zero=off"]),
];

/// The disk as our extents tell it; nothing may be missing or come twice.
fn render(path: &Path, format: Option<Format>) -> Vec<u8> {
    let file = File::open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let source = FileSource::new(file, length);
    let mut image = Image::open(source, format, u64::MAX).unwrap();
    let (mut disk, mut buffer) = (vec![0; image.size() as usize], vec![0; 1 << 20]);
    let mut at = 0;
    while let Some(piece) = image.next(&mut buffer).unwrap() {
        assert_eq!(piece.offset, at);
        assert!(piece.length > 0);
        if piece.kind == Kind::Data {
            let part = &buffer[..piece.length as usize];
            disk[at as usize..][..part.len()].copy_from_slice(part);
        }
        at += piece.length;
    }
    assert_eq!(at, image.size());
    disk
}

/// The disk as QEMU's tools tell it.
fn expected(path: &Path, format: Format) -> Vec<u8> {
    let out = path.with_extension("expected");
    let name = if format == Format::Vhd {
        "vpc"
    } else {
        format.as_str()
    };
    qemu_img(&["convert", "-f", name, "-O", "raw"], &[path, &out]);
    fs::read(out).unwrap()
}

fn compare(path: &Path, format: Format, what: &str) {
    let expected = expected(path, format);
    assert!(render(path, Some(format)) == expected, "{what}");
    assert!(render(path, None) == expected, "{what}, detected");
}

#[test]
fn every_variant_reads_as_qemu_reads_it() {
    let dir = scratch();
    // One that no cluster size divides, and one that they all divide.
    for (name, size) in [("odd", 3_145_728 + 3 * 512), ("even", 4 << 20)] {
        let raw = dir.path().join(name);
        fs::write(&raw, disk(size)).unwrap();
        for (number, (format, options)) in VARIANTS.iter().enumerate() {
            let path = dir.path().join(format!("{name}-{number}"));
            let command = [&["convert", "-f", "raw"], *options].concat();
            qemu_img(&command, &[&raw, &path]);
            compare(&path, *format, &format!("{name} {options:?}"));
        }
    }
}

#[test]
fn empty_images_of_any_size_read_as_holes() {
    let dir = scratch();
    for (format, size) in [
        ("qcow2", "0"),
        ("qcow2", "1T"),
        ("vmdk", "1T"),
        ("vpc", "1T"),
        ("vhdx", "1T"),
        ("vmdk", "512"),
    ] {
        let path = dir.path().join(format!("{format}-{size}"));
        qemu_img(&["create", "-q", "-f", format], &[&path, Path::new(size)]);
        let file = File::open(&path).unwrap();
        let length = file.metadata().unwrap().len();
        let mut image = Image::open(FileSource::new(file, length), None, u64::MAX).unwrap();
        let (mut at, mut buffer) = (0, vec![0; 4096]);
        while let Some(piece) = image.next(&mut buffer).unwrap() {
            assert_ne!(piece.kind, Kind::Data, "{format} {size}");
            at += piece.length;
        }
        assert_eq!(at, image.size());
    }
}

#[test]
fn snapshots_within_do_not_show() {
    let dir = scratch();
    let (raw, path) = (dir.path().join("raw"), dir.path().join("image"));
    fs::write(&raw, disk(4 << 20)).unwrap();
    qemu_img(&["convert", "-f", "raw", "-O", "qcow2"], &[&raw, &path]);
    qemu_img(&["snapshot", "-c", "before"], &[&path]);
    images::qemu_io(
        &path,
        &["write -P 7 64k 200k", "write -z 1M 128k", "discard 2M 1M"],
    );
    qemu_img(&["snapshot", "-c", "after"], &[&path]);
    images::qemu_io(&path, &["write -P 9 100k 64k"]);
    compare(&path, Format::Qcow2, "with snapshots");
}

#[test]
fn written_in_any_order_reads_in_the_disks_order() {
    let dir = scratch();
    for format in ["qcow2", "vmdk", "vpc", "vhdx"] {
        let path = dir.path().join(format);
        qemu_img(&["create", "-q", "-f", format], &[&path, Path::new("96M")]);
        images::qemu_io_of(
            format,
            &path,
            &[
                "write -P 3 80M 3M",
                "write -P 4 1M 100k",
                "write -P 5 40M 5k",
                "write -z 50M 4M",
                "write -P 6 512 512",
            ],
        );
        let format = match format {
            "vpc" => Format::Vhd,
            other => other.parse().unwrap(),
        };
        compare(&path, format, format.as_str());
    }
}

#[test]
fn subclusters_of_all_kinds_read_as_qemu_reads_them() {
    let dir = scratch();
    let path = dir.path().join("image");
    let create = ["create", "-q", "-f", "qcow2", "-o", "extended_l2=on"];
    qemu_img(&create, &[&path, Path::new("8M")]);
    images::qemu_io(
        &path,
        &[
            "write -P 1 2k 2k",
            "write -z 6k 4k",
            "write -P 2 60k 20k",
            "write -z 1M 64k",
            "write -P 3 1030k 2k",
            "discard 62k 2k",
        ],
    );
    compare(&path, Format::Qcow2, "subclusters");
}
