//! Names by which this box's kernel objects are known as its own.
//!
//! Everything is named after the id of a volume, a snapshot or a pool, so any object leads back to what it
//! belongs to, and nothing has to be remembered to find it. What does not carry such a name is
//! foreign: reported, never touched.

use std::fmt;

use ashlar_kernel_iface::dm::{DmName, DmUuid};
use uuid::Uuid;

/// What follows `iqn.` and `nqn.` in the names of our targets and subsystems.
const AUTHORITY: &str = "2026-11.io.ashlar:";
const VOLUME: &str = "ashlar-vol-";
const SNAPSHOT: &str = "ashlar-snap-";
const COPY: &str = "ashlar-copy-";
const TARGET: &str = "ashlar-move-";
const PROBE: &str = "ashlar-probe-";
const POOL: &str = "ashlar-pool-";

/// The target that keeps the portals of this box open; see the iSCSI transport.
pub const PORTAL_KEEPER: &str = "iqn.2026-11.io.ashlar:portals";

/// One of the devices a pool is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PoolPart {
    /// Linear over what the kernel writes on a disk of a set about all of them.
    Super(Member),
    /// Linear over what a set has on a disk.
    Leg(Member),
    /// The array on the legs of one set.
    Set(u32),
    /// Linear over the metadata region.
    Meta,
    /// Linear over the data regions of all disks, or all sets.
    Data,
    /// The thin pool on both.
    Thin,
    /// Linear over the catalog, which is the agent's to write.
    Catalog,
}

/// One disk of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// The set's number.
    pub set: u32,
    /// The place in it.
    pub place: u32,
    /// How many disks had the place before. A disk that takes the place of another has devices of
    /// its own, so that nothing that was on the other is ever looked for on it.
    pub turn: u32,
}

impl PoolPart {
    /// What every pool has, in the order in which it is made; legs and sets come before.
    pub const TOP: [PoolPart; 4] = [
        PoolPart::Meta,
        PoolPart::Data,
        PoolPart::Thin,
        PoolPart::Catalog,
    ];

    fn parse(text: &str) -> Option<Self> {
        if let Some(part) = PoolPart::TOP.iter().find(|part| part.to_string() == text) {
            return Some(*part);
        }
        let words: Vec<&str> = text.split('-').collect();
        let part = match words.as_slice() {
            ["set", set] => PoolPart::Set(set.parse().ok()?),
            ["set", set, what @ ("super" | "leg"), place, turn] => {
                let member = Member {
                    set: set.parse().ok()?,
                    place: place.parse().ok()?,
                    turn: turn.parse().ok()?,
                };
                match *what {
                    "super" => PoolPart::Super(member),
                    _ => PoolPart::Leg(member),
                }
            }
            _ => return None,
        };
        // Only the form that is written is read.
        (part.to_string() == text).then_some(part)
    }
}

impl fmt::Display for PoolPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoolPart::Super(Member { set, place, turn }) => {
                write!(f, "set-{set}-super-{place}-{turn}")
            }
            PoolPart::Leg(Member { set, place, turn }) => {
                write!(f, "set-{set}-leg-{place}-{turn}")
            }
            PoolPart::Set(set) => write!(f, "set-{set}"),
            PoolPart::Meta => f.write_str("meta"),
            PoolPart::Data => f.write_str("data"),
            PoolPart::Thin => f.write_str("thin"),
            PoolPart::Catalog => f.write_str("catalog"),
        }
    }
}

/// The device of a volume.
pub fn volume_device(volume: Uuid) -> DmName {
    plain_name(format!("{VOLUME}{volume}"))
}

/// The device of a snapshot.
pub fn snapshot_device(snapshot: Uuid) -> DmName {
    plain_name(format!("{SNAPSHOT}{snapshot}"))
}

/// The device by which the agent reads a copy of a volume that moves.
pub fn copy_device(volume: Uuid) -> DmName {
    plain_name(format!("{COPY}{volume}"))
}

/// The device by which the agent writes what a volume that moves is to be on.
pub fn target_device(volume: Uuid) -> DmName {
    plain_name(format!("{TARGET}{volume}"))
}

/// The device by which a look is taken at what a new volume's thin device holds. It is there for
/// a moment only.
pub fn probe_device(volume: Uuid) -> DmName {
    plain_name(format!("{PROBE}{volume}"))
}

/// A device of a pool.
pub fn pool_device(pool: Uuid, part: PoolPart) -> DmName {
    plain_name(format!("{POOL}{pool}-{part}"))
}

/// The device-mapper uuid that marks a device as ours. It follows from the name, so a device
/// that has the name without the uuid was made by somebody else.
pub fn device_uuid(name: &DmName) -> DmUuid {
    let text = format!("ASHLAR-{}", name.as_str());
    DmUuid::try_from(text).expect("a name of ours is plain and far below 120 bytes")
}

fn plain_name(text: String) -> DmName {
    DmName::try_from(text).expect("letters, digits and dashes, below 96 bytes")
}

