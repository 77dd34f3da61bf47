//! What we write, QEMU's tools find sound and read as it was meant.

mod images;

use std::fs;

use ashlar_image_formats::{Format, Image, Kind, Plan, Writer};
use images::{disk, qemu_img, scratch};

/// The stretches of a disk that are not zero, in pieces of `grain` bytes.
fn stretches(disk: &[u8], grain: usize) -> Vec<(u64, &[u8])> {
    let pieces = disk.chunks(grain).enumerate();
    let pieces = pieces.filter(|(_, piece)| piece.iter().any(|byte| *byte != 0));
    pieces
        .map(|(at, piece)| ((at * grain) as u64, piece))
        .collect()
}

fn plan(format: Format, size: u64) -> Plan {
    Plan::new(format, size).unwrap()
}

const IDENTITY: [u8; 16] = *b"sixteen letters.";

fn written(format: Format, disk: &[u8], grain: usize) -> Vec<u8> {
    let mut plan = plan(format, disk.len() as u64);
    let stretches = stretches(disk, grain);
    for (at, piece) in &stretches {
        plan.add(*at, piece.len() as u64);
    }
    let length = plan.length();
    let mut writer = Writer::new(plan, IDENTITY, Vec::new()).unwrap();
    for (at, piece) in &stretches {
        writer.data(*at, piece).unwrap();
    }
    let image = writer.finish().unwrap();
    let promised = length.unwrap_or(image.len() as u64);
    assert_eq!(image.len() as u64, promised, "{format}");
    image
}

const SIZES: [(usize, usize); 7] = [
    (0, 4096),
    (512, 512),
    (70_000 / 512 * 512, 512),
    (3 << 20, 512),
    ((3 << 20) + 512, 4096),
    (5 << 20, 65_536),
    (5 << 20, 1 << 20),
];

#[test]
fn qemu_finds_it_sound_and_reads_the_same() {
    let dir = scratch();
    for format in Format::ALL {
        for (size, grain) in SIZES {
            // A disk of nothing is known to few.
            if size == 0 && matches!(format, Format::Vhd | Format::Vhdx | Format::Vmdk) {
                continue;
            }
            let disk = disk(size);
            let (image, raw) = (dir.path().join("image"), dir.path().join("raw"));
            fs::write(&image, written(format, &disk, grain)).unwrap();
            let name = if format == Format::Vhd {
                "vpc"
            } else {
                format.as_str()
            };
            if matches!(format, Format::Qcow2 | Format::Vmdk | Format::Vhdx) {
                qemu_img(&["check", "-q", "-f", name], &[&image]);
            }
            qemu_img(&["convert", "-f", name, "-O", "raw"], &[&image, &raw]);
            assert!(
                fs::read(&raw).unwrap() == disk,
                "{format}: {size} by {grain}"
            );
        }
    }
}

#[test]
fn we_read_what_we_write() {
    for format in Format::ALL {
        for (size, grain) in SIZES {
            let disk = disk(size);
            let image = written(format, &disk, grain);
            let mut image = Image::open(image, Some(format), size as u64).unwrap();
            let (mut read, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
            while let Some(piece) = image.next(&mut buffer).unwrap() {
                match piece.kind {
                    Kind::Data => read.extend_from_slice(&buffer[..piece.length as usize]),
                    Kind::Zero | Kind::Hole => read.resize(read.len() + piece.length as usize, 0),
                }
            }
            assert!(read == disk, "{format}: {size} by {grain}");
        }
    }
}

#[test]
fn a_disk_that_a_format_has_no_room_for_is_refused() {
    for format in Format::ALL {
        let odd = Plan::new(format, 1000).is_err();
        assert_eq!(odd, format != Format::Raw);
    }
    assert!(Plan::new(Format::Vhd, 2 << 40).is_err());
    assert!(Plan::new(Format::Vhdx, 65 << 40).is_err());
}

/// Many tables, most of them empty, without writing what lies between.
#[test]
fn a_large_disk_with_little_on_it_stays_small() {
    let dir = scratch();
    for format in [Format::Qcow2, Format::Vmdk, Format::Vhd, Format::Vhdx] {
        let (image, size) = (dir.path().join("image"), 1 << 40);
        let places = [0, 600 << 20, (300 << 30) + 65_536, size - 4096];
        let mut plan = plan(format, size);
        places.iter().for_each(|at| plan.add(*at, 4096));
        let mut writer = Writer::new(plan, IDENTITY, Vec::new()).unwrap();
        for at in places {
            writer.data(at, &[7; 4096]).unwrap();
        }
        let bytes = writer.finish().unwrap();
        assert!(bytes.len() < 32 << 20, "{format}: {}", bytes.len());
        fs::write(&image, &bytes).unwrap();
        if format != Format::Vhd {
            qemu_img(&["check", "-q", "-f", format.as_str()], &[&image]);
        }
        let mut image = Image::open(bytes, Some(format), size).unwrap();
        let (mut buffer, mut found) = (vec![0; 1 << 20], Vec::new());
        while let Some(piece) = image.next(&mut buffer).unwrap() {
            let part = &buffer[..piece.length as usize * usize::from(piece.kind == Kind::Data)];
            let grains = part.chunks(4096).enumerate();
            let grains = grains.filter(|(_, grain)| *grain == [7; 4096]);
            found.extend(grains.map(|(at, _)| piece.offset + at as u64 * 4096));
        }
        assert_eq!(found, places, "{format}");
    }
}

/// Enough clusters for several blocks of reference counts.
#[test]
fn reference_counts_of_a_full_disk_are_sound() {
    let dir = scratch();
    let (image, size) = (dir.path().join("image"), 9_u64 << 28);
    let mut plan = plan(Format::Qcow2, size);
    plan.add(0, size);
    let (length, file) = (plan.length().unwrap(), fs::File::create(&image).unwrap());
    let mut writer = Writer::new(plan, IDENTITY, Sparse(file)).unwrap();
    let piece = vec![0; 1 << 20];
    for at in (0..size).step_by(piece.len()) {
        writer.data(at, &piece).unwrap();
    }
    let Sparse(file) = writer.finish().unwrap();
    file.set_len(length).unwrap();
    qemu_img(&["check", "-q", "-f", "qcow2"], &[&image]);
}

/// Skips zeros instead of writing them.
struct Sparse(fs::File);

impl std::io::Write for Sparse {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        use std::io::{Seek, SeekFrom};
        if bytes.iter().any(|byte| *byte != 0) {
            self.0.write_all(bytes)?;
        } else {
            self.0.seek(SeekFrom::Current(bytes.len() as i64))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn data_that_was_not_planned_is_an_error() {
    for format in [Format::Qcow2, Format::Vhd, Format::Vhdx] {
        let mut plan = plan(format, 1 << 30);
        plan.add(0, 65_536);
        let more = |at: u64| {
            let mut writer = Writer::new(plan.clone(), IDENTITY, Vec::new()).unwrap();
            writer.data(0, &[1; 65_536])?;
            writer.data(at, &[1; 512])?;
            writer.finish().map(drop)
        };
        assert!(more(4 << 20).is_err(), "{format}: more");
        assert!(more(512).is_err(), "{format}: backwards");
        assert!(more(1 << 30).is_err(), "{format}: behind the end");
        let none = Writer::new(plan.clone(), IDENTITY, Vec::new()).unwrap();
        assert!(none.finish().is_err(), "{format}: less");
    }
}
