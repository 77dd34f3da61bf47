//! What a change is answered with.

use ashlar_protocol::{Connection, HostCreated, Job, ObjectKind, Operation, Pool, Problem, Volume};
use uuid::Uuid;

use super::{Engine, internal, missing};
use crate::domain::Reply;
use crate::domain::view;

/// The answer to a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Done(Outcome),
    /// Durable, and under way; the job's id is the request's.
    Accepted(Job),
}

/// The object as it is after the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A pool.
    Pool {
        /// As it is now.
        pool: Pool,
        /// Whether this request made it.
        created: bool,
    },
    /// A volume.
    Volume {
        /// As it is now.
        volume: Volume,
        /// Whether this request made it.
        created: bool,
    },
    /// A host.
    Host {
        /// As it is now, with its secrets when this request made it.
        created: HostCreated,
        /// Whether this request made it.
        new: bool,
    },
    /// A connection.
    Connection {
        /// As it is now.
        connection: Connection,
        /// Whether this request made it.
        created: bool,
    },
    /// The object is gone.
    Removed,
    /// The volume has no connection.
    Detached,
}

impl Engine {
    /// The answer to a request the kernel has all of: the object as it is now, or why the
    /// request was given up.
    pub(super) async fn done(&self, request: Uuid, reply: Reply) -> Result<Outcome, Problem> {
        self.given_up(request).await?;
        let Reply {
            operation,
            object,
            made,
        } = reply;
        let id = object.id;
        match operation {
            Operation::PoolCreate => {
                let pool = self.pool(id).await?;
                Ok(Outcome::Pool {
                    pool,
                    created: made,
                })
            }
            Operation::VolumeCreate => {
                let volume = self.volume(id).await?;
                Ok(Outcome::Volume {
                    volume,
                    created: made,
                })
            }
            Operation::VolumeExtend => {
                let volume = self.volume(id).await?;
                Ok(Outcome::Volume {
                    volume,
                    created: false,
                })
            }
            Operation::HostCreate => {
                let intent = self.shared.intent.read().await;
                let host = intent
                    .host(id)
                    .ok_or_else(|| missing(ObjectKind::Host, id))?;
                let created = view::host_created(id, host, made);
                Ok(Outcome::Host { created, new: made })
            }
            Operation::ConnectionCreate => {
                let connection = self.connection(id).await?;
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
            | Operation::JobShow => Err(internal("a query was taken for a change")),
        }
    }

    /// The answer to a request past its deadline.
    pub(super) async fn accepted(&self, request: Uuid) -> Result<Answer, Problem> {
        self.given_up(request).await?;
        self.job(request).await.map(Answer::Accepted)
    }

    async fn given_up(&self, request: Uuid) -> Result<(), Problem> {
        let intent = self.shared.intent.read().await;
        match intent
            .request(request)
            .and_then(|record| record.failed.as_deref())
        {
            Some(problem) => Err(problem.clone()),
            None => Ok(()),
        }
    }
}
