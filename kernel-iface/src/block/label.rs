use ashlar_targetd_protocol::{RaidLevel, Sectors};
use uuid::Uuid;

/// Which pool a disk belongs to, as written on it. With all labels of a pool it can be put
/// together without any other record.
///
/// 4 KiB, little-endian; all that is not named here is zero:
///
/// | offset | length | what |
/// |--------|--------|------|
/// | 0      | 8      | `ASHLARPL` |
/// | 8      | 4      | version, 1 to 3 |
/// | 12     | 4      | CRC-32 of the 4 KiB with this field zero |
/// | 16     | 16     | the pool's id |
/// | 32     | 4      | the disk's place in the pool, from 0 |
/// | 36     | 4      | how many disks the pool has |
/// | 40     | 8      | size of the thin metadata in sectors |
/// | 48     | 8      | size of a block in sectors |
/// | 56     | 8      | versions 2 and 3: room for metadata on this disk, or on its set, in sectors |
/// | 64     | 4      | version 3: the level of RAID: 1, 5, 6 or 10 |
/// | 68     | 4      | version 3: the number of the disk's set, from 0 |
/// | 72     | 4      | version 3: the disk's place in the set, from 0 |
/// | 76     | 4      | version 3: how many disks the set has |
/// | 80     | 8      | version 3: size of what the set has on each disk, in sectors |
/// | 88     | 4      | version 3: how many disks had this place before |
/// | 96     | 8      | versions 2 and 3: how much at the end of that room is the catalog's, in sectors |
/// | 104    | 4      | versions 2 and 3: how often the pool has changed hands; 0 when nobody says |
/// | 108    | 16     | versions 2 and 3: the box whose it is; zero once it was let go of |
///
/// In version 1 all metadata is on the disk at place 0, with its size rounded up to a MiB. That
/// version is written wherever it says all there is to say, so that only pools whose metadata
/// have grown, or have a catalog, are unknown to the oldest firmware. Version 3 is for disks that stand in for each other.
/// Firmware that does not know of a catalog leaves it alone, as room for metadata not used yet, and
/// what it labels anew says nothing of catalog and holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLabel {
    /// The pool.
    pub pool: Uuid,
    /// The disk's place in it, from 0.
    pub index: u32,
    /// How many disks it has.
    pub count: u32,
    /// Size of its thin metadata, which fill the room for them on one disk after the other.
    pub metadata: Sectors,
    /// Its allocation unit.
    pub block: Sectors,
    /// The room for metadata on this disk, before the data. In a set, that on the set.
    pub metadata_room: Sectors,
    /// How much of it, at its end, is the pool's catalog instead. On one disk of a pool at most, or
    /// on one set.
    pub catalog: Sectors,
    /// Whose the pool is, as far as anybody said.
    pub tenure: Tenure,
    /// The set it belongs to, if disks stand in for each other.
    pub set: Option<SetLabel>,
}

/// Who has a pool. Of several that its disks tell, the one with the highest count is true: a disk
/// that was away when the pool changed hands still tells of before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tenure {
    /// How often the pool has changed hands, the first box included; 0 when nobody says.
    pub count: u32,
    /// The box; nil once it let go of the pool.
    pub holder: Uuid,
}

/// Which part of a set of disks that stand in for each other a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetLabel {
    /// How they do.
    pub level: RaidLevel,
    /// The set's number in the pool, from 0.
    pub number: u32,
    /// The disk's place in it, from 0.
    pub place: u32,
    /// How many disks it has.
    pub width: u32,
    /// The size of what the set has on each disk.
    pub leg: Sectors,
    /// How many disks had this place before.
    pub turn: u32,
}

const MAGIC: &[u8; 8] = b"ASHLARPL";
/// All metadata on the disk at place 0.
const PLAIN: u32 = 1;
/// With the room for metadata on each disk.
const SPREAD: u32 = 2;
/// With the set.
const SET: u32 = 3;
/// What rooms and data begin at a multiple of.
const ALIGNMENT: u64 = 2048;
const CRC: std::ops::Range<usize> = 12..16;
const CATALOG: std::ops::Range<usize> = 96..104;
const COUNT: std::ops::Range<usize> = 104..108;
const HOLDER: std::ops::Range<usize> = 108..124;

impl PoolLabel {
    /// Bytes of a label on disk.
    pub(super) const SIZE: usize = 4096;

