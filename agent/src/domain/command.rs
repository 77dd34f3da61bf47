//! What clients ask to change.

use ashlar_protocol::{
    ConnectionSpec, ExtendSpec, HostSpec, ObjectKind, ObjectRef, Operation, PoolSpec, VolumeSpec,
};
use uuid::Uuid;

/// What a client asks to change. Ids are the client's choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make a pool of disks.
    PoolCreate {
        /// The pool.
        id: Uuid,
        /// As asked.
        spec: PoolSpec,
    },
    /// Make a volume in a pool.
    VolumeCreate {
        /// The volume.
        id: Uuid,
        /// As asked.
        spec: VolumeSpec,
    },
    /// Grow a volume.
    VolumeExtend {
        /// The volume.
        id: Uuid,
        /// As asked.
        spec: ExtendSpec,
    },
    /// Destroy a volume and its data.
    VolumeDelete {
        /// The volume.
        id: Uuid,
    },
    /// Detach a volume from every host, in use or not.
    VolumeDetachAll {
        /// The volume.
        id: Uuid,
    },
    /// Make a host known.
    HostCreate {
        /// The host.
        id: Uuid,
        /// As asked.
        spec: HostSpec,
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
    },
}

impl Command {
    /// The operation's name on the management port.
    pub fn operation(&self) -> Operation {
        match self {
            Command::PoolCreate { .. } => Operation::PoolCreate,
            Command::VolumeCreate { .. } => Operation::VolumeCreate,
            Command::VolumeExtend { .. } => Operation::VolumeExtend,
            Command::VolumeDelete { .. } => Operation::VolumeDelete,
            Command::VolumeDetachAll { .. } => Operation::VolumeDetachAll,
            Command::HostCreate { .. } => Operation::HostCreate,
            Command::HostDelete { .. } => Operation::HostDelete,
            Command::ConnectionCreate { .. } => Operation::ConnectionCreate,
            Command::ConnectionDelete { .. } => Operation::ConnectionDelete,
        }
    }

    /// The object it changes.
    pub fn object(&self) -> ObjectRef {
        let (kind, id) = match self {
            Command::PoolCreate { id, .. } => (ObjectKind::Pool, *id),
            Command::VolumeCreate { id, .. }
            | Command::VolumeExtend { id, .. }
            | Command::VolumeDelete { id }
            | Command::VolumeDetachAll { id } => (ObjectKind::Volume, *id),
            Command::HostCreate { id, .. } | Command::HostDelete { id } => (ObjectKind::Host, *id),
            Command::ConnectionCreate { id, .. } | Command::ConnectionDelete { id } => {
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
