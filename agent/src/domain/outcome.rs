//! What a change has come to, as told to whoever asked for it.

use ashlar_protocol::{
    Connection, Group, GroupSnapshot, HostCreated, ObjectKind, ObjectRef, Operation, Pool, Portal,
    Problem, ProblemCode, Snapshot, Volume,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::change::Reply;
use crate::domain::intent::Intent;
use crate::domain::site::Site;
use crate::domain::view::{self, Look};

/// The object as it is after the change. Stored with the request, so that repeating it gets
/// the same answer whatever became of the object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A pool.
    Pool {
        /// As it was then.
        pool: Pool,
        /// Whether this request made it.
        created: bool,
    },
    /// A volume.
    Volume {
        /// As it was then.
        volume: Volume,
        /// Whether this request made it.
        created: bool,
    },
    /// A snapshot.
    Snapshot {
        /// As it was then.
        snapshot: Snapshot,
        /// Whether this request made it.
        created: bool,
    },
    /// A group.
    Group {
        /// As it was then.
        group: Group,
        /// Whether this request made it.
        created: bool,
    },
    /// A group snapshot.
    GroupSnapshot {
        /// As it was then.
        group_snapshot: GroupSnapshot,
        /// Whether this request made it.
        created: bool,
    },
    /// A portal.
    Portal {
        /// As it was then.
        portal: Portal,
        /// Whether this request made it.
        created: bool,
    },
    /// A host.
    Host {
        /// As it was then, with its secrets when this request made them and no other has since.
        created: HostCreated,
        /// Whether this request made it.
        new: bool,
    },
    /// A connection.
    Connection {
        /// As it was then.
        connection: Connection,
        /// Whether this request made it.
        created: bool,
    },
    /// The object is gone.
    Removed,
    /// The volume has no connection.
    Detached,
    /// The box takes changes, or no longer.
    Switched,
}