/// The volume that a device of this name is of, or the volume or snapshot that a backstore is of.
pub fn volume_named(name: &str) -> Option<Uuid> {
    exact_uuid(name.strip_prefix(VOLUME)?)
}

/// The snapshot that a device of this name is of.
pub fn snapshot_named(name: &str) -> Option<Uuid> {
    exact_uuid(name.strip_prefix(SNAPSHOT)?)
}

/// The volume that moves with a device of this name.
pub fn moving_named(name: &str) -> Option<Uuid> {
    let rest = [COPY, TARGET].iter();
    exact_uuid(rest.filter_map(|prefix| name.strip_prefix(prefix)).next()?)
}

/// The volume that a device of this name was to look at.
pub fn probe_named(name: &str) -> Option<Uuid> {
    exact_uuid(name.strip_prefix(PROBE)?)
}

/// Whether a device was made here: it has the uuid that follows from its name.
pub fn is_marked(name: &str, uuid: &str) -> bool {
    name.parse()
        .is_ok_and(|name: DmName| device_uuid(&name).as_str() == uuid)
}

/// The pool that a device of this name is a part of.
pub fn pool_named(name: &str) -> Option<Uuid> {
    pool_part_named(name).map(|(pool, _)| pool)
}

/// The same, and which part.
pub fn pool_part_named(name: &str) -> Option<(Uuid, PoolPart)> {
    let rest = name.strip_prefix(POOL)?;
    let (id, part) = rest.split_at_checked(uuid::fmt::Hyphenated::LENGTH)?;
    let part = PoolPart::parse(part.strip_prefix('-')?)?;
    Some((exact_uuid(id)?, part))
}

/// The volume or snapshot whose iSCSI target has this name: `iqn.2026-11.io.ashlar:<box>:<id>`.
/// No volume has the id of a snapshot.
pub fn volume_of_target(iqn: &str) -> Option<Uuid> {
    volume_after_box(iqn.strip_prefix("iqn.")?)
}

/// The volume whose NVMe subsystem has this name: `nqn.2026-11.io.ashlar:<box>:<volume>`.
pub fn volume_of_subsystem(nqn: &str) -> Option<Uuid> {
    volume_after_box(nqn.strip_prefix("nqn.")?)
}

fn volume_after_box(rest: &str) -> Option<Uuid> {
    let (_box, volume) = rest.strip_prefix(AUTHORITY)?.rsplit_once(':')?;
    exact_uuid(volume)
}

/// Only the form that is written is read: hyphenated, lower case.
fn exact_uuid(text: &str) -> Option<Uuid> {
    let uuid = Uuid::try_parse(text).ok()?;
    (uuid.hyphenated().to_string() == text).then_some(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

    #[test]
    fn every_name_leads_back_to_its_owner() {
        let id = exact_uuid(ID).unwrap();
        assert_eq!(volume_named(volume_device(id).as_str()), Some(id));
        assert_eq!(snapshot_named(snapshot_device(id).as_str()), Some(id));
        for device in [copy_device(id), target_device(id)] {
            assert_eq!(moving_named(device.as_str()), Some(id));
        }
        assert_eq!(probe_named(probe_device(id).as_str()), Some(id));
        let member = Member {
            set: 15,
            place: 31,
            turn: u32::MAX,
        };
        let below = [
            PoolPart::Super(member),
            PoolPart::Leg(member),
            PoolPart::Set(63),
        ];
        for part in PoolPart::TOP.into_iter().chain(below) {
            assert_eq!(pool_named(pool_device(id, part).as_str()), Some(id));
        }
        let target = format!("iqn.2026-11.io.ashlar:box:{ID}");
        assert_eq!(volume_of_target(&target), Some(id));
        let subsystem = format!("nqn.2026-11.io.ashlar:box:{ID}");
        assert_eq!(volume_of_subsystem(&subsystem), Some(id));
    }

    #[test]
    fn names_that_are_merely_similar_are_foreign() {
        for name in [
            format!("iqn.2026-11.io.ashlar:{ID}"),
            format!("iqn.2026-11.io.ashlar.other:box:{ID}"),
            format!("iqn.2003-01.org.linux-iscsi:box:{ID}"),
            format!("nqn.2026-11.io.ashlar:box:{ID}"),
            format!("iqn.2026-11.io.ashlar:box:{}", ID.to_uppercase()),
            "iqn.2026-11.io.ashlar:box:disk".to_owned(),
        ] {
            assert_eq!(volume_of_target(&name), None, "{name}");
        }
        assert_eq!(volume_named(&format!("ashlar-vol-{ID}-x")), None);
        for part in [
            "",
            "-",
            "-set",
            "-set-01",
            "-set-1-leg-2",
            "-set-1-arm-2-0",
            "-setx",
        ] {
            assert_eq!(
                pool_named(&format!("ashlar-pool-{ID}{part}")),
                None,
                "{part}"
            );
        }
    }
}
