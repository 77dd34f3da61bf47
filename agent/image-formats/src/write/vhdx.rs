//! A dynamic vhdx.
//!
//! ```text
//! MiB 0                               │ 1         │ 2        │ 3               │
//! signature, headers, regions' tables │ empty log │ metadata │ table of blocks │ block │ block │ …
//! ```

use std::io::{self, Write};

use super::blocks::{BlockWriter, Blocks};
use super::zeros;

const KIB: usize = 1024;
const MIB: u64 = 1 << 20;
const LOG: u64 = MIB;
const METADATA: u64 = 2 * MIB;
const TABLE: u64 = 3 * MIB;
const SECTOR: u64 = 512;

/// GUIDs as they are stored: the first three parts little-endian.
const TABLE_REGION: u128 = 0x6677_c22d_23f6_0042_9d64_115e_9bfd_4a08;
const METADATA_REGION: u128 = 0x06a2_7c8b_9047_9a4b_b8fe_575f_050f_886e;
const PARAMETERS: u128 = 0x3767_a1ca_36fa_434d_b3b6_33f0_aa44_e76b;
const SIZE: u128 = 0x2442_a52f_1bcd_7648_b211_5dbe_d83b_f4b8;
const IDENTIFIER: u128 = 0xab12_cabe_e6b2_2345_93ef_c309_e000_c746;
const LOGICAL_SECTOR: u128 = 0x1dbf_4181_6fa9_0947_ba47_f233_a8fa_ab5f;
const PHYSICAL_SECTOR: u128 = 0xc748_a3cd_5d44_7144_9cc9_e988_5251_c556;

const PRESENT: u64 = 6;
const REQUIRED: u32 = 4;
const OF_THE_DISK: u32 = 2;

/// Blocks of a disk are at most this many, which bounds the table and what we remember.
const MOST_BLOCKS: u64 = 1 << 20;

/// Bytes of a block for a disk of a size.
pub(super) fn block(size: u64) -> u64 {
    size.div_ceil(MOST_BLOCKS).next_power_of_two().max(2 * MIB)
}

pub(super) fn length(blocks: &Blocks) -> u64 {
    first_block(blocks) + blocks.used() * blocks.block
}

fn first_block(blocks: &Blocks) -> u64 {
    TABLE + table_length(blocks)
}

/// One entry in so many is about a map of sectors, which only a disk with a parent has.
fn ratio(blocks: &Blocks) -> u64 {
    (1 << 23) * SECTOR / blocks.block
}

fn table_length(blocks: &Blocks) -> u64 {
    let maps = blocks.count.saturating_sub(1) / ratio(blocks);
    ((blocks.count + maps).max(1) * 8).next_multiple_of(MIB)
}

pub(super) fn begin<W: Write>(
    mut out: W,
    size: u64,
    blocks: Blocks,
    identity: [u8; 16],
) -> io::Result<BlockWriter<W>> {
    out.write_all(&front(&blocks, identity))?;
    zeros(&mut out, LOG)?;
    out.write_all(&metadata(size, &blocks, identity))?;
    write_table(&mut out, &blocks)?;
    Ok(BlockWriter {
        out,
        before: Vec::new(),
        end: Vec::new(),
        blocks,
        next: 0,
        filled: None,
    })
}

/// The first MiB.
fn front(blocks: &Blocks, identity: [u8; 16]) -> Vec<u8> {
    let mut bytes = vec![0; MIB as usize];
    put(&mut bytes, 0, b"vhdxfile");
    for (sequence, at) in [(1_u64, 64 * KIB), (2, 128 * KIB)] {
        let header = &mut bytes[at..at + 4 * KIB];
        put(header, 0, b"head");
        put(header, 8, &sequence.to_le_bytes());
        put(header, 16, &identity);
        put(header, 32, &identity);
        // No log; version; where it would be.
        put(header, 66, &1_u16.to_le_bytes());
        put(header, 68, &(LOG as u32).to_le_bytes());
        put(header, 72, &LOG.to_le_bytes());
        sign(header);
    }
    let table = table_length(blocks);
    let regions = [
        (TABLE_REGION, TABLE, table),
        (METADATA_REGION, METADATA, MIB),
    ];
    for at in [192 * KIB, 256 * KIB] {
        let part = &mut bytes[at..at + 64 * KIB];
        put(part, 0, b"regi");
        put(part, 8, &(regions.len() as u32).to_le_bytes());
        for (entry, (guid, place, length)) in part[16..].chunks_mut(32).zip(regions) {
            put(entry, 0, &guid.to_be_bytes());
            put(entry, 16, &place.to_le_bytes());
            put(entry, 24, &(length as u32).to_le_bytes());
            put(entry, 28, &1_u32.to_le_bytes());
        }
        sign(part);
    }
    bytes
}

fn metadata(size: u64, blocks: &Blocks, identity: [u8; 16]) -> Vec<u8> {
    let (block, sector) = (
        (blocks.block as u32).to_le_bytes(),
        (SECTOR as u32).to_le_bytes(),
    );
    let parameters = [block, [0; 4]].concat();
    let disk = REQUIRED | OF_THE_DISK;
    let items: [(u128, &[u8], u32); 5] = [
        (PARAMETERS, &parameters, REQUIRED),
        (SIZE, &size.to_le_bytes(), disk),
        (IDENTIFIER, &identity, disk),
        (LOGICAL_SECTOR, &sector, disk),
        (PHYSICAL_SECTOR, &sector, disk),
    ];
    let mut bytes = vec![0; MIB as usize];
    put(&mut bytes, 0, b"metadata");
    put(&mut bytes, 10, &(items.len() as u16).to_le_bytes());
    let mut at = 64 * KIB;
    for (number, (guid, value, flags)) in items.into_iter().enumerate() {
        let entry = &mut bytes[32 * (number + 1)..];
        put(entry, 0, &guid.to_be_bytes());
        put(entry, 16, &(at as u32).to_le_bytes());
        put(entry, 20, &(value.len() as u32).to_le_bytes());
        put(entry, 24, &flags.to_le_bytes());
        put(&mut bytes, at, value);
        at += value.len();
    }
    bytes
}

fn write_table(out: &mut impl Write, blocks: &Blocks) -> io::Result<()> {
    let (mut next, mut written) = (first_block(blocks), 0);
    let mut entries = Vec::with_capacity(64 * KIB);
    for index in 0..blocks.count {
        if index > 0 && index.is_multiple_of(ratio(blocks)) {
            entries.extend_from_slice(&[0; 8]);
        }
        let mut entry = 0;
        if blocks.has(index) {
            entry = next | PRESENT;
            next += blocks.block;
        }
        entries.extend_from_slice(&entry.to_le_bytes());
        if entries.len() >= 32 * KIB || index + 1 == blocks.count {
            out.write_all(&entries)?;
            written += entries.len() as u64;
            entries.clear();
        }
    }
    zeros(out, table_length(blocks) - written)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Puts the CRC-32C of a structure into it.
fn sign(bytes: &mut [u8]) {
    let crc = crc32c::crc32c(bytes);
    put(bytes, 4, &crc.to_le_bytes());
}
