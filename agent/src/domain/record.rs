//! What is stored: one versioned CBOR value per record, under a key that sorts by kind and id.
//!
//! A key is one kind byte and, but for singletons, a 16-byte id or, for events, an 8-byte
//! number, big-endian. Kinds are
//! numbered so that a scan in key order meets an object after all that it refers to.
//! A value is the map `{"v": schema, "r": record}`; `golden/` has one of each kind.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_protocol::{
    Access, Authentication, Clear, Connected, EventKind, Frozen, HostSecrets, JobResult, Labels,
    Name, NotConnected, ObjectRef, Operation, Parent, PoolLevel, PoolSpec, PortalSpec, Problem,
    Progress, Provisioning, Qos, Transport,
};
use ashlar_targetd_protocol::{
    DhchapExchange, DiskId, FcPort, Iqn, Lun, MemberState, Nqn, PortId, PortalAddr, ThinId,
    ThinRef, Wwn,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::change::Reply;

mod redundancy;
mod stored;

pub use redundancy::{Replacing, Scrubs, SetRecord, Turns};
pub use stored::{Key, Record, RecordError, SCHEMA};

/// The box itself. Made at first start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxRecord {
    /// Its id for life; part of the names of targets.
    pub id: Uuid,
    /// nvmet port numbers by address, of TCP. A number once given belongs to its address for good,
    /// since the kernel refuses to change the address of a port in use.
    pub nvme_ports: BTreeMap<PortalAddr, PortId>,
    /// The same for RDMA. No number is of both.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rdma_ports: BTreeMap<PortalAddr, PortId>,
    /// The same for Fibre Channel.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fc_ports: BTreeMap<FcPort, PortId>,
    /// Present while it takes no changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Frozen>,
    /// The version of the firmware that its agent was started by last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<String>,
    /// Transports of which a portal was ever asked for: the usual one does not come back.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub managed: BTreeSet<Transport>,
    /// Transports whose last portal was taken away by force, with whoever was connected by it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub shut: BTreeSet<Transport>,
}

/// A portal that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalRecord {
    /// As asked.
    pub spec: PortalSpec,
    /// Where it is in its life.
    pub phase: PortalPhase,
    /// The generation of its last change.
    pub generation: u64,
}

/// Where a portal is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortalPhase {
    /// What is connected is to be served there.
    Present,
    /// Nothing is.
    Removing,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRecord {
    /// As asked.
    pub spec: PoolSpec,
    /// Allocation unit in bytes.
    pub block_size: u64,
    /// Room for thin metadata in bytes.
    pub metadata_size: u64,
    /// Free blocks at which the kernel raises its event.
    pub low_water_blocks: u64,
    /// Where it is in its life.
    pub phase: PoolPhase,
    /// Bytes for data, once the kernel told.
    pub capacity: Option<u64>,
    /// The generation of its last change.
    pub generation: u64,
    /// Room for metadata on each disk in bytes, a whole number of MiB; as
    /// [`PoolRecord::metadata_room`] says for disks it does not name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata_rooms: Vec<u64>,
    /// What it was before the disks came that it is being given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growing>,
    /// On how many of its disks it was made, the first ones, where it has grown since: asked for
    /// once more as it was then, it is the same pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_on: Option<u32>,
    /// Its sets of disks that stand in for each other, in order; none without redundancy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<SetRecord>,
    /// The disk that is to take the place of one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacing: Option<Replacing>,
    /// By place, the disks that had it before the one that has it, the first one first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub former: BTreeMap<u32, Vec<DiskId>>,
    /// By place, which of the disks that were ever to have it has it; absent, the first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub turns: BTreeMap<u32, Turns>,
    /// By place, how disks are that miss data, as far as it was told; never in sync.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stale: BTreeMap<u32, MemberState>,
    /// Places whose disk was last of enough: it went when its set could not be used without it, and
    /// so lacks nothing that anyone wrote since.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub lost: BTreeSet<u32>,
    /// What was told of it last.
    #[serde(default, skip_serializing_if = "Told::is_default")]
    pub told: Told,
    /// Disks that wait to take the place of one that goes, in that order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spares: Vec<DiskId>,
    /// Comparisons of its disks.
    #[serde(default, skip_serializing_if = "Scrubs::is_default")]
    pub scrubs: Scrubs,
    /// Where it has its catalog; nowhere, when it was made before there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<CatalogRoom>,
    /// It is being taken over from the box that had it, and is not this box's yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import: Option<Importing>,
}