    /// The room for metadata that version 1 implies; `None` when it is beyond any disk.
    pub fn plain_room(index: u32, metadata: Sectors) -> Option<Sectors> {
        match index {
            0 => metadata.0.checked_next_multiple_of(ALIGNMENT).map(Sectors),
            _ => Some(Sectors(0)),
        }
    }

    fn version(&self) -> u32 {
        let plain = Self::plain_room(self.index, self.metadata) == Some(self.metadata_room)
            && self.tenure == Tenure::default();
        match (self.set, plain) {
            (Some(_), _) => SET,
            (None, true) => PLAIN,
            (None, false) => SPREAD,
        }
    }

    /// Whether another one says the same of where the pool's data are: all but the catalog and who
    /// has the pool, of which older firmware says nothing.
    pub fn places_as(&self, other: &PoolLabel) -> bool {
        let bare = |label: &PoolLabel| PoolLabel {
            catalog: Sectors(0),
            tenure: Tenure::default(),
            ..*label
        };
        bare(self) == bare(other)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::SIZE);
        bytes.extend_from_slice(MAGIC);
        let version = self.version();
        bytes.extend_from_slice(&version.to_le_bytes());
        bytes.extend_from_slice(&[0; CRC.end - CRC.start]);
        bytes.extend_from_slice(self.pool.as_bytes());
        bytes.extend_from_slice(&self.index.to_le_bytes());
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(&self.metadata.0.to_le_bytes());
        bytes.extend_from_slice(&self.block.0.to_le_bytes());
        if version != PLAIN {
            bytes.extend_from_slice(&self.metadata_room.0.to_le_bytes());
        }
        if let Some(set) = &self.set {
            for word in [level_number(set.level), set.number, set.place, set.width] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
            bytes.extend_from_slice(&set.leg.0.to_le_bytes());
            bytes.extend_from_slice(&set.turn.to_le_bytes());
        }
        bytes.resize(Self::SIZE, 0);
        if version != PLAIN {
            bytes[CATALOG].copy_from_slice(&self.catalog.0.to_le_bytes());
            bytes[COUNT].copy_from_slice(&self.tenure.count.to_le_bytes());
            bytes[HOLDER].copy_from_slice(self.tenure.holder.as_bytes());
        }
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
        let genuine = bytes.starts_with(MAGIC) && word(CRC.start)? == crc32fast::hash(&unsigned);
        let (index, metadata) = (word(32)?, Sectors(long(40)?));
        let metadata_room = match word(8)? {
            PLAIN => Self::plain_room(index, metadata)?,
            SPREAD | SET => Sectors(long(56)?),
            _ => return None,
        };
        let catalog = match word(8)? {
            PLAIN => Sectors(0),
            _ => Sectors(long(CATALOG.start)?),
        };
        let tenure = match word(8)? {
            PLAIN => Tenure::default(),
            _ => Tenure {
                count: word(COUNT.start)?,
                holder: Uuid::from_slice(bytes.get(HOLDER)?).ok()?,
            },
        };
        let set = match word(8)? {
            SET => Some(SetLabel {
                level: level_numbered(word(64)?)?,
                number: word(68)?,
                place: word(72)?,
                width: word(76)?,
                leg: Sectors(long(80)?),
                turn: word(88)?,
            }),
            _ => None,
        };
        let label = PoolLabel {
            pool: Uuid::from_slice(bytes.get(16..32)?).ok()?,
            index,
            count: word(36)?,
            metadata,
            block: Sectors(long(48)?),
            metadata_room,
            catalog,
            tenure,
            set,
        };
        let placed = label.index < label.count && set.is_none_or(|set| set.place < set.width);
        let placed = placed && catalog <= metadata_room;
        (genuine && placed).then_some(label)
    }
}

fn level_number(level: RaidLevel) -> u32 {
    match level {
        RaidLevel::Raid1 => 1,
        RaidLevel::Raid5 => 5,
        RaidLevel::Raid6 => 6,
        RaidLevel::Raid10 => 10,
    }
}

