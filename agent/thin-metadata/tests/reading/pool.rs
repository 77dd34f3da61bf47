//! Pools as values: what each device maps is known, so every answer can be worked out.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

use ashlar_kernel_iface::model::{ThinImage, ThinMappings, ThinMetadata};
use ashlar_targetd_protocol::{Sectors, ThinId};
use ashlar_thin_metadata::{BLOCK, Block, BlockSource, Change, Extent, Metadata};

/// A pool in whose life things are written and snapshots taken.
#[derive(Clone, Debug)]
pub struct Pool {
    pub metadata: ThinMetadata,
    next: u64,
}

impl Pool {
    pub fn new() -> Self {
        let metadata = ThinMetadata {
            block: Sectors(128),
            transaction_id: 7,
            ..ThinMetadata::default()
        };
        Pool { metadata, next: 0 }
    }

    pub fn create(&mut self, id: u32) {
        let thin = ThinMappings {
            transaction_id: self.metadata.transaction_id,
            created: self.metadata.time,
            snapshotted: self.metadata.time,
            mappings: BTreeMap::new(),
        };
        self.metadata.thins.insert(thin_id(id), thin);
    }

    pub fn snapshot(&mut self, id: u32, origin: u32) {
        self.metadata.time += 1;
        let time = self.metadata.time;
        let origin = self.thin(origin);
        origin.snapshotted = time;
        let thin = ThinMappings {
            created: time,
            ..origin.clone()
        };
        self.metadata.thins.insert(thin_id(id), thin);
    }

    pub fn write(&mut self, id: u32, blocks: impl IntoIterator<Item = u64>) {
        for block in blocks {
            let mapping = (self.next, self.metadata.time);
            self.next += 1;
            self.thin(id).mappings.insert(block, mapping);
        }
    }

    pub fn discard(&mut self, id: u32, blocks: impl IntoIterator<Item = u64>) {
        for block in blocks {
            self.thin(id).mappings.remove(&block);
        }
    }

    pub fn delete(&mut self, id: u32) {
        self.metadata.thins.remove(&thin_id(id));
    }

    fn thin(&mut self, id: u32) -> &mut ThinMappings {
        self.metadata
            .thins
            .get_mut(&thin_id(id))
            .expect("it was made")
    }

    pub fn mappings(&self, id: u32) -> &BTreeMap<u64, (u64, u32)> {
        &self.metadata.thins[&thin_id(id)].mappings
    }

    pub fn ids(&self) -> Vec<u32> {
        self.metadata.thins.keys().map(|id| id.value()).collect()
    }

    pub fn image(&self) -> Image {
        Image::from(self.metadata.image())
    }

    /// Blocks that differ, and how.
    pub fn differences(&self, first: u32, second: u32) -> BTreeMap<u64, Change> {
        let (first, second) = (self.mappings(first), self.mappings(second));
        let keys: BTreeSet<_> = first.keys().chain(second.keys()).collect();
        let change = |key: &u64| match (first.get(key), second.get(key)) {
            (Some(one), Some(other)) if one.0 == other.0 => None,
            (Some(_), Some(_)) => Some((*key, Change::Changed)),
            (Some(_), None) => Some((*key, Change::Removed)),
            (None, _) => Some((*key, Change::Added)),
        };
        keys.into_iter().filter_map(change).collect()
    }

    /// Blocks that no other device maps.
    pub fn exclusive(&self, id: u32) -> u64 {
        let others = self.ids().into_iter().filter(|other| *other != id);
        let data = |id: u32| self.mappings(id).values().map(|(data, _)| *data);
        let theirs: BTreeSet<u64> = others.flat_map(data).collect();
        data(id).filter(|data| !theirs.contains(data)).count() as u64
    }
}

pub fn thin_id(id: u32) -> ThinId {
    ThinId::try_from(u64::from(id)).expect("it has 24 bits")
}

/// A metadata device in memory that counts what is read of it.
#[derive(Debug)]
pub struct Image {
    pub bytes: Vec<u8>,
    pub root: u64,
    pub reads: Cell<u64>,
}

impl From<ThinImage> for Image {
    fn from(image: ThinImage) -> Self {
        Image {
            bytes: image.bytes,
            root: image.held_root,
            reads: Cell::new(0),
        }
    }
}

impl Image {
    pub fn open(&self) -> Metadata<&Image> {
        Metadata::open(self, self.root).expect("it is whole")
    }

    /// How many blocks `act` reads.
    pub fn counted<T>(&self, act: impl FnOnce() -> T) -> (T, u64) {
        let before = self.reads.get();
        let done = act();
        (done, self.reads.get() - before)
    }
}

impl BlockSource for Image {
    fn blocks(&self) -> u64 {
        (self.bytes.len() / BLOCK) as u64
    }

    fn read(&self, block: u64, buffer: &mut Block) -> io::Result<()> {
        self.reads.set(self.reads.get() + 1);
        let at = block as usize * BLOCK;
        buffer.copy_from_slice(&self.bytes[at..at + BLOCK]);
        Ok(())
    }
}

/// The mappings that extents stand for.
pub fn spread(extents: &[Extent]) -> BTreeMap<u64, (u64, u32)> {
    let blocks = extents.iter().flat_map(|extent| {
        (0..extent.length).map(|n| (extent.begin + n, (extent.data + n, extent.time)))
    });
    blocks.collect()
}