/// That a pool is being taken over. Firmware that does not know of it serves the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Importing {
    /// The generation that brought it.
    pub since: u64,
}

/// Where a pool has its catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogRoom {
    /// The place of the disk, or of the first disk of the set, with the room for metadata of which
    /// it is the end.
    pub place: u32,
    /// Its size in bytes, a whole number of MiB.
    pub size: u64,
}

/// What was told last of what becomes of a pool by itself. A start that finds it so tells nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Whether it serves.
    pub state: Standing,
    /// How full its data are.
    pub data: Filled,
    /// How full its metadata are.
    pub metadata: Filled,
}

impl Told {
    fn is_default(&self) -> bool {
        *self == Told::default()
    }
}

/// Whether a pool serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It does.
    #[default]
    Online,
    /// It refuses new blocks.
    Degraded,
    /// The kernel does not have it.
    Offline,
}

/// How full one part of a pool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filled {
    /// By its watermarks.
    pub level: PoolLevel,
    /// In percent, when that level was told.
    pub percent: u32,
}

/// What a pool was before it grows. Until it has, it can be that again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growing {
    /// How many disks it had: the first ones.
    pub disks: u32,
    /// Room for thin metadata it had, in bytes.
    pub metadata_size: u64,
    /// Free blocks at which the kernel raised its event.
    pub low_water_blocks: u64,
    /// Whether what the new disks hold may be overwritten.
    pub wipe: bool,
    /// The generation that brought it.
    pub since: u64,
}

impl PoolRecord {
    /// Room for metadata on a disk, by its place. Pools that never grew have all of it on the
    /// first one.
    pub fn metadata_room(&self, place: usize) -> u64 {
        const MIB: u64 = 1 << 20;
        match (self.metadata_rooms.get(place), place) {
            (Some(room), _) => *room,
            (None, 0) => self.metadata_size.next_multiple_of(MIB),
            (None, _) => 0,
        }
    }
}

/// Where a pool is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolPhase {
    /// Its disks may be formatted.
    Creating,
    /// It was made; its disks are never formatted again.
    Present,
    /// Its creation failed; it is to leave the kernel and be forgotten.
    Withdrawn,
    /// Its disks are to be blank and it is to be forgotten.
    Deleting(Destruction),
}

/// How a pool is destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destruction {
    /// Whatever thin devices that nobody knows may hold.
    pub force: bool,
    /// The generation in which it was first asked for.
    pub since: u64,
}

/// Thin ids of a pool. None is given twice while the pool lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThinCounter {
    /// The next one; past the largest when they are used up.
    pub next: u32,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// Its label.
    pub name: Name,
    /// Its iSCSI name.
    pub iqn: Option<Iqn>,
    /// Its NVMe name.
    pub nqn: Option<Nqn>,
    /// Whether it must prove who it is.
    pub authentication: Authentication,
    /// Its secrets, given or generated.
    pub secrets: HostSecrets,
    /// The generation of its last change.
    pub generation: u64,
    /// How it proves who it is over NVMe.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dhchap: DhchapExchange,
    /// The names of its Fibre Channel ports.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub wwpns: BTreeSet<Wwn>,
}

