//! A dynamic vhd.
//!
//! ```text
//! footer │ header │ table of blocks │ map, block │ map, block │ … │ footer
//! ```

use std::io::{self, Write};

use super::blocks::{BlockWriter, Blocks};

/// Bytes of a block, the usual size.
pub(super) const BLOCK: u64 = 2 << 20;
/// What the format's readers take at most.
pub(super) const LARGEST: u64 = 2040 << 30;

const SECTOR: u64 = 512;
/// Footer and header.
const TABLE: u64 = SECTOR + 1024;
const VERSION: u32 = 0x0001_0000;
const UNUSED: u32 = u32::MAX;
const DYNAMIC: u32 = 3;
/// Cylinders, heads and sectors of a disk that is too large for them: its size counts instead.
const NO_GEOMETRY: u32 = 0xffff_10ff;

pub(super) fn length(blocks: &Blocks) -> u64 {
    front(blocks) + blocks.used() * (SECTOR + BLOCK) + SECTOR
}

/// Bytes in front of the first block.
fn front(blocks: &Blocks) -> u64 {
    TABLE + (blocks.count * 4).next_multiple_of(SECTOR)
}

pub(super) fn begin<W: Write>(
    mut out: W,
    size: u64,
    blocks: Blocks,
    identity: [u8; 16],
) -> io::Result<BlockWriter<W>> {
    let footer = footer(size, identity);
    out.write_all(&footer)?;
    out.write_all(&header(&blocks))?;
    write_table(&mut out, &blocks)?;
    Ok(BlockWriter {
        out,
        // Every sector of a block that is there counts as written.
        before: vec![0xff; SECTOR as usize],
        end: footer,
        blocks,
        next: 0,
        filled: None,
    })
}

fn footer(size: u64, identity: [u8; 16]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SECTOR as usize);
    bytes.extend_from_slice(b"conectix");
    // A bit that is always set; the version; where the header is; when: not told; by whom.
    words(&mut bytes, &[2, VERSION]);
    bytes.extend_from_slice(&SECTOR.to_be_bytes());
    words(&mut bytes, &[0]);
    bytes.extend_from_slice(b"ashl");
    words(&mut bytes, &[VERSION, 0]);
    bytes.extend_from_slice(&size.to_be_bytes());
    bytes.extend_from_slice(&size.to_be_bytes());
    words(&mut bytes, &[NO_GEOMETRY, DYNAMIC, 0]);
    bytes.extend_from_slice(&identity);
    bytes.resize(SECTOR as usize, 0);
    sign(&mut bytes, 64);
    bytes
}

fn header(blocks: &Blocks) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1024);
    bytes.extend_from_slice(b"cxsparse");
    bytes.extend_from_slice(&u64::MAX.to_be_bytes());
    bytes.extend_from_slice(&TABLE.to_be_bytes());
    words(&mut bytes, &[VERSION, blocks.count as u32, BLOCK as u32, 0]);
    bytes.resize(1024, 0);
    sign(&mut bytes, 36);
    bytes
}

fn write_table(out: &mut impl Write, blocks: &Blocks) -> io::Result<()> {
    let mut next = front(blocks) / SECTOR;
    let mut entries = Vec::new();
    for index in 0..blocks.count {
        let mut entry = UNUSED;
        if blocks.has(index) {
            entry = next as u32;
            next += 1 + BLOCK / SECTOR;
        }
        words(&mut entries, &[entry]);
    }
    let whole = entries.len().next_multiple_of(SECTOR as usize);
    entries.resize(whole, 0xff);
    out.write_all(&entries)
}

fn words(bytes: &mut Vec<u8>, words: &[u32]) {
    bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
}

/// Puts the complement of the bytes' sum among them.
fn sign(bytes: &mut [u8], at: usize) {
    let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
    bytes[at..at + 4].copy_from_slice(&(!sum).to_be_bytes());
}
