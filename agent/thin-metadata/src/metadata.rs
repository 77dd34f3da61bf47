use crate::cursor::{Cursor, Tree};
use crate::device::DETAILS;
use crate::error::{Damage, MetadataError};
use crate::node::Node;
use crate::source::{BLOCK, BlockSource};
use crate::superblock::Superblock;

/// Bytes of a mapping, and of a root.
const NUMBER: u32 = 8;
/// Bytes of a sector.
const SECTOR: u64 = 512;

/// One state of a pool's metadata.
#[derive(Debug)]
pub struct Metadata<S> {
    source: S,
    superblock: Superblock,
}

impl<S: BlockSource> Metadata<S> {
    /// The state that begins at the superblock in block `root`: 0 for the pool's own, which is
    /// good to read only while the pool is not active; the held root for a metadata snapshot.
    ///
    /// # Errors
    /// When there is none, or it is not known how to read it.
    pub fn open(source: S, root: u64) -> Result<Self, MetadataError> {
        let bytes = read(&source, root)?;
        let superblock = Superblock::parse(root, &bytes)?;
        Ok(Metadata { source, superblock })
    }

    /// Block of the held root that the pool's own superblock names, if it does.
    pub fn held_root(&self) -> Option<u64> {
        Some(self.superblock.held_root).filter(|root| *root != 0)
    }

    /// Size of a data block in bytes.
    pub fn data_block(&self) -> u64 {
        u64::from(self.superblock.data_block) * SECTOR
    }

    /// The pool's time: how many snapshots it took.
    pub fn time(&self) -> u32 {
        self.superblock.time
    }

    /// The number that the pool's user keeps in step with records of its own.
    pub fn transaction(&self) -> u64 {
        self.superblock.transaction
    }

    pub(crate) fn details_root(&self) -> u64 {
        self.superblock.details_root
    }

    pub(crate) fn details_tree(&self) -> Result<Tree, MetadataError> {
        Tree::open(self, self.superblock.details_root, DETAILS)
    }

    pub(crate) fn details(&self, from: u64) -> Result<Cursor<'_, S>, MetadataError> {
        Ok(Cursor::new(self, self.details_tree()?, from))
    }

    /// The tree of a thin device's mappings.
    pub(crate) fn mappings(&self, device: u32) -> Result<Tree, MetadataError> {
        let tree = Tree::open(self, self.superblock.mapping_root, NUMBER)?;
        let mut roots = Cursor::new(self, tree, device.into());
        let root = |value: &[u8]| crate::source::long(value, 0);
        match roots.next(root)? {
            Some((key, root)) if key == u64::from(device) => Tree::open(self, root, NUMBER),
            _ => Err(MetadataError::NoDevice(device)),
        }
    }

    pub(crate) fn node(&self, block: u64, value: u32) -> Result<Node, MetadataError> {
        // Block 0 is the pool's superblock and never a node.
        if block == 0 {
            return Err(MetadataError::damaged(block, Damage::Outside));
        }
        Node::parse(block, read(&self.source, block)?, value)
    }
}

fn read<S: BlockSource>(source: &S, block: u64) -> Result<Box<[u8; BLOCK]>, MetadataError> {
    if block >= source.blocks() {
        return Err(MetadataError::damaged(block, Damage::Outside));
    }
    let mut bytes = Box::new([0; BLOCK]);
    match source.read(block, &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(source) => Err(MetadataError::Read { block, source }),
    }
}