fn is_default(exchange: &DhchapExchange) -> bool {
    *exchange == DhchapExchange::default()
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// Its label.
    pub name: Name,
    /// Its pool.
    pub pool: Uuid,
    /// Its thin device.
    pub thin_id: ThinId,
    /// Its size in bytes.
    pub size: u64,
    /// Where it is in its life.
    pub phase: VolumePhase,
    /// How it came to its size, as far as the kernel is not known to have it. Oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub growth: Vec<Growth>,
    /// When it was created, in seconds since 1970.
    pub created: u64,
    /// The generation of its last change.
    pub generation: u64,
    /// What is noted beside it.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// What it began as; nothing when it began blank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// What its thin device is to be made of, until it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Thin devices that it had before or that were made for it in vain; to be destroyed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub retired: BTreeSet<ThinRef>,
    /// The group it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Uuid>,
    /// How much it may do; nothing when nothing is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<Box<Qos>>,
    /// Whether its whole size is kept for it in the pool.
    #[serde(default, skip_serializing_if = "Provisioning::is_thin")]
    pub provisioning: Provisioning,
    /// Whom it was last transferred to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Name>,
    /// What it may share data with, when that is not only what is made of it: see
    /// [`VolumeRecord::family`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Uuid>,
    /// What it is for, when no client asked for it. Clients do not know of such a volume: it is
    /// not listed, and nothing they ask for can be done with it. Its pool counts its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Purpose>,
    /// Its way to another pool, until it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving: Option<Moving>,
}

/// What a volume is for that no client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Room for a job's long work, destroyed when that ends, however it does.
    Scratch(Uuid),
}

impl Purpose {
    /// The job with which it ends.
    pub fn job(self) -> Uuid {
        match self {
            Purpose::Scratch(job) => job,
        }
    }
}

/// How far a volume is on its way to another pool. All of it belongs to the process that is at
/// it: what that leaves is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    /// The job.
    pub job: Uuid,
    /// Where to.
    pub to: ThinRef,
    /// The copy before: all of it was brought over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<ThinId>,
    /// What is being brought over, as far as it is not as in `base`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<ThinId>,
    /// Whether the volume does no I/O since the copy was taken.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub still: bool,
}

impl Moving {
    /// The thin devices made for it in the volume's own pool.
    pub fn copies(self) -> impl Iterator<Item = ThinId> {
        self.base.into_iter().chain(self.copy)
    }
}

impl VolumeRecord {
    /// The id of the volume that it and all that shares data with it began with, which may be
    /// gone. That of its pool when nobody knows what it began as.
    pub fn family(&self, id: Uuid) -> Uuid {
        self.family.unwrap_or(id)
    }

    /// Its thin device, without those it retires.
    pub fn thin(&self) -> ThinRef {
        ThinRef {
            pool: self.pool,
            thin_id: self.thin_id,
        }
    }
}

/// What a thin device is made of: another one of its pool, at the instant it is made. As long
/// as a record has an origin that is to be made something of, the origin is not destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The volume or snapshot.
    pub object: Uuid,
    /// Its thin device.
    pub thin_id: ThinId,
}

/// An extension that the kernel is not known to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    /// The generation that brought it.
    pub generation: u64,
    /// The size before it, in bytes.
    pub from: u64,
}

/// Where a volume is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumePhase {
    /// Its thin device may be created.
    Creating,
    /// Its thin device was found in the pool, and is tried. It is never created or destroyed.
    Adopting,
    /// Its thin device exists and is never created again.
    Present,
    /// Its thin device may be created, to take the place of the one that is `retired`, which
    /// the volume is on meanwhile.
    Reverting,
    /// Its thin device exists and takes the place of the one that is `retired`. From here on
    /// hosts may write to it, so there is no way back.
    Replacing,
    /// It is to leave the kernel and be forgotten, and its thin device stays as it is.
    Releasing,
    /// Its data is to be destroyed, and to be cleared before. There is no way back.
    Clearing(Clearing),
    /// Its data is to be destroyed.
    Deleting,
}

/// How the data of a volume is to be cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clearing {
    /// What is done with it.
    pub how: Clear,
    /// So many bytes from the volume's beginning; all of it when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Bytes a second at most; as fast as may be when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<u64>,
    /// The generation in which it was first asked to be cleared, however; 0 until it is.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub since: u64,
}

