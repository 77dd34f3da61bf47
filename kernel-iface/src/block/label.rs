use ashlar_targetd_protocol::Sectors;
use uuid::Uuid;

/// Which pool a disk belongs to, as written on it. With all labels of a pool it can be put
/// together without any other record.
///
/// 4 KiB, little-endian; all that is not named here is zero:
///
/// | offset | length | what |
/// |--------|--------|------|
/// | 0      | 8      | `ASHLARPL` |
/// | 8      | 4      | version, 1 |
/// | 12     | 4      | CRC-32 of the 4 KiB with this field zero |
/// | 16     | 16     | the pool's id |
/// | 32     | 4      | the disk's place in the pool, from 0 |
/// | 36     | 4      | how many disks the pool has |
/// | 40     | 8      | size of the thin metadata in sectors |
/// | 48     | 8      | size of a block in sectors |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLabel {
    /// The pool.
    pub pool: Uuid,
    /// The disk's place in it, from 0.
    pub index: u32,
    /// How many disks it has.
    pub count: u32,
    /// Size of its thin metadata, which is on the disk at place 0.
    pub metadata: Sectors,
    /// Its allocation unit.
    pub block: Sectors,
}

const MAGIC: &[u8; 8] = b"ASHLARPL";
const VERSION: u32 = 1;
const CRC: std::ops::Range<usize> = 12..16;

impl PoolLabel {
    /// Bytes of a label on disk.
    pub(super) const SIZE: usize = 4096;

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::SIZE);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; CRC.end - CRC.start]);
        bytes.extend_from_slice(self.pool.as_bytes());
        bytes.extend_from_slice(&self.index.to_le_bytes());
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(&self.metadata.0.to_le_bytes());
        bytes.extend_from_slice(&self.block.0.to_le_bytes());
        bytes.resize(Self::SIZE, 0);
        let crc = crc32fast::hash(&bytes);
        bytes[CRC].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` for anything that [`PoolLabel::encode`] did not write.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..Self::SIZE)?;
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let mut unsigned = bytes.to_vec();
        unsigned[CRC].fill(0);
        let genuine = bytes.starts_with(MAGIC)
            && word(8)? == VERSION
            && word(CRC.start)? == crc32fast::hash(&unsigned);
        let label = PoolLabel {
            pool: Uuid::from_slice(bytes.get(16..32)?).ok()?,
            index: word(32)?,
            count: word(36)?,
            metadata: Sectors(long(40)?),
            block: Sectors(long(48)?),
        };
        (genuine && label.index < label.count).then_some(label)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn label() -> PoolLabel {
        PoolLabel {
            pool: Uuid::from_u128(7),
            index: 1,
            count: 3,
            metadata: Sectors(32768),
            block: Sectors(128),
        }
    }

    #[test]
    fn a_label_reads_back_as_it_was_written() {
        assert_eq!(PoolLabel::decode(&label().encode()), Some(label()));
    }

    #[test]
    fn a_label_on_disk_never_changes_its_shape() {
        let bytes = label().encode();
        assert_eq!(bytes.len(), 4096);
        assert_eq!(bytes[..12], *b"ASHLARPL\x01\0\0\0");
        assert_eq!(bytes[12..16], 0xa543_effb_u32.to_le_bytes());
    }

    #[test]
    fn a_place_beyond_the_pools_disks_is_no_label() {
        let label = PoolLabel {
            index: 3,
            ..label()
        };
        assert_eq!(PoolLabel::decode(&label.encode()), None);
    }

    proptest! {
        #[test]
        fn one_wrong_bit_anywhere_is_no_label(at in 0..4096_usize, bit in 0..8_u32) {
            let mut bytes = label().encode();
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(PoolLabel::decode(&bytes), None);
        }

        #[test]
        fn no_bytes_can_panic_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let _ = PoolLabel::decode(&bytes);
        }
    }
}
