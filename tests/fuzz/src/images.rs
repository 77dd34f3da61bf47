//! Disk images, as the process that reads them takes them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::process::Command;
use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};
use ashlar_image_formats::{Format, Image, ImageError, Kind, Source};

/// Bytes of the disk in each sound image, and the most that a changed one may claim.
const SIZE: usize = 1 << 20;
const LIMIT: u64 = 4 << 20;

/// A byte of a disk may take two windows of tables and its share of a compressed cluster.
const MOST_READ: u64 = 24 * LIMIT;

const SECTOR: usize = 512;
const KIB: usize = 1024;

/// How QEMU's tools make the images that are then changed.
const BASES: &[(Format, &[&str])] = &[
    (Format::Qcow2, &["-O", "qcow2"]),
    (Format::Qcow2, &["-O", "qcow2", "-o", "cluster_size=512"]),
    (Format::Qcow2, &["-O", "qcow2", "-c"]),
    (
        Format::Qcow2,
        &["-O", "qcow2", "-c", "-o", "compression_type=zstd"],
    ),
    (Format::Qcow2, &["-O", "qcow2", "-o", "extended_l2=on"]),
    (Format::Vmdk, &["-O", "vmdk"]),
    (
        Format::Vmdk,
        &["-O", "vmdk", "-o", "subformat=streamOptimized"],
    ),
    (Format::Vhd, &["-O", "vpc", "-o", "force_size=on"]),
    (Format::Vhdx, &["-O", "vhdx", "-o", "block_size=1M"]),
];

/// Takes the bytes for one of the images, where it is cut and what is written over it, and walks
/// its disk; then takes them for an image themselves.
///
/// # Panics
/// When pieces leave a gap, overlap, are empty or larger than allowed; or when reading does not
/// end.
pub fn run(data: &[u8]) {
    if let Ok((format, image)) = describe(&mut Unstructured::new(data)) {
        judge(image, Some(format));
    }
    let whole = Forged {
        base: data,
        length: data.len() as u64,
        patches: BTreeMap::new(),
        read: Cell::new(0),
    };
    judge(whole, None);
}

fn judge(source: Forged<'_>, format: Option<Format>) {
    match walk(&source, format) {
        Ok(()) => {}
        Err(error) => assert!(error.is_refusal(), "{error}: it read outside of the image"),
    }
    let read = source.read.get();
    assert!(read <= MOST_READ, "it read {read} bytes");
}

fn walk(source: &Forged<'_>, format: Option<Format>) -> std::result::Result<(), ImageError> {
    let mut image = Image::open(source, format, LIMIT)?;
    assert!(image.size() <= LIMIT);
    let (mut buffer, mut at, mut last) = (vec![0; 64 * KIB], 0, None);
    while let Some(piece) = image.next(&mut buffer)? {
        assert_eq!(piece.offset, at);
        assert!(piece.length > 0);
        let data = piece.kind == Kind::Data;
        assert!(!data || piece.length <= buffer.len() as u64);
        assert!(data || last != Some(piece.kind), "two that are one");
        (at, last) = (at + piece.length, Some(piece.kind));
    }
    assert_eq!(at, image.size());
    Ok(())
}

/// An image, perhaps cut short, with pieces laid over it, perhaps signed again.
fn describe<'a>(input: &mut Unstructured<'_>) -> Result<(Format, Forged<'a>)> {
    let bases = bases();
    let base = &bases[usize::from(input.arbitrary::<u8>()?) % bases.len()];
    let (cut, signed): (u8, bool) = (input.arbitrary()?, input.arbitrary()?);
    let length = base.bytes.len();
    let mut forged = Forged {
        base: &base.bytes,
        length: (length - length * usize::from(cut) / 256) as u64,
        patches: BTreeMap::new(),
        read: Cell::new(0),
    };
    while !input.is_empty() {
        let (sector, inside): (u8, u16) = (input.arbitrary()?, input.arbitrary()?);
        let place = base.telling[usize::from(sector) % base.telling.len()];
        let place = place * SECTOR + usize::from(inside) % SECTOR;
        let length = usize::from(input.arbitrary::<u8>()? % 17).min(input.len());
        forged.put(place, input.bytes(length)?);
    }
    if signed {
        forged.sign(base.format);
    }
    Ok((base.format, forged))
}

