//! Calls and replies: the whole privileged vocabulary.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::desired::{DesiredPool, DesiredSnapshots, DesiredVolume};
use crate::names::{PortalAddr, Transport};
use crate::report::{
    DiskReport, Failure, FeatureReport, IoCounters, PoolReport, Report, VolumeReport,
};
use crate::units::{Bytes, ThinId};

/// The version both ends must agree on in [`Request::Hello`].
pub const PROTOCOL_VERSION: u32 = 5;

/// One call on the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Chosen by the caller, unique among the calls it has in flight.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// One answer on the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// The call's id.
    pub id: u64,
    /// The answer, or why there is none.
    pub result: Result<Response, Failure>,
}

/// Everything targetd can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// First call on a connection. Answered by [`Response::Hello`] or refused.
    Hello {
        /// The caller's [`PROTOCOL_VERSION`].
        version: u32,
    },
    /// Bring a pool to its desired state.
    ApplyPool(Box<DesiredPool>),
    /// Bring a volume to its desired state.
    ApplyVolume(Box<DesiredVolume>),
    /// Bring snapshots that belong together to their desired state.
    ApplySnapshots(Box<DesiredSnapshots>),
    /// Look at a pool.
    ObservePool {
        /// The pool.
        id: Uuid,
    },
    /// Read all of a pool's disks and compare what should be the same, beside what hosts do, or
    /// stop doing so. Answered at once, by [`Response::Applied`] with generation 0; how far it is,
    /// a look at the pool tells. Refused for a pool without redundancy, and while anything else
    /// goes over its sets.
    ScrubPool {
        /// The pool.
        id: Uuid,
        /// What to do.
        scrub: Scrub,
    },
    /// Look at a volume.
    ObserveVolume {
        /// The volume.
        id: Uuid,
        /// Its pool.
        pool: Uuid,
        /// Its thin device.
        thin_id: ThinId,
    },
    /// Read what a device has done since it became active.
    ReadCounters(Counted),
    /// List the disks of the box.
    ListDisks,
    /// List kernel objects that carry our names, for finding orphans: ids of volumes, snapshots
    /// and pools.
    ListObjects,
    /// Take an orphan, a volume or snapshot that the intent does not know, out of the kernel:
    /// its exports and its active device. Its data stays. Answered by [`Response::Applied`]
    /// with generation 0.
    Unexport {
        /// The volume or snapshot, as listed.
        id: Uuid,
    },
    /// Open the active device of a volume or a snapshot, or one of those with which a volume
    /// moves, past every cache. Answered by [`Response::Opened`], which brings the descriptor
    /// along.
    OpenDevice {
        /// Whose device.
        object: OpenObject,
        /// For writing too, and alone. Refused for what is exported, and for snapshots and
        /// copies.
        write: bool,
    },
    /// Hold the present state of a pool's thin metadata and open it for reading. One that was
    /// held before is let go; this one is when the connection ends. Answered by
    /// [`Response::Metadata`], which brings the descriptor along.
    OpenMetadata {
        /// The pool.
        pool: Uuid,
    },
    /// Let go of the state held by [`Request::OpenMetadata`]; none held is fine. Answered by
    /// [`Response::Released`].
    ReleaseMetadata {
        /// The pool.
        pool: Uuid,
    },
    /// Put together as much of a pool as its catalog needs, or, of one that is to be absent, take
    /// that down again; refused for that once the pool is active. Nothing is formatted, and without
    /// redundancy nothing written at all: another box may be using the disks. Answered by
    /// [`Response::Applied`] with generation 0.
    ApplyCatalog(Box<DesiredPool>),
    /// Open the catalog of a pool, past every cache: a region of its disks that is the agent's to
    /// write. Answered by [`Response::Opened`], which brings the descriptor along.
    OpenCatalog {
        /// The pool.
        pool: Uuid,
        /// For writing too, and alone.
        write: bool,
    },
    /// Which of these addresses no interface of the box has. Answered by [`Response::Absent`].
    FindAddresses(BTreeSet<IpAddr>),
    /// Whether a transport could listen at an address now; that is no promise. Answered by
    /// [`Response::Address`]. Nothing is known of RDMA but whether the address is there.
    TryAddress {
        /// By what.
        transport: Transport,
        /// Where.
        address: PortalAddr,
    },
    /// Let go of an iSCSI address that is kept open although no target listens there any more.
    /// Answered by [`Response::Released`].
    ReleaseAddress {
        /// The address.
        address: PortalAddr,
    },
    /// Wait until something changed that may concern a pool, a disk or an address: the kernel told
    /// of it by itself, and says no more than that. Answered by [`Response::Changed`] as soon as the count
    /// is another than `seen`. A few such calls may wait on a connection.
    AwaitChange {
        /// The last count that was told; 0 at first, on each connection anew.
        seen: u64,
    },
}

