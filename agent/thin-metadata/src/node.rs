//! A node of a B-tree: a header, an array of ascending keys, an array of values.
//!
//! An internal node's values are the blocks of its children, and its keys the lowest that each
//! child may hold.

use crate::error::{Damage, MetadataError};
use crate::source::{BLOCK, Block, checksum, long, word};

const SALT: u32 = 121_107;
const HEADER: usize = 32;
const KEY: usize = 8;
const INTERNAL: u32 = 1;
const LEAF: u32 = 2;
/// Size of an internal node's values.
const CHILD: u32 = 8;

/// A node whose checks all hold.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    bytes: Box<Block>,
    pub leaf: bool,
    pub entries: usize,
    most: usize,
    value: usize,
}

impl Node {
    /// Reads the one that was found in block `at`; a leaf's values must have `value` bytes.
    pub fn parse(at: u64, bytes: Box<Block>, value: u32) -> Result<Self, MetadataError> {
        check(at, &bytes, value).map_err(|damage| MetadataError::damaged(at, damage))?;
        Ok(Node {
            leaf: word(&bytes[..], 4) == LEAF,
            entries: word(&bytes[..], 16) as usize,
            most: word(&bytes[..], 20) as usize,
            value: word(&bytes[..], 24) as usize,
            bytes,
        })
    }

    /// `index` is below `entries`; likewise below.
    pub fn key(&self, index: usize) -> u64 {
        long(&self.bytes[..], HEADER + KEY * index)
    }

    pub fn value(&self, index: usize) -> &[u8] {
        let at = HEADER + KEY * self.most + self.value * index;
        &self.bytes[at..at + self.value]
    }

    /// The value of a node whose values are numbers.
    pub fn number(&self, index: usize) -> u64 {
        long(self.value(index), 0)
    }

    /// How many keys are below `key`.
    pub fn below(&self, key: u64) -> usize {
        self.count_while(|other| other < key)
    }

    /// The child that holds `key` if any does.
    pub fn reaching(&self, key: u64) -> usize {
        self.count_while(|other| other <= key).saturating_sub(1)
    }

    /// How many keys, which ascend, come before `test` fails.
    fn count_while(&self, test: impl Fn(u64) -> bool) -> usize {
        let (mut low, mut high) = (0, self.entries);
        while low < high {
            let middle = (low + high) / 2;
            match test(self.key(middle)) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }
}

fn check(at: u64, bytes: &Block, value: u32) -> Result<(), Damage> {
    if word(bytes, 0) != checksum(bytes, SALT) {
        return Err(Damage::Checksum);
    }
    if long(bytes, 8) != at {
        return Err(Damage::Misplaced(long(bytes, 8)));
    }
    let expected = match word(bytes, 4) {
        INTERNAL => CHILD,
        LEAF => value,
        kind => return Err(Damage::Kind(kind)),
    };
    let (entries, most, size) = (word(bytes, 16), word(bytes, 20), word(bytes, 24));
    let room = (BLOCK - HEADER) as u64;
    let needed = u64::from(most) * (KEY as u64 + u64::from(expected));
    if size != expected || entries > most || needed > room {
        return Err(Damage::Entries {
            entries,
            most,
            value: size,
        });
    }
    ascending(bytes, entries as usize)
}

fn ascending(bytes: &Block, entries: usize) -> Result<(), Damage> {
    let keys = |index| long(bytes, HEADER + KEY * index);
    let wrong = (1..entries).find(|index| keys(index - 1) >= keys(*index));
    wrong.map_or(Ok(()), |index| Err(Damage::Key(keys(index))))
}
