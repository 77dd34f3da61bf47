//! What targetd saw and did, and what went wrong.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::desired::Accesses;
use crate::names::{DiskId, PortalAddr, Transport};
use crate::raid::RaidLevel;
use crate::units::{Bytes, Sectors};
use crate::wwn::{FcPort, Wwn};

/// The outcome of applying one object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The desired state's generation.
    pub generation: u64,
    /// The steps taken, as readable lines without secrets. Empty when all was already so.
    pub steps: Vec<String>,
    /// Where it is not served, as that cannot be had. Every transport is served somewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unserved: Vec<Unserved>,
}

/// Where hosts come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServedAt {
    /// An address that is listened on.
    Address(PortalAddr),
    /// A port of the box's own on Fibre Channel.
    Fc(Wwn),
    /// The same, for NVMe.
    NvmeFc(FcPort),
}

impl ServedAt {
    /// The address, if it has such.
    pub fn address(self) -> Option<PortalAddr> {
        match self {
            ServedAt::Address(address) => Some(address),
            ServedAt::Fc(_) | ServedAt::NvmeFc(_) => None,
        }
    }
}

/// An address that could not be listened on, or a port that is no target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unserved {
    /// Over which transport.
    pub transport: Transport,
    /// Where.
    pub at: ServedAt,
    /// Whether it is an address that no interface has: the kernel tells when one does.
    pub absent: bool,
    /// Why, as a readable line.
    pub message: String,
}

impl Unserved {
    /// Whether it is this one. A target that takes RDMA at an address takes TCP there, too, so that
    /// want of the one is want of the other.
    pub fn is(&self, transport: Transport, at: ServedAt) -> bool {
        let by_tcp = transport == Transport::Iser && self.transport == Transport::Iscsi;
        self.at == at && (self.transport == transport || by_tcp)
    }
}

/// What the kernel has of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeReport {
    /// The device's size, or `None` when it is not active.
    pub active: Option<Sectors>,
    /// Blocks mapped, in sectors; known while active.
    pub mapped: Option<Sectors>,
    /// The transports it is exported over.
    pub exported: Vec<Transport>,
}

/// What the kernel has of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolReport {
    /// The pool.
    pub id: Uuid,
    /// Its fill, or `None` when it is not active.
    pub usage: Option<PoolUsage>,
    /// Whether new blocks are refused: the pool failed, is read-only or needs a check.
    pub degraded: bool,
    /// How its sets are, in their order; none without redundancy, and when it is not active.
    pub sets: Vec<SetReport>,
    /// When the look began, in nanoseconds since the box started. What was seen earlier says
    /// nothing after what was seen later.
    pub looked: u64,
}

/// How a set of disks is that stand in for each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetReport {
    /// Its disks, in their order.
    pub members: Vec<MemberState>,
    /// What the kernel does with all of it, beside what hosts do.
    pub action: SetAction,
    /// How far that is, of [`SetReport::total`].
    pub done: Sectors,
    /// Its size as that goes over it.
    pub total: Sectors,
    /// Sectors that were found to differ where they should not, by the last scrub.
    pub mismatches: Sectors,
}

/// How a disk of a set is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberState {
    /// It has its data.
    InSync,
    /// It is used and has a part of its data.
    Rebuilding,
    /// It is used, and what it has is being made the same as the others', all of whom are said to
    /// be like this. Which of them lacks data is not told meanwhile.
    Resyncing,
    /// It was used until it could not be read or written.
    Failed,
    /// It is not used: it was not there.
    Missing,
}

/// What the kernel does with a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SetAction {
    /// Nothing.
    Idle,
    /// It makes its disks the same, because it is new or was not stopped in order.
    Resync,
    /// It gives disks the data they miss.
    Rebuild,
    /// It compares them.
    Check,
    /// It compares them and makes them the same.
    Repair,
    /// It was told to do nothing of the kind.
    Frozen,
}

/// How full a pool is, in its own blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolUsage {
    /// dm-thin's transaction id.
    pub transaction_id: u64,
    /// Metadata blocks in use (4 KiB each).
    pub metadata_used: u64,
    /// Metadata blocks there are.
    pub metadata_total: u64,
    /// Data blocks in use.
    pub data_used: u64,
    /// Data blocks there are.
    pub data_total: u64,
    /// Size of a data block.
    pub block: Sectors,
}

impl PoolUsage {
    /// Whether there are metadata enough to count `data` blocks of data in `metadata` blocks of
    /// them. The kernel, when it runs out of them midway, changes nothing in the pool any more
    /// until it is repaired.
    ///
    /// A metadata block counts 16320 data blocks. What leads to those is written anew, and hosts
    /// go on mapping meanwhile, so there is to be something left.
    pub fn can_count(&self, data: u64, metadata: u64) -> bool {
        const COUNTED: u64 = 16_320;
        const MARGIN: u64 = 64;
        // Up to 16 MiB the kernel keeps for itself, and tells as used.
        let kept = |total: u64| (total / 10).min(4096);
        let more = metadata.max(self.metadata_total);
        let used = self.metadata_used + kept(more) - kept(self.metadata_total);
        let counting = data.div_ceil(COUNTED) - self.data_total.min(data).div_ceil(COUNTED);
        let needed = match counting {
            0 => 0,
            _ => counting + counting / 64 + MARGIN,
        };
        used.saturating_add(needed) <= more
    }
}

