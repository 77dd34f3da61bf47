//! The metadata device of a thin pool as the kernel leaves it: superblock, metadata snapshot and
//! trees, for whoever reads them from the device.
//!
//! Space maps are left out; nothing but the kernel and its repair tools reads them. Nodes are cut
//! by ranges of keys and the same node is written once, so that thin devices that share mappings
//! share nodes, as snapshots and their origins do.

use std::collections::{BTreeMap, HashMap};

use ashlar_targetd_protocol::{Sectors, ThinId};

/// A metadata block in bytes.
const BLOCK: usize = 4096;
/// Where the metadata snapshot's superblock goes.
const HELD_ROOT: u64 = 1;
/// Each node of a tree covers 64 times what one below it covers.
const SPAN: u32 = 6;
const SUPERBLOCK_SALT: u32 = 160_774;
const NODE_SALT: u32 = 121_107;
const MAGIC: u64 = 27_022_010;
const INTERNAL: u32 = 1;
const LEAF: u32 = 2;
/// Bytes of a thin device's details.
const DETAILS: usize = 24;
/// Bytes of a mapping and of a root.
const NUMBER: usize = 8;

/// What a pool's metadata say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThinMetadata {
    /// Size of a data block.
    pub block: Sectors,
    /// The number kept in step with records outside.
    pub transaction_id: u64,
    /// How many snapshots were taken.
    pub time: u32,
    /// The thin devices.
    pub thins: BTreeMap<ThinId, ThinMappings>,
}

/// A thin device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThinMappings {
    /// The transaction in which it was made.
    pub transaction_id: u64,
    /// The time when it was made.
    pub created: u32,
    /// The time of its own making, or of the last snapshot of it.
    pub snapshotted: u32,
    /// By its blocks: the pool's blocks, and the times when they were mapped.
    pub mappings: BTreeMap<u64, (u64, u32)>,
}

/// The device's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThinImage {
    /// Whole metadata blocks.
    pub bytes: Vec<u8>,
    /// The block of the metadata snapshot's superblock.
    pub held_root: u64,
}

impl ThinMetadata {
    /// Writes the metadata, with a metadata snapshot of the same state.
    pub fn image(&self) -> ThinImage {
        let mut blocks = Blocks::default();
        // Both superblocks come first and are filled in at the end.
        blocks.bytes.resize(2 * BLOCK, 0);
        let details = self
            .thins
            .iter()
            .map(|(id, thin)| (key(*id), thin.details()));
        let details = blocks.tree(DETAILS, details.collect());
        let mut roots = Vec::new();
        for (id, thin) in &self.thins {
            let mappings = thin.mappings.iter();
            let number = |(block, (data, time)): (&u64, &(u64, u32))| {
                (
                    *block,
                    (data << 24 | u64::from(*time)).to_le_bytes().to_vec(),
                )
            };
            let root = blocks.tree(NUMBER, mappings.map(number).collect());
            roots.push((key(*id), root.to_le_bytes().to_vec()));
        }
        let mappings = blocks.tree(NUMBER, roots);
        for (at, held_root) in [(0, HELD_ROOT), (HELD_ROOT, 0)] {
            let superblock = self.superblock(held_root, mappings, details);
            blocks.seal(at, superblock, SUPERBLOCK_SALT);
        }
        ThinImage {
            bytes: blocks.bytes,
            held_root: HELD_ROOT,
        }
    }

    fn superblock(&self, held_root: u64, mappings: u64, details: u64) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        put(&mut block, 32, &MAGIC.to_le_bytes());
        put(&mut block, 40, &2_u32.to_le_bytes());
        put(&mut block, 44, &self.time.to_le_bytes());
        put(&mut block, 48, &self.transaction_id.to_le_bytes());
        put(&mut block, 56, &held_root.to_le_bytes());
        put(&mut block, 320, &mappings.to_le_bytes());
        put(&mut block, 328, &details.to_le_bytes());
        put(&mut block, 336, &(self.block.0 as u32).to_le_bytes());
        put(&mut block, 340, &8_u32.to_le_bytes());
        block
    }
}

impl ThinMappings {
    fn details(&self) -> Vec<u8> {
        let mut details = (self.mappings.len() as u64).to_le_bytes().to_vec();
        details.extend(self.transaction_id.to_le_bytes());
        details.extend(self.created.to_le_bytes());
        details.extend(self.snapshotted.to_le_bytes());
        details
    }
}

fn key(id: ThinId) -> u64 {
    u64::from(id.value())
}

fn put(block: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Keys with values all of one size.
type Entries = Vec<(u64, Vec<u8>)>;

#[derive(Default)]
struct Blocks {
    bytes: Vec<u8>,
    /// Blocks by what they hold, but for their own number.
    written: HashMap<(u32, usize, Entries), u64>,
}

impl Blocks {
    /// Writes a tree of entries in order of key, with values of `size` bytes, and tells its root.
    fn tree(&mut self, size: usize, entries: Entries) -> u64 {
        let (mut kind, mut level, mut shift) = (LEAF, entries, SPAN);
        loop {
            let groups = level.chunk_by(|a, b| a.0.checked_shr(shift) == b.0.checked_shr(shift));
            let groups: Vec<Entries> = groups.map(<[_]>::to_vec).collect();
            let mut above = Entries::new();
            for group in groups {
                let first = group[0].0;
                let size = group[0].1.len();
                let block = self.node(kind, size, group);
                above.push((first, block.to_le_bytes().to_vec()));
            }
            match above.as_slice() {
                [] => return self.node(LEAF, size, Entries::new()),
                [(_, root)] => return u64::from_le_bytes(std::array::from_fn(|byte| root[byte])),
                _ => (kind, level, shift) = (INTERNAL, above, shift + SPAN),
            }
        }
    }

    fn node(&mut self, kind: u32, size: usize, entries: Entries) -> u64 {
        let next = (self.bytes.len() / BLOCK) as u64;
        let content = (kind, size, entries.clone());
        let at = *self.written.entry(content).or_insert(next);
        if at == next {
            self.bytes.resize(self.bytes.len() + BLOCK, 0);
            self.seal(at, node(kind, size, &entries), NODE_SALT);
        }
        at
    }

    fn seal(&mut self, at: u64, mut block: [u8; BLOCK], salt: u32) {
        put(&mut block, 8, &at.to_le_bytes());
        let checksum = !crc32c::crc32c(&block[4..]) ^ salt;
        put(&mut block, 0, &checksum.to_le_bytes());
        let at = at as usize * BLOCK;
        self.bytes[at..at + BLOCK].copy_from_slice(&block);
    }
}

fn node(kind: u32, size: usize, entries: &Entries) -> [u8; BLOCK] {
    // As many as fit, and a multiple of three, which the kernel's balancing wants.
    let most = (BLOCK - 32) / (8 + size) / 3 * 3;
    let mut block = [0; BLOCK];
    put(&mut block, 4, &kind.to_le_bytes());
    put(&mut block, 16, &(entries.len() as u32).to_le_bytes());
    put(&mut block, 20, &(most as u32).to_le_bytes());
    put(&mut block, 24, &(size as u32).to_le_bytes());
    for (index, (key, value)) in entries.iter().enumerate() {
        put(&mut block, 32 + 8 * index, &key.to_le_bytes());
        put(&mut block, 32 + 8 * most + size * index, value);
    }
    block
}
