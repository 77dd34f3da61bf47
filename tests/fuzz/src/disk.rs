//! What a disk holds, as targetd finds out before it touches one.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;

use arbitrary::{Result, Unstructured};
use ashlar_kernel_iface::block::{
    BlockDevice, BlockError, BlockOperation, DiskContent, LABEL_START, PAYLOAD_START, PoolLabel,
    Tenure, format_disk, metadata_state, probe, wipe_disk,
};
use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_targetd_protocol::{Bytes, Sectors};

use crate::seed;

const MIB: u64 = 1 << 20;
const SIZES: [u64; 8] = [
    0,
    4096,
    34 * 512,
    MIB,
    2 * MIB,
    3 * MIB + 4096,
    8 * MIB,
    1 << 42,
];
/// Two edges, the labels and the largest partition table that is read.
const MOST_READ: u64 = 8 * MIB;

/// Takes the bytes for a disk's geometry and what is written where, and looks at the disk.
///
/// # Panics
/// When looking fails, writes or reads without bound; when a disk with anything at its edges
/// counts as blank; or when a disk that was wiped does not.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(disk) = describe(&mut input) else {
        return;
    };
    let written = disk.writes.get();
    let content = probe(&disk).expect("what a disk holds cannot make looking fail");
    assert_eq!(disk.writes.get(), written, "looking wrote");
    assert!(
        disk.read.get() <= MOST_READ,
        "looking read {}",
        disk.read.get()
    );
    judge(&disk, &content);
    if disk.size >= PAYLOAD_START.0 + 4096 {
        metadata_state(&disk, PAYLOAD_START).expect("the block is there");
    }
    if disk.size >= 3 * MIB {
        wipe_disk(&disk).expect("the disk takes writes");
        assert_eq!(probe(&disk).ok(), Some(DiskContent::Blank));
    }
}

fn judge(disk: &Medium, content: &DiskContent) {
    match content {
        DiskContent::Blank => assert!(disk.edges_are_zero(), "it holds something"),
        DiskContent::Pool { label, partition } => {
            assert_eq!(partition.start, LABEL_START);
            assert!(partition.start.0 + partition.length.0 <= disk.size);
            assert!(label.index < label.count);
            let payload = partition.payload();
            assert!(payload.is_none_or(|(at, length)| at.0 + length.0 <= disk.size));
        }
        DiskContent::Unfinished(label) => assert!(label.index < label.count),
        DiskContent::Foreign(what) => assert!(!what.is_empty()),
    }
}

/// Geometry, perhaps a pool's format, then pieces laid over it.
fn describe(input: &mut Unstructured<'_>) -> Result<Medium> {
    let (size, block) = (*input.choose(&SIZES)?, *input.choose(&[512, 4096])?);
    let disk = Medium {
        // A disk is made of whole blocks.
        size: size / block * block,
        block,
        pieces: RefCell::default(),
        read: Cell::new(0),
        writes: Cell::new(0),
    };
    let (formatted, signed): (bool, bool) = (input.arbitrary()?, input.arbitrary()?);
    if formatted {
        // Too small a disk is refused and stays as it is.
        drop(format_disk(&disk, &label()));
    }
    while !input.is_empty() {
        let at = place(input, &disk)?;
        let length = usize::from(input.arbitrary::<u8>()?).min(input.len());
        disk.put(at, input.bytes(length)?);
    }
    if signed {
        disk.sign(disk.block);
        disk.sign(disk.size.saturating_sub(disk.block));
    }
    Ok(disk)
}

/// Near where anything is read.
fn place(input: &mut Unstructured<'_>, disk: &Medium) -> Result<u64> {
    let near: u16 = input.arbitrary()?;
    let near = u64::from(near);
    Ok(match input.arbitrary::<u8>()? % 6 {
        0 => near,
        1 => disk.block + near % 128,
        2 => 2 * disk.block + near % 512,
        3 => disk.size.saturating_sub(near),
        4 => LABEL_START.0 + near,
        _ => LABEL_START.0 + MIB / 2 + near,
    })
}

fn label() -> PoolLabel {
    PoolLabel {
        pool: seed::id(1),
        index: 0,
        count: 2,
        metadata: Sectors(32_768),
        block: Sectors(128),
        metadata_room: Sectors(32_768),
        catalog: Sectors(0),
        tenure: Tenure::default(),
        set: None,
    }
}

const PIECE: u64 = 512;
const NOTHING: [u8; PIECE as usize] = [0; PIECE as usize];

/// Which pieces a stretch touches: a piece's place, where in it, and which part of the stretch.
fn parts(at: u64, length: usize) -> impl Iterator<Item = (u64, usize, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let place = at + done as u64;
        let inside = (place % PIECE) as usize;
        let part = done..length.min(done + NOTHING.len() - inside);
        done = part.end;
        (!part.is_empty()).then_some((place / PIECE, inside, part))
    })
}

