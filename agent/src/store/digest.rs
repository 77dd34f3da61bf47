//! A digest of a set of entries that does not depend on their order.

use sha2::{Digest as _, Sha256};

use super::frame::number;

/// Entries counted, and the sum (modulo 2^128) of a hash of each.
///
/// A sum lets one entry be replaced without looking at the others, so keeping the digest
/// costs the same with ten entries and with a million.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) entries: u64,
    sum: u128,
}

impl Digest {
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.entries = self.entries.wrapping_add(1);
        self.sum = self.sum.wrapping_add(hash(key, value));
    }

    pub(crate) fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.entries = self.entries.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(hash(key, value));
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.entries.to_be_bytes().to_vec();
        bytes.extend(self.sum.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (high, low) = (number::<8>(bytes, 8)?, number::<8>(bytes, 16)?);
        Some(Self {
            entries: number::<8>(bytes, 0)?,
            sum: u128::from(high) << 64 | u128::from(low),
        })
    }
}

fn hash(key: &[u8], value: &[u8]) -> u128 {
    let mut hasher = Sha256::new();
    hasher.update((key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    let hash = hasher.finalize();
    hash[..16]
        .iter()
        .fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}