/// Whether something can listen at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressState {
    /// As far as it is known, it can, or does already.
    Usable,
    /// No interface has the address.
    Absent,
    /// Another process listens there, or one that overlaps.
    Taken,
}

/// What is done about disks that differ where they should not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scrub {
    /// They are compared and counted.
    Check,
    /// They are compared, counted and made the same.
    Repair,
    /// What was begun ends.
    Stop,
}

/// What has a device that can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OpenObject {
    /// A volume.
    Volume(Uuid),
    /// A snapshot.
    Snapshot(Uuid),
    /// The copy of a volume that moves.
    Copy(Uuid),
    /// What a volume that moves is to be on.
    Target(Uuid),
}

impl std::fmt::Display for OpenObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OpenObject::Volume(id) => write!(f, "volume {id}"),
            OpenObject::Snapshot(id) => write!(f, "snapshot {id}"),
            OpenObject::Copy(id) => write!(f, "the copy of volume {id}"),
            OpenObject::Target(id) => write!(f, "the new place of volume {id}"),
        }
    }
}

/// A device whose operations are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Counted {
    /// A volume's, as hosts use it.
    Volume(Uuid),
    /// A pool's data, as its disks are used for it.
    PoolData(Uuid),
    /// A pool's metadata, likewise.
    PoolMetadata(Uuid),
}

/// Everything targetd answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Response {
    /// Greetings.
    Hello {
        /// targetd's [`PROTOCOL_VERSION`].
        version: u32,
        /// The kernel's release.
        kernel: String,
        /// What the kernel can do.
        features: Vec<FeatureReport>,
    },
    /// The object is as desired.
    Applied(Report),
    /// A pool as seen.
    Pool(PoolReport),
    /// A volume as seen.
    Volume(VolumeReport),
    /// What a device has done; nothing when it is not active.
    Counters(Option<IoCounters>),
    /// The disks.
    Disks(Vec<DiskReport>),
    /// Objects in the kernel.
    Objects {
        /// Pools with any device.
        pools: Vec<Uuid>,
        /// Volumes with a device, and volumes and snapshots with a backstore, a target or a
        /// subsystem.
        volumes: Vec<Uuid>,
        /// Snapshots with a device.
        snapshots: Vec<Uuid>,
        /// Objects in the same trees which are not ours, in words.
        foreign: Vec<String>,
    },
    /// The device is open; one descriptor comes with this reply.
    Opened {
        /// Its size.
        size: Bytes,
    },
    /// The thin metadata are held and open; one descriptor comes with this reply.
    Metadata {
        /// The block, of 4 KiB, where the held state has its superblock.
        held_root: u64,
        /// The size of the metadata device.
        size: Bytes,
    },
    /// Nothing is held any more.
    Released,
    /// Those of the addresses that the box does not have.
    Absent(BTreeSet<IpAddr>),
    /// How an address is.
    Address(AddressState),
    /// Something changed, or nothing was seen yet.
    Changed {
        /// How often so far, from 1 on. It begins anew with each targetd.
        count: u64,
    },
}