/// A sound image.
struct Base {
    format: Format,
    bytes: Vec<u8>,
    /// Sectors that hold anything.
    telling: Vec<usize>,
}

fn bases() -> &'static [Base] {
    static BASES_MADE: OnceLock<Vec<Base>> = OnceLock::new();
    BASES_MADE.get_or_init(|| {
        let made = BASES.iter().map(|(format, options)| {
            let bytes = make(options);
            let sectors = bytes.chunks(SECTOR).enumerate();
            let telling = sectors.filter(|(_, sector)| sector.iter().any(|byte| *byte != 0));
            let telling = telling.map(|(at, _)| at).collect();
            Base {
                format: *format,
                bytes,
                telling,
            }
        });
        made.collect()
    })
}

/// Most of its disk is empty, so that most of what is changed is structure.
fn make(options: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("there is a place for temporary files");
    let (raw, image) = (dir.path().join("raw"), dir.path().join("image"));
    let mut disk = vec![0; SIZE];
    disk[70_000..70_600].fill(7);
    disk[SIZE - 100..].fill(8);
    fs::write(&raw, disk).expect("there is room for a disk");
    let status = Command::new("qemu-img")
        .args(["convert", "-f", "raw"])
        .args(options)
        .args([&raw, &image])
        .status()
        .expect("QEMU's tools are installed");
    assert!(status.success(), "qemu-img convert {options:?}");
    fs::read(image).expect("it was just made")
}

/// An image that differs from a sound one in few bytes.
struct Forged<'a> {
    base: &'a [u8],
    length: u64,
    patches: BTreeMap<usize, u8>,
    read: Cell<u64>,
}

impl Forged<'_> {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        let places = (at..).zip(bytes.iter().copied());
        self.patches.extend(places);
    }

    fn copy(&self, at: usize, length: usize) -> Vec<u8> {
        let end = self.base.len().min(at + length);
        let mut bytes = self.base.get(at..end).unwrap_or(&[]).to_vec();
        for (place, byte) in self.patches.range(at..end.max(at)) {
            bytes[place - at] = *byte;
        }
        bytes
    }

    /// Makes checksums right, so that what they guard is looked at.
    fn sign(&mut self, format: Format) {
        match format {
            Format::Raw | Format::Qcow2 | Format::Vmdk => {}
            Format::Vhd => {
                self.sign_sum(self.base.len() - SECTOR, SECTOR, 64);
                self.sign_sum(SECTOR, 2 * SECTOR, 36);
            }
            Format::Vhdx => {
                self.sign_crc(64 * KIB, 4 * KIB);
                self.sign_crc(128 * KIB, 4 * KIB);
                self.sign_crc(192 * KIB, 64 * KIB);
                self.sign_crc(256 * KIB, 64 * KIB);
            }
        }
    }

    fn sign_sum(&mut self, at: usize, length: usize, own: usize) {
        self.put(at + own, &[0; 4]);
        let bytes = self.copy(at, length);
        let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
        self.put(at + own, &(!sum).to_be_bytes());
    }

    fn sign_crc(&mut self, at: usize, length: usize) {
        self.put(at + 4, &[0; 4]);
        let crc = crc32c::crc32c(&self.copy(at, length));
        self.put(at + 4, &crc.to_le_bytes());
    }
}

impl Source for &Forged<'_> {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = at.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read.set(self.read.get() + buffer.len() as u64);
        buffer.copy_from_slice(&self.copy(at as usize, buffer.len()));
        Ok(())
    }
}

/// Each sound image, signed and unsigned, whole and cut, and with each of its first telling
/// sectors changed in ways that hurt.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for base in 0..BASES.len() as u8 {
        seeds.push(vec![base, 0, 0]);
        seeds.push(vec![base, 0, 1]);
        seeds.push(vec![base, 40, 1]);
        for (sector, inside) in [(0_u8, 24_u16), (0, 40), (0, 56), (1, 0), (2, 8), (3, 16)] {
            let mut seed = vec![base, 0, 1, sector];
            seed.extend(inside.to_le_bytes());
            seed.push(8);
            seed.extend([0, 0, 0, 1, 0xff, 0xff, 0xff, 0xf0]);
            seeds.push(seed);
        }
    }
    seeds.extend(
        [
            &b"QFI\xfb\0\0\0\x03"[..],
            b"KDMV\x01",
            b"conectix",
            b"vhdxfile",
        ]
        .map(Vec::from),
    );
    seeds
}
