//! What clients ask to change.

use ashlar_protocol::{
    AdoptSnapshotSpec, AdoptSpec, ConnectionSpec, ExtendSpec, FreezeSpec, GroupSnapshotSpec,
    GroupSnapshotUpdate, GroupSpec, GroupUpdate, HostRotation, HostSpec, ImportSpec, ObjectKind,
    ObjectRef, Operation, PoolGrowth, PoolSpec, PoolUpdate, PortalSpec, ReplaceSpec, RevertSpec,
    SnapshotSpec, SnapshotUpdate, TransferSpec, VolumeSpec, VolumeUpdate,
};
use uuid::Uuid;

use crate::domain::record::Clearing;

/// What a client asks to change. Ids are the client's choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Take no changes any more.
    SystemFreeze {
        /// The box.
        id: Uuid,
        /// As asked.
        spec: FreezeSpec,
    },
    /// Take changes again.
    SystemThaw {
        /// The box.
        id: Uuid,
    },
    /// Make a pool of disks.
    PoolCreate {
        /// The pool.
        id: Uuid,
        /// As asked.
        spec: PoolSpec,
    },
    /// Rename a pool, or change what it may be promised.
    PoolUpdate {
        /// The pool.
        id: Uuid,
        /// As asked.
        spec: PoolUpdate,
    },
    /// Add disks to a pool.
    PoolGrow {
        /// The pool.
        id: Uuid,
        /// As asked.
        spec: PoolGrowth,
    },
    /// Give the place of a disk of a pool to another one.
    PoolReplace {
        /// The pool.
        id: Uuid,
        /// As asked.
        spec: ReplaceSpec,
    },
    /// Take over a pool by what its catalog says.
    PoolImport {
        /// The pool.
        id: Uuid,
        /// As asked.
        spec: ImportSpec,
    },
    /// Destroy a pool.
    PoolDelete {
        /// The pool.
        id: Uuid,
        /// Whatever thin devices that nobody knows may hold.
        force: bool,
    },
    /// Make a volume in a pool.
    VolumeCreate {
        /// The volume.
        id: Uuid,
        /// As asked.
        spec: VolumeSpec,
    },
    /// Make a volume of a thin device that is there.
    VolumeAdopt {
        /// The volume.
        id: Uuid,
        /// As asked.
        spec: Box<AdoptSpec>,
    },
    /// Forget a volume, and leave its thin device as it is.
    VolumeRelease {
        /// The volume.
        id: Uuid,
    },
    /// Grow a volume.
    VolumeExtend {
        /// The volume.
        id: Uuid,
        /// As asked.
        spec: ExtendSpec,
    },
    /// Give a volume the content of one of its snapshots.
    VolumeRevert {
        /// The volume.
        id: Uuid,
        /// As asked.
        spec: RevertSpec,
    },
    /// Give a volume to another owner, and take it from every host.
    VolumeTransfer {
        /// The volume.
        id: Uuid,
        /// As asked.
        spec: TransferSpec,
    },
    /// Change what is known of a volume, its limits and what is kept for it.
    VolumeUpdate {
        /// The volume.
        id: Uuid,
        /// As asked.
        spec: Box<VolumeUpdate>,
    },
    /// Destroy a volume and its data.
    VolumeDelete {
        /// The volume.
        id: Uuid,
    },
    /// Destroy a volume and its data, and do that with the data before.
    VolumeClear {
        /// The volume.
        id: Uuid,
        /// What.
        clearing: Clearing,
    },
    /// Detach a volume from every host, in use or not.
    VolumeDetachAll {
        /// The volume.
        id: Uuid,
    },
    /// Take a snapshot of a volume.
    SnapshotCreate {
        /// The snapshot.
        id: Uuid,
        /// As asked.
        spec: SnapshotSpec,
    },
    /// Make a snapshot of a thin device that is there.
    SnapshotAdopt {
        /// The snapshot.
        id: Uuid,
        /// As asked.
        spec: Box<AdoptSnapshotSpec>,
    },
    /// Change what is known of a snapshot.
    SnapshotUpdate {
        /// The snapshot.
        id: Uuid,
        /// As asked.
        spec: SnapshotUpdate,
    },
    /// Forget a snapshot, and leave its thin device as it is.
    SnapshotRelease {
        /// The snapshot.
        id: Uuid,
    },
    /// Destroy a snapshot.
    SnapshotDelete {
        /// The snapshot.
        id: Uuid,
    },
    /// Make a group, of volumes or of copies.
    GroupCreate {
        /// The group.
        id: Uuid,
        /// As asked.
        spec: GroupSpec,
    },
    /// Rename a group, add and remove members.
    GroupUpdate {
        /// The group.
        id: Uuid,
        /// As asked.
        update: GroupUpdate,
    },
    /// Dissolve a group.
    GroupDelete {
        /// The group.
        id: Uuid,
    },
    /// Take a snapshot of every member of a group.
    GroupSnapshotCreate {
        /// The group snapshot.
        id: Uuid,
        /// As asked.
        spec: GroupSnapshotSpec,
    },
    /// Change what is known of a group snapshot.
    GroupSnapshotUpdate {
        /// The group snapshot.
        id: Uuid,
        /// As asked.
        spec: GroupSnapshotUpdate,
    },
    /// Destroy a group snapshot.
    GroupSnapshotDelete {
        /// The group snapshot.
        id: Uuid,
    },
    /// Serve at an address.
    PortalCreate {
        /// The portal.
        id: Uuid,
        /// As asked.
        spec: PortalSpec,
    },
    /// Serve there no longer.
    PortalDelete {
        /// The portal.
        id: Uuid,
        /// Whether hosts are cut off that have no other.
        force: bool,
    },
    /// Make a host known.
    HostCreate {
        /// The host.
        id: Uuid,
        /// As asked.
        spec: HostSpec,
    },
    /// Give a host new secrets.
    HostRotate {
        /// The host.
        id: Uuid,
        /// As asked.
        spec: Box<HostRotation>,
    },
    /// Forget a host.
    HostDelete {
        /// The host.
        id: Uuid,
    },
    /// Attach a volume to a host.
    ConnectionCreate {
        /// The connection.
        id: Uuid,
        /// As asked.
        spec: ConnectionSpec,
    },
    /// Detach a volume from a host.
    ConnectionDelete {
        /// The connection.
        id: Uuid,
        /// Whether the host is cut off if it uses the volume.
        force: bool,
    },
}