fn level_numbered(number: u32) -> Option<RaidLevel> {
    let mut levels = RaidLevel::ALL.into_iter();
    levels.find(|level| level_number(*level) == number)
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
            metadata_room: Sectors(0),
            catalog: Sectors(0),
            tenure: Tenure::default(),
            set: None,
        }
    }

    #[test]
    fn a_label_reads_back_as_it_was_written() {
        assert_eq!(PoolLabel::decode(&label().encode()), Some(label()));
    }

    fn spread() -> PoolLabel {
        PoolLabel {
            metadata_room: Sectors(4096),
            ..label()
        }
    }

    fn of_a_set() -> PoolLabel {
        PoolLabel {
            set: Some(SetLabel {
                level: RaidLevel::Raid6,
                number: 2,
                place: 1,
                width: 4,
                leg: Sectors(409_600),
                turn: 3,
            }),
            ..spread()
        }
    }

    #[test]
    fn a_disk_of_a_set_says_which_part_of_it_it_is() {
        let bytes = of_a_set().encode();
        assert_eq!(bytes[8..12], 3_u32.to_le_bytes());
        assert_eq!(bytes[64..68], 6_u32.to_le_bytes());
        assert_eq!(bytes[80..88], 409_600_u64.to_le_bytes());
        assert_eq!(bytes[88..92], 3_u32.to_le_bytes());
        assert_eq!(PoolLabel::decode(&bytes), Some(of_a_set()));
        for level in RaidLevel::ALL {
            let mut label = of_a_set();
            label.set = label.set.map(|set| SetLabel { level, ..set });
            assert_eq!(PoolLabel::decode(&label.encode()), Some(label));
        }
        let mut beyond = of_a_set();
        beyond.set = beyond.set.map(|set| SetLabel { place: 4, ..set });
        assert_eq!(PoolLabel::decode(&beyond.encode()), None);
    }

    #[test]
    fn a_label_on_disk_never_changes_its_shape() {
        let bytes = label().encode();
        assert_eq!(bytes.len(), 4096);
        assert_eq!(bytes[..12], *b"ASHLARPL\x01\0\0\0");
        assert_eq!(bytes[12..16], 0xa543_effb_u32.to_le_bytes());
    }

    #[test]
    fn only_what_version_1_cannot_say_is_said_in_version_2() {
        let bytes = spread().encode();
        assert_eq!(bytes[8..12], 2_u32.to_le_bytes());
        assert_eq!(bytes[56..64], 4096_u64.to_le_bytes());
        assert_eq!(PoolLabel::decode(&bytes), Some(spread()));
        // The metadata of the first disk, up to a whole MiB.
        let first = PoolLabel {
            index: 0,
            metadata: Sectors(32_760),
            metadata_room: Sectors(32_768),
            ..label()
        };
        assert_eq!(first.encode()[8..12], 1_u32.to_le_bytes());
        assert_eq!(PoolLabel::decode(&first.encode()), Some(first));
    }

    #[test]
    fn a_catalog_is_what_older_firmware_takes_for_room() {
        let label = PoolLabel {
            metadata_room: Sectors(8192),
            catalog: Sectors(4096),
            ..label()
        };
        let bytes = label.encode();
        assert_eq!(bytes[8..12], 2_u32.to_le_bytes());
        assert_eq!(bytes[56..64], 8192_u64.to_le_bytes());
        assert_eq!(bytes[96..104], 4096_u64.to_le_bytes());
        assert_eq!(bytes[104..124], [0; 20]);
        assert_eq!(PoolLabel::decode(&bytes), Some(label));
        // It is a part of the room, not more.
        let more = PoolLabel {
            catalog: Sectors(8200),
            ..label
        };
        assert_eq!(PoolLabel::decode(&more.encode()), None);
    }

    #[test]
    fn who_has_a_pool_is_beside_where_it_is() {
        let old = PoolLabel {
            metadata_room: Sectors(8192),
            ..label()
        };
        let tenure = Tenure {
            count: 3,
            holder: Uuid::from_u128(7),
        };
        let new = PoolLabel {
            catalog: Sectors(4096),
            tenure,
            ..old
        };
        let bytes = new.encode();
        assert_eq!(bytes[104..108], 3_u32.to_le_bytes());
        assert_eq!(bytes[108..124], *tenure.holder.as_bytes());
        assert_eq!(PoolLabel::decode(&bytes), Some(new));
        assert!(old.places_as(&new) && old != new);
        let elsewhere = PoolLabel { count: 9, ..new };
        assert!(!elsewhere.places_as(&new));
        // The newest counts, whoever it is.
        let before = Tenure {
            count: 2,
            holder: Uuid::max(),
        };
        assert!(before < tenure);
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
            let mut bytes = spread().encode();
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(PoolLabel::decode(&bytes), None);
            let mut bytes = of_a_set().encode();
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(PoolLabel::decode(&bytes), None);
        }

        #[test]
        fn no_bytes_can_panic_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let _ = PoolLabel::decode(&bytes);
        }
    }
}