/// What a device has done since it became active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IoCounters {
    /// Reads.
    pub reads: IoTotals,
    /// Writes.
    pub writes: IoTotals,
    /// Discards.
    pub discards: IoTotals,
    /// Flushes.
    pub flushes: IoTotals,
    /// For how long anything was under way.
    pub busy_milliseconds: u64,
    /// Reads under way now.
    pub reads_in_flight: u64,
    /// Writes under way now, and discards.
    pub writes_in_flight: u64,
}

/// Operations of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IoTotals {
    /// How many were completed.
    pub operations: u64,
    /// Bytes they moved, or of a discard, covered.
    pub bytes: Bytes,
    /// Time from beginning to end, summed over them.
    pub milliseconds: u64,
}

impl IoTotals {
    /// Counts one more operation, which took no time.
    pub fn count(&mut self, bytes: u64) {
        self.operations += 1;
        self.bytes.0 += bytes;
    }
}

/// A disk of the box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskReport {
    /// Stable identity.
    pub id: DiskId,
    /// The kernel's name today, for people only.
    pub kernel_name: String,
    /// Its size.
    pub size: Bytes,
    /// Whether it spins.
    pub rotational: bool,
    /// Whether something (a mount, a pool, the system itself) has it open.
    pub in_use: bool,
    /// `None` when blank, else what it appears to hold, in words.
    pub content: Option<String>,
    /// The Ashlar pool whose label it carries.
    pub pool: Option<Uuid>,
    /// What its label says of its part in that pool.
    pub member: Option<MemberReport>,
}

/// What a disk's label says of its part in a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberReport {
    /// Whether partition table and label are whole.
    pub complete: bool,
    /// The disk's place among the pool's, from 0.
    pub index: u32,
    /// How many disks the pool has.
    pub count: u32,
    /// Size of its thin metadata.
    pub metadata: Sectors,
    /// Size of a block.
    pub block: Sectors,
    /// Room for metadata on it, or on its set.
    pub metadata_room: Sectors,
    /// How much of that is the catalog's.
    pub catalog: Sectors,
    /// How often the pool has changed hands by it; 0 when it does not say whose it is.
    pub tenure: u32,
    /// The box that has it; nil once it was let go of.
    pub holder: Uuid,
    /// The set it belongs to, if disks stand in for each other.
    pub set: Option<SetMemberReport>,
}

/// What a disk's label says of its part in a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetMemberReport {
    /// How its disks stand in for each other.
    pub level: RaidLevel,
    /// The set's number, from 0.
    pub number: u32,
    /// How many disks it has.
    pub width: u32,
    /// The size of what the set has on each disk.
    pub leg: Sectors,
    /// How many disks had this place before.
    pub turn: u32,
}

/// A kernel facility and whether it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureReport {
    /// `device-mapper`, `thin-pool`, `iscsi`, `nvme-tcp`, `blkio`.
    pub name: String,
    /// Why it cannot be used, or `None` when it can.
    pub problem: Option<String>,
}

/// Why an object could not be brought to its desired state. Steps already taken stay taken;
/// sending the same state again goes on from there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
#[error("{message}")]
pub struct Failure {
    /// What kind of trouble.
    pub kind: FailureKind,
    /// One readable line: verb, object, id, cause. Never a secret.
    pub message: String,
    /// The hosts that use what they were to lose, if that is the trouble.
    #[serde(default, skip_serializing_if = "Accesses::is_empty")]
    pub users: Accesses,
}

impl Failure {
    /// A failure that no host is to blame for.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
        Failure {
            kind,
            message: message.into(),
            users: Accesses::default(),
        }
    }
}

/// What a caller can react to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The kernel lacks a module or a feature.
    Unsupported,
    /// The object, its data or its disk is in use, and cutting that off was not agreed to.
    InUse,
    /// A pool, disk or thin device that should exist does not.
    Missing,
    /// A disk holds something, and wiping was not asked for.
    NotBlank,
    /// The desired state contradicts itself or breaks a safety rule.
    Refused,
    /// No room in the pool or on a disk.
    NoSpace,
    /// Something that is not ours stands where ours should.
    Foreign,
    /// The thin device of a volume that is to be new is there already and holds data. It is
    /// somebody's: the volume is to be forgotten, and the thin device left alone.
    Occupied,
    /// A listening address cannot be had.
    Address,
    /// Anything else the kernel said no to.
    Kernel,
    /// targetd is stopping.
    Stopping,
}

impl FailureKind {
    /// Whether sending the same state again may succeed without anyone changing anything.
    pub fn retryable(self) -> bool {
        match self {
            FailureKind::InUse
            | FailureKind::Address
            | FailureKind::Kernel
            | FailureKind::Stopping => true,
            FailureKind::Unsupported
            | FailureKind::Missing
            | FailureKind::NotBlank
            | FailureKind::Refused
            | FailureKind::NoSpace
            | FailureKind::Foreign
            | FailureKind::Occupied => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_are_counted_where_there_is_room_for_it() {
        let usage = |metadata_used| PoolUsage {
            transaction_id: 0,
            metadata_used,
            metadata_total: 1000,
            data_used: 0,
            data_total: 16_000,
            block: Sectors(128),
        };
        // As large as it is, and up to what is counted already.
        assert!(usage(1000).can_count(16_320, 1000));
        // One block more counts another 16320.
        assert!(usage(935).can_count(16_321, 1000));
        assert!(!usage(936).can_count(16_321, 1000));
        assert!(!usage(935).can_count(16_320 * 2 + 1, 1000));
        // Of 1000 more the kernel keeps 100.
        assert!(usage(1000).can_count(16_320 * 800, 2000));
        assert!(!usage(1000).can_count(16_320 * 850, 2000));
        assert!(usage(u64::MAX / 2).can_count(16_000, u64::MAX));
    }
}