impl Command {
    /// The operation's name on the management port.
    pub fn operation(&self) -> Operation {
        match self {
            Command::SystemFreeze { .. } => Operation::SystemFreeze,
            Command::SystemThaw { .. } => Operation::SystemThaw,
            Command::PoolCreate { .. } => Operation::PoolCreate,
            Command::VolumeCreate { .. } => Operation::VolumeCreate,
            Command::VolumeAdopt { .. } => Operation::VolumeAdopt,
            Command::VolumeRelease { .. } => Operation::VolumeRelease,
            Command::VolumeExtend { .. } => Operation::VolumeExtend,
            Command::VolumeRevert { .. } => Operation::VolumeRevert,
            Command::VolumeTransfer { .. } => Operation::VolumeTransfer,
            Command::PoolUpdate { .. } => Operation::PoolUpdate,
            Command::PoolGrow { .. } => Operation::PoolGrow,
            Command::PoolReplace { .. } => Operation::PoolReplace,
            Command::PoolImport { .. } => Operation::PoolImport,
            Command::PoolDelete { .. } => Operation::PoolDelete,
            Command::VolumeUpdate { .. } => Operation::VolumeUpdate,
            Command::VolumeDelete { .. } | Command::VolumeClear { .. } => Operation::VolumeDelete,
            Command::VolumeDetachAll { .. } => Operation::VolumeDetachAll,
            Command::SnapshotCreate { .. } => Operation::SnapshotCreate,
            Command::SnapshotAdopt { .. } => Operation::SnapshotAdopt,
            Command::SnapshotUpdate { .. } => Operation::SnapshotUpdate,
            Command::SnapshotRelease { .. } => Operation::SnapshotRelease,
            Command::SnapshotDelete { .. } => Operation::SnapshotDelete,
            Command::GroupCreate { .. } => Operation::GroupCreate,
            Command::GroupUpdate { .. } => Operation::GroupUpdate,
            Command::GroupDelete { .. } => Operation::GroupDelete,
            Command::GroupSnapshotCreate { .. } => Operation::GroupSnapshotCreate,
            Command::GroupSnapshotUpdate { .. } => Operation::GroupSnapshotUpdate,
            Command::GroupSnapshotDelete { .. } => Operation::GroupSnapshotDelete,
            Command::PortalCreate { .. } => Operation::PortalCreate,
            Command::PortalDelete { .. } => Operation::PortalDelete,
            Command::HostCreate { .. } => Operation::HostCreate,
            Command::HostRotate { .. } => Operation::HostRotate,
            Command::HostDelete { .. } => Operation::HostDelete,
            Command::ConnectionCreate { .. } => Operation::ConnectionCreate,
            Command::ConnectionDelete { .. } => Operation::ConnectionDelete,
        }
    }