impl Clearing {
    /// The same, first asked for in that generation.
    pub fn since(self, since: u64) -> Clearing {
        Clearing { since, ..self }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A snapshot. It outlives its volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// Its label.
    pub name: Name,
    /// What is noted beside it.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// The volume it is a snapshot of, which may be gone.
    pub volume: Uuid,
    /// Its pool.
    pub pool: Uuid,
    /// Its thin device.
    pub thin_id: ThinId,
    /// The volume's thin device when it was taken.
    pub origin_thin: ThinId,
    /// Its size in bytes.
    pub size: u64,
    /// Where it is in its life.
    pub phase: SnapshotPhase,
    /// The group snapshot it belongs to and is reconciled with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Uuid>,
    /// When it was created, in seconds since 1970.
    pub created: u64,
    /// The generation of its last change.
    pub generation: u64,
    /// Its volume's when it was taken: whether its whole size is kept, too.
    #[serde(default, skip_serializing_if = "Provisioning::is_thin")]
    pub provisioning: Provisioning,
    /// Its volume's family, when that is not the volume's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Uuid>,
}

impl SnapshotRecord {
    /// As [`VolumeRecord::family`].
    pub fn family(&self) -> Uuid {
        self.family.unwrap_or(self.volume)
    }

    /// Its thin device.
    pub fn thin(&self) -> ThinRef {
        ThinRef {
            pool: self.pool,
            thin_id: self.thin_id,
        }
    }

    /// What it is made of.
    pub fn origin(&self) -> Origin {
        Origin {
            object: self.volume,
            thin_id: self.origin_thin,
        }
    }
}

/// Where a snapshot is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotPhase {
    /// Its thin device may be created.
    Creating,
    /// Its thin device was found in the pool, and is tried. It is never created or destroyed.
    Adopting,
    /// Its thin device exists and is never created again.
    Present,
    /// It is to leave the kernel and be forgotten, and its thin device stays as it is.
    Releasing,
    /// Its data is to be destroyed.
    Deleting,
}

/// A group of volumes. Its members name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// Its label.
    pub name: Name,
    /// Where it is in its life.
    pub phase: GroupPhase,
    /// When it was created, in seconds since 1970.
    pub created: u64,
    /// The generation of its last change.
    pub generation: u64,
}

/// Where a group or a group snapshot is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupPhase {
    /// Its members are being made, all at one instant.
    Creating,
    /// It is there.
    Present,
    /// What there is of its members is to be destroyed.
    Deleting,
}

impl GroupPhase {
    /// That of each snapshot of a group snapshot.
    pub fn of_snapshots(self) -> SnapshotPhase {
        match self {
            GroupPhase::Creating => SnapshotPhase::Creating,
            GroupPhase::Present => SnapshotPhase::Present,
            GroupPhase::Deleting => SnapshotPhase::Deleting,
        }
    }
}

/// A snapshot of every member of a group. Its snapshots name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSnapshotRecord {
    /// Its label.
    pub name: Name,
    /// The group.
    pub group: Uuid,
    /// Where it is in its life.
    pub phase: GroupPhase,
    /// When it was created, in seconds since 1970.
    pub created: u64,
    /// The generation of its last change.
    pub generation: u64,
}

/// A connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawConnection", into = "RawConnection")]
pub struct ConnectionRecord {
    /// What is connected.
    pub of: Connected,
    /// The host.
    pub host: Uuid,
    /// How.
    pub transport: Transport,
    /// Where it is in its life.
    pub phase: ConnectionPhase,
    /// The generation of its last change.
    pub generation: u64,
    /// What the host may do.
    pub access: Access,
    /// Over Fibre Channel: by which numbers.
    pub fc: Option<FcPlace>,
}

/// Numbers of a connection over Fibre Channel, for its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FcPlace {
    /// That of what is connected, among all that the box's ports serve.
    pub unit: Lun,
    /// The one that the host sees.
    pub lun: Lun,
}

/// A connection as it is stored. At first there were only those of volumes.
#[derive(Serialize, Deserialize)]
struct RawConnection {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    volume: Option<Uuid>,
    host: Uuid,
    transport: Transport,
    phase: ConnectionPhase,
    generation: u64,
    #[serde(default, skip_serializing_if = "Access::is_full")]
    access: Access,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    snapshot: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fc: Option<FcPlace>,
}

impl TryFrom<RawConnection> for ConnectionRecord {
    type Error = NotConnected;

    fn try_from(raw: RawConnection) -> Result<Self, NotConnected> {
        Ok(ConnectionRecord {
            of: Connected::one(raw.volume, raw.snapshot)?,
            host: raw.host,
            transport: raw.transport,
            phase: raw.phase,
            generation: raw.generation,
            access: raw.access,
            fc: raw.fc,
        })
    }
}

