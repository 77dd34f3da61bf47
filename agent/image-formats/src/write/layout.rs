//! Where everything goes in a qcow2 that is written without ever going back.
//!
//! ```text
//! header │ L1 table │ reference counts' table │ reference counts │ clusters, their L2 table │ clusters, …
//! ```
//!
//! The front says where each L2 table is, so how many clusters there are must be known before the
//! first byte goes out: the extents are walked twice. Which clusters they are need not be known;
//! an L2 table comes behind its clusters, when that is seen.

/// Bytes of a cluster.
pub(super) const CLUSTER: u64 = 64 * 1024;
/// Clusters that one L2 table maps.
pub(super) const PER_TABLE: u64 = CLUSTER / 8;
/// Clusters that one block of reference counts covers.
pub(super) const PER_COUNTS: u64 = CLUSTER / 2;

/// How many clusters each part of a disk needs.
#[derive(Clone, Debug)]
pub(super) struct Clusters {
    pub(super) size: u64,
    /// Clusters with data for each L2 table; at most 8,192.
    pub(super) tables: Vec<u16>,
    /// The first cluster that was not looked at yet.
    next: u64,
}

impl Clusters {
    /// An empty disk of `size` bytes.
    pub(super) fn new(size: u64) -> Clusters {
        let tables = size.div_ceil(CLUSTER * PER_TABLE) as usize;
        Clusters {
            size,
            tables: vec![0; tables],
            next: 0,
        }
    }

    /// Adds data behind all that was added before.
    pub(super) fn add(&mut self, offset: u64, length: u64) {
        let end = (offset + length).div_ceil(CLUSTER);
        let mut cluster = (offset / CLUSTER).max(self.next);
        while cluster < end {
            let table = cluster / PER_TABLE;
            let stop = end.min((table + 1) * PER_TABLE);
            self.tables[table as usize] += (stop - cluster) as u16;
            cluster = stop;
        }
        self.next = self.next.max(end);
    }

    /// Bytes of the image.
    pub(super) fn length(&self) -> u64 {
        self.front().clusters * CLUSTER
    }

    /// Where the front's parts begin, in clusters.
    pub(super) fn front(&self) -> Front {
        let used = self.tables.iter().filter(|clusters| **clusters > 0).count();
        let data: u64 = self
            .tables
            .iter()
            .map(|clusters| u64::from(*clusters))
            .sum();
        let l1 = (self.tables.len() as u64 * 8).div_ceil(CLUSTER);
        let fixed = 1 + l1 + used as u64 + data;
        let (mut blocks, mut directory) = (1, 1);
        loop {
            let clusters = fixed + directory + blocks;
            let needed = clusters.div_ceil(PER_COUNTS);
            if needed <= blocks {
                return Front {
                    l1: 1,
                    directory: 1 + l1,
                    counts: 1 + l1 + directory,
                    first: 1 + l1 + directory + blocks,
                    clusters,
                };
            }
            blocks = needed;
            directory = (blocks * 8).div_ceil(CLUSTER);
        }
    }
}

/// Where parts begin, in clusters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Front {
    pub(super) l1: u64,
    /// The table of reference counts' blocks.
    pub(super) directory: u64,
    pub(super) counts: u64,
    /// The first cluster behind the front.
    pub(super) first: u64,
    /// All of them.
    pub(super) clusters: u64,
}