    /// The object it changes.
    pub fn object(&self) -> ObjectRef {
        let (kind, id) = match self {
            Command::SystemFreeze { id, .. } | Command::SystemThaw { id } => {
                (ObjectKind::System, *id)
            }
            Command::PoolCreate { id, .. }
            | Command::PoolUpdate { id, .. }
            | Command::PoolGrow { id, .. }
            | Command::PoolReplace { id, .. }
            | Command::PoolImport { id, .. }
            | Command::PoolDelete { id, .. } => (ObjectKind::Pool, *id),
            Command::VolumeCreate { id, .. }
            | Command::VolumeAdopt { id, .. }
            | Command::VolumeRelease { id }
            | Command::VolumeExtend { id, .. }
            | Command::VolumeRevert { id, .. }
            | Command::VolumeTransfer { id, .. }
            | Command::VolumeUpdate { id, .. }
            | Command::VolumeDelete { id }
            | Command::VolumeClear { id, .. }
            | Command::VolumeDetachAll { id } => (ObjectKind::Volume, *id),
            Command::SnapshotCreate { id, .. }
            | Command::SnapshotAdopt { id, .. }
            | Command::SnapshotUpdate { id, .. }
            | Command::SnapshotRelease { id }
            | Command::SnapshotDelete { id } => (ObjectKind::Snapshot, *id),
            Command::GroupCreate { id, .. }
            | Command::GroupUpdate { id, .. }
            | Command::GroupDelete { id } => (ObjectKind::Group, *id),
            Command::GroupSnapshotCreate { id, .. }
            | Command::GroupSnapshotUpdate { id, .. }
            | Command::GroupSnapshotDelete { id } => (ObjectKind::GroupSnapshot, *id),
            Command::PortalCreate { id, .. } | Command::PortalDelete { id, .. } => {
                (ObjectKind::Portal, *id)
            }
            Command::HostCreate { id, .. }
            | Command::HostRotate { id, .. }
            | Command::HostDelete { id } => (ObjectKind::Host, *id),
            Command::ConnectionCreate { id, .. } | Command::ConnectionDelete { id, .. } => {
                (ObjectKind::Connection, *id)
            }
        };
        ObjectRef { kind, id }
    }
}

/// Who asks, and under which request id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestContext {
    /// The request id, the client's or one made for it. Also the id of the job.
    pub id: Uuid,
    /// SHA-256 over method, path and body.
    pub digest: [u8; 32],
    /// Who, from the certificate.
    pub subject: String,
}