/// A sparse disk in memory that counts what is asked of it.
#[derive(Debug)]
struct Medium {
    size: u64,
    block: u64,
    /// Those that are not all zero.
    pieces: RefCell<BTreeMap<u64, [u8; PIECE as usize]>>,
    read: Cell<u64>,
    writes: Cell<u64>,
}

impl Medium {
    fn put(&self, at: u64, bytes: &[u8]) {
        let room = self.size.saturating_sub(at).min(bytes.len() as u64);
        let bytes = &bytes[..room as usize];
        let mut pieces = self.pieces.borrow_mut();
        for (index, inside, part) in parts(at, bytes.len()) {
            let part = &bytes[part];
            let piece = pieces.entry(index).or_insert(NOTHING);
            piece[inside..inside + part.len()].copy_from_slice(part);
            if *piece == NOTHING {
                pieces.remove(&index);
            }
        }
    }

    fn fill(&self, at: u64, buffer: &mut [u8]) {
        let pieces = self.pieces.borrow();
        for (index, inside, part) in parts(at, buffer.len()) {
            let piece = pieces.get(&index).unwrap_or(&NOTHING);
            let end = inside + part.len();
            buffer[part].copy_from_slice(&piece[inside..end]);
        }
    }

    fn edges_are_zero(&self) -> bool {
        let pieces = self.pieces.borrow();
        let at_edge = |index: &u64| {
            let start = index * PIECE;
            start < MIB || start + PIECE > self.size.saturating_sub(MIB)
        };
        !pieces.keys().any(at_edge)
    }

    /// Makes the checksums of the GPT header at `at` right, so that what it says is looked at.
    fn sign(&self, at: u64) {
        let mut header = [0; 92];
        self.fill(at, &mut header);
        if !header.starts_with(b"EFI PART") {
            return;
        }
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| header[at + byte]));
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| header[at + byte]));
        let length = u64::from(word(80)).saturating_mul(word(84).into());
        let entries = long(72).saturating_mul(self.block);
        if length <= 128 * 1024 && entries < self.size {
            let mut bytes = vec![0; length as usize];
            self.fill(entries, &mut bytes);
            header[88..].copy_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        }
        header[16..20].fill(0);
        let crc = crc32fast::hash(&header);
        header[16..20].copy_from_slice(&crc.to_le_bytes());
        self.put(at, &header);
    }

    fn check(&self, operation: BlockOperation, at: Bytes, length: u64) -> Span {
        let inside = at.0.checked_add(length).is_some_and(|end| end <= self.size);
        let whole = at.0.is_multiple_of(self.block) && length.is_multiple_of(self.block);
        (inside && whole).then_some(()).ok_or(BlockError::Span {
            operation,
            device: self.number(),
            at,
            length: Bytes(length),
        })
    }
}

type Span = std::result::Result<(), BlockError>;

impl BlockDevice for Medium {
    fn number(&self) -> DeviceNumber {
        DeviceNumber { major: 8, minor: 0 }
    }

    fn size(&self) -> Bytes {
        Bytes(self.size)
    }

    fn logical_block(&self) -> Bytes {
        Bytes(self.block)
    }

    fn read_at(&self, at: Bytes, buffer: &mut [u8]) -> Span {
        self.check(BlockOperation::Read, at, buffer.len() as u64)?;
        self.read.set(self.read.get() + buffer.len() as u64);
        self.fill(at.0, buffer);
        Ok(())
    }

    fn write_at(&self, at: Bytes, data: &[u8]) -> Span {
        self.check(BlockOperation::Write, at, data.len() as u64)?;
        self.writes.set(self.writes.get() + 1);
        self.put(at.0, data);
        Ok(())
    }

    fn discard(&self, at: Bytes, length: Bytes) -> Span {
        self.check(BlockOperation::Discard, at, length.0)
    }

    fn flush(&self) -> Span {
        Ok(())
    }
}

/// Blank and formatted disks of several sizes, with a mark of another format, a damaged label
/// and strange partition tables.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for size in [0, 1, 3, 5, 6, 7] {
        for block in [0, 1] {
            for formatted in [0, 1] {
                seeds.push(vec![size, block, formatted, 0]);
            }
        }
    }
    let pieces: [&[u8]; 6] = [
        b"\x00\x00\x00\x04XFSB",
        b"\x00\x00\x04\x01\xff",
        b"\x00\x02\x03\x08EFI PART",
        b"\x48\x00\x01\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x50\x00\x01\x04\x01\x00\x00\x00",
        b"\x20\x00\x02\x10\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff",
    ];
    for piece in pieces {
        for signed in [0, 1] {
            seeds.push([&[6, 0, 1, signed], piece].concat());
        }
    }
    seeds
}