impl From<ConnectionRecord> for RawConnection {
    fn from(record: ConnectionRecord) -> RawConnection {
        RawConnection {
            volume: record.of.volume(),
            host: record.host,
            transport: record.transport,
            phase: record.phase,
            generation: record.generation,
            access: record.access,
            snapshot: record.of.snapshot(),
            fc: record.fc,
        }
    }
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionPhase {
    /// The host is to have access.
    Wanted,
    /// The host is to lose access, unless it uses it.
    Detaching,
    /// The host is to lose access, using it or not.
    Cutting,
    /// The host is to lose access that could not be made whole, and was never told of it. Its
    /// sessions are cut, but no other host's for the sake of it.
    Withdrawn,
}

/// A changing request, which is a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// SHA-256 over method, path and body.
    #[serde(with = "serde_bytes")]
    pub digest: [u8; 32],
    /// Who asked.
    pub subject: String,
    /// What was asked.
    pub operation: Operation,
    /// The object it changes.
    pub object: ObjectRef,
    /// What the kernel must have for it to be done; absent when nothing.
    pub unit: Option<Unit>,
    /// Whether it made the object, rather than found it in the making.
    pub made: bool,
    /// The generation it brought; orders requests.
    pub generation: u64,
    /// When it was accepted, in seconds since 1970.
    pub accepted: u64,
    /// Why it was given up.
    pub failed: Option<Box<Problem>>,
    /// How far it is, when it is long work that ends with the process that does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<WorkRecord>,
}

/// Long work: what is known of it when nobody does it any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkRecord {
    /// Whether it has ended.
    pub phase: WorkPhase,
    /// How far it was when it began or ended.
    pub progress: Progress,
    /// What it came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<JobResult>,
}

/// Where long work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkPhase {
    /// Under way in the process that began it.
    Running,
    /// Over; failed or not, as the request says.
    Ended,
}

impl RequestRecord {
    /// Whether it is long work that a process is at, or was when it ended.
    pub fn works(&self) -> bool {
        let work = self.work.as_ref();
        work.is_some_and(|work| work.phase == WorkPhase::Running)
    }

    /// What to tell the client once all is done.
    pub fn reply(&self) -> Reply {
        Reply {
            operation: self.operation,
            object: self.object,
            made: self.made,
            generation: self.generation,
        }
    }
}

/// Something that happened. Its key is its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// When it was recorded, in seconds since 1970.
    pub time: u64,
    /// What happened.
    pub kind: EventKind,
    /// To what.
    pub object: ObjectRef,
    /// The request that brought it about, if it is known.
    pub request: Option<Uuid>,
    /// A name or a sentence, for people.
    pub detail: Option<String>,
}

/// What is reconciled as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A pool on its disks.
    Pool(Uuid),
    /// A volume with its exports.
    Volume(Uuid),
    /// A snapshot with its exports.
    Snapshot(Uuid),
    /// A group, while its members are being made.
    Group(Uuid),
    /// A group snapshot with its snapshots.
    GroupSnapshot(Uuid),
    /// A host's secrets, in all volumes it is connected to.
    Host(Uuid),
    /// A portal, in all that is connected over its transport.
    Portal(Uuid),
}

impl Unit {
    /// The object of that id.
    pub fn object(self) -> ObjectRef {
        use ashlar_protocol::ObjectKind;
        let (kind, id) = match self {
            Unit::Pool(id) => (ObjectKind::Pool, id),
            Unit::Volume(id) => (ObjectKind::Volume, id),
            Unit::Snapshot(id) => (ObjectKind::Snapshot, id),
            Unit::Group(id) => (ObjectKind::Group, id),
            Unit::GroupSnapshot(id) => (ObjectKind::GroupSnapshot, id),
            Unit::Host(id) => (ObjectKind::Host, id),
            Unit::Portal(id) => (ObjectKind::Portal, id),
        };
        ObjectRef { kind, id }
    }

    /// What is reconciled with its exports.
    pub fn of(connected: Connected) -> Unit {
        match connected {
            Connected::Volume(id) => Unit::Volume(id),
            Connected::Snapshot(id) => Unit::Snapshot(id),
        }
    }
}

#[cfg(test)]
mod tests;