/// The outcome of a change that the kernel has all of. `look` is what the kernel says of the
/// pool, if it is one.
///
/// # Errors
/// When the object is not there any more.
pub fn outcome(
    intent: &Intent,
    site: &Site,
    reply: Reply,
    look: &Look,
) -> Result<Outcome, Problem> {
    let Reply {
        operation,
        object,
        made,
        generation,
    } = reply;
    let id = object.id;
    match operation {
        Operation::PoolCreate
        | Operation::PoolUpdate
        | Operation::PoolGrow
        | Operation::PoolImport
        | Operation::PoolReplace => {
            let entry = intent
                .pool(id)
                .ok_or_else(|| missing(ObjectKind::Pool, id))?;
            let pool = view::pool(id, entry, look);
            Ok(Outcome::Pool {
                pool,
                created: made && operation == Operation::PoolCreate,
            })
        }
        Operation::VolumeCreate
        | Operation::VolumeAdopt
        | Operation::VolumeExtend
        | Operation::VolumeUpdate
        | Operation::VolumeRevert
        | Operation::VolumeTransfer
        | Operation::VolumeMove => {
            let entry = intent
                .volume(id)
                .ok_or_else(|| missing(ObjectKind::Volume, id))?;
            let volume = view::volume(id, entry);
            let makes = matches!(operation, Operation::VolumeCreate | Operation::VolumeAdopt);
            let created = made && makes;
            Ok(Outcome::Volume { volume, created })
        }
        Operation::SnapshotCreate | Operation::SnapshotAdopt | Operation::SnapshotUpdate => {
            let record = intent
                .snapshot(id)
                .ok_or_else(|| missing(ObjectKind::Snapshot, id))?;
            Ok(Outcome::Snapshot {
                snapshot: view::snapshot(id, record),
                created: made && operation != Operation::SnapshotUpdate,
            })
        }
        Operation::GroupCreate | Operation::GroupUpdate => {
            let entry = intent
                .group(id)
                .ok_or_else(|| missing(ObjectKind::Group, id))?;
            let group = view::group(intent, id, entry);
            let created = made && operation == Operation::GroupCreate;
            Ok(Outcome::Group { group, created })
        }
        Operation::GroupSnapshotCreate | Operation::GroupSnapshotUpdate => {
            let record = intent
                .group_snapshot(id)
                .ok_or_else(|| missing(ObjectKind::GroupSnapshot, id))?;
            let group_snapshot = view::group_snapshot(intent, id, record);
            Ok(Outcome::GroupSnapshot {
                group_snapshot,
                created: made && operation == Operation::GroupSnapshotCreate,
            })
        }
        Operation::PortalCreate => {
            let record = intent
                .portal(id)
                .ok_or_else(|| missing(ObjectKind::Portal, id))?;
            Ok(Outcome::Portal {
                portal: view::portal(id, record),
                created: made,
            })
        }
        Operation::HostCreate | Operation::HostRotate => {
            let entry = intent
                .host(id)
                .ok_or_else(|| missing(ObjectKind::Host, id))?;
            // Secrets that another request has put in their place are for that one to be told.
            let told = made && entry.record.generation == generation;
            let created = view::host_created(id, entry, told);
            let new = made && operation == Operation::HostCreate;
            Ok(Outcome::Host { created, new })
        }
        Operation::ConnectionCreate => {
            let record = intent
                .connection(id)
                .ok_or_else(|| missing(ObjectKind::Connection, id))?;
            let connection = view::connection(id, record, site, true);
            Ok(Outcome::Connection {
                connection,
                created: made,
            })
        }
        Operation::PoolDelete
        | Operation::VolumeDelete
        | Operation::VolumeRelease
        | Operation::SnapshotRelease
        | Operation::SnapshotDelete
        | Operation::GroupDelete
        | Operation::GroupSnapshotDelete
        | Operation::HostDelete
        | Operation::PortalDelete
        | Operation::ConnectionDelete => Ok(Outcome::Removed),
        Operation::VolumeDetachAll => Ok(Outcome::Detached),
        Operation::SystemFreeze | Operation::SystemThaw => Ok(Outcome::Switched),
        Operation::SystemShow
        | Operation::HealthShow
        | Operation::DiskList
        | Operation::PoolList
        | Operation::PoolShow
        | Operation::PoolScrub
        | Operation::PoolStatistics
        | Operation::VolumeList
        | Operation::VolumeShow
        | Operation::VolumeStatistics
        | Operation::SnapshotList
        | Operation::SnapshotShow
        | Operation::ThinDeviceList
        | Operation::VolumeUsage
        | Operation::VolumeExtents
        | Operation::SnapshotUsage
        | Operation::SnapshotExtents
        | Operation::GroupList
        | Operation::GroupShow
        | Operation::GroupSnapshotList
        | Operation::GroupSnapshotShow
        | Operation::PortalList
        | Operation::PortalShow
        | Operation::HostList
        | Operation::HostShow
        | Operation::ConnectionList
        | Operation::ConnectionShow
        | Operation::JobList
        | Operation::JobShow
        | Operation::JobCancel
        | Operation::EventList
        | Operation::AuditList
        | Operation::SupportBundle
        | Operation::BulkChange
        | Operation::SystemRestart
        | Operation::FirmwareShow
        | Operation::FirmwareInstall
        | Operation::FirmwareActivate
        | Operation::IdentityShow
        | Operation::IdentityRequest
        | Operation::IdentityInstall
        | Operation::IdentitySeal
        | Operation::IdentityClaim
        | Operation::IdentityReset
        | Operation::TrustShow
        | Operation::TrustUpdate
        | Operation::VolumeImport
        | Operation::VolumeExport
        | Operation::SnapshotExport => {
            let detail = "a query was taken for a change";
            Err(Problem::new(ProblemCode::Internal, detail).about(object))
        }
    }
}

/// An object that is not there.
pub fn missing(kind: ObjectKind, id: Uuid) -> Problem {
    let object = ObjectRef { kind, id };
    Problem::new(ProblemCode::NotFound, format!("{object} does not exist")).about(object)
}
