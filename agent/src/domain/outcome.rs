//! What a change has come to, as told to whoever asked for it.

use ashlar_protocol::{
    Connection, HostCreated, ObjectKind, ObjectRef, Operation, Pool, Problem, ProblemCode, Volume,
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
    /// A host.
    Host {
        /// As it was then, with its secrets when this request made it.
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
    } = reply;
    let id = object.id;
    match operation {
        Operation::PoolCreate => {
            let entry = intent
                .pool(id)
                .ok_or_else(|| missing(ObjectKind::Pool, id))?;
            let pool = view::pool(id, entry, look);
            Ok(Outcome::Pool {
                pool,
                created: made,
            })
        }
        Operation::VolumeCreate | Operation::VolumeExtend => {
            let entry = intent
                .volume(id)
                .ok_or_else(|| missing(ObjectKind::Volume, id))?;
            let volume = view::volume(id, entry);
            let created = made && operation == Operation::VolumeCreate;
            Ok(Outcome::Volume { volume, created })
        }
        Operation::HostCreate => {
            let entry = intent
                .host(id)
                .ok_or_else(|| missing(ObjectKind::Host, id))?;
            let created = view::host_created(id, entry, made);
            Ok(Outcome::Host { created, new: made })
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
        Operation::VolumeDelete | Operation::HostDelete | Operation::ConnectionDelete => {
            Ok(Outcome::Removed)
        }
        Operation::VolumeDetachAll => Ok(Outcome::Detached),
        Operation::SystemShow
        | Operation::HealthShow
        | Operation::DiskList
        | Operation::PoolList
        | Operation::PoolShow
        | Operation::VolumeList
        | Operation::VolumeShow
        | Operation::HostList
        | Operation::HostShow
        | Operation::ConnectionList
        | Operation::ConnectionShow
        | Operation::JobList
        | Operation::JobShow => {
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
