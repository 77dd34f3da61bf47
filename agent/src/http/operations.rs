//! What each operation asks of the engine. Where a route gets its meaning.

use std::time::Duration;

use ashlar_protocol::{Operation, Page, Problem, ProblemCode};
use bytes::Bytes;
use uuid::Uuid;

use super::body::decode;
use super::query::ListQuery;
use super::reply::Reply;
use crate::engine::{Answer, Command, Engine, Outcome, RequestContext};

/// A request, understood and allowed.
pub(super) struct Call {
    pub(super) operation: Operation,
    /// The id in the path, where the route has one.
    pub(super) id: Option<Uuid>,
    pub(super) list: ListQuery,
    pub(super) body: Bytes,
    pub(super) context: RequestContext,
    pub(super) wait: Duration,
}

impl Call {
    fn id(&self) -> Result<Uuid, Problem> {
        let lost = || Problem::new(ProblemCode::Internal, "the route has lost its id");
        self.id.ok_or_else(lost)
    }
}

pub(super) async fn perform(engine: &Engine, call: Call) -> Result<Reply, Problem> {
    use Operation as Op;
    match call.operation {
        Op::SystemShow => Reply::ok(&engine.system().await),
        Op::HealthShow => Reply::ok(&engine.health().await),
        Op::DiskList => Reply::ok(&Page {
            items: engine.disks().await?,
            next: None,
        }),
        Op::PoolList => Reply::ok(&engine.pools(&call.list.page).await?),
        Op::VolumeList => Reply::ok(&engine.volumes(&call.list.page).await?),
        Op::HostList => Reply::ok(&engine.hosts(&call.list.page).await?),
        Op::ConnectionList => {
            let list = &call.list;
            Reply::ok(&engine.connections(&list.page, list.volume).await?)
        }
        Op::JobList => Reply::ok(&engine.jobs(&call.list.page).await?),
        Op::PoolShow => Reply::ok(&engine.pool(call.id()?).await?),
        Op::VolumeShow => Reply::ok(&engine.volume(call.id()?).await?),
        Op::HostShow => Reply::ok(&engine.host(call.id()?).await?),
        Op::ConnectionShow => Reply::ok(&engine.connection(call.id()?).await?),
        Op::JobShow => Reply::ok(&engine.job(call.id()?).await?),
        Op::PoolCreate
        | Op::VolumeCreate
        | Op::VolumeExtend
        | Op::VolumeDelete
        | Op::VolumeDetachAll
        | Op::HostCreate
        | Op::HostDelete
        | Op::ConnectionCreate
        | Op::ConnectionDelete => {
            let command = command(&call)?;
            let answer = engine.execute(command, call.context, call.wait).await?;
            reply(&answer)
        }
    }
}

fn command(call: &Call) -> Result<Command, Problem> {
    use Operation as Op;
    let id = call.id()?;
    Ok(match call.operation {
        Op::PoolCreate => Command::PoolCreate {
            id,
            spec: decode(&call.body)?,
        },
        Op::VolumeCreate => Command::VolumeCreate {
            id,
            spec: decode(&call.body)?,
        },
        Op::VolumeExtend => Command::VolumeExtend {
            id,
            spec: decode(&call.body)?,
        },
        Op::HostCreate => Command::HostCreate {
            id,
            spec: decode(&call.body)?,
        },
        Op::ConnectionCreate => Command::ConnectionCreate {
            id,
            spec: decode(&call.body)?,
        },
        Op::VolumeDelete => Command::VolumeDelete { id },
        Op::VolumeDetachAll => Command::VolumeDetachAll { id },
        Op::HostDelete => Command::HostDelete { id },
        Op::ConnectionDelete => Command::ConnectionDelete { id },
        looking => {
            let detail = format!("{looking:?} changes nothing");
            return Err(Problem::new(ProblemCode::Internal, detail));
        }
    })
}

fn reply(answer: &Answer) -> Result<Reply, Problem> {
    match answer {
        Answer::Accepted(job) => Reply::accepted(job),
        Answer::Done(outcome) => match outcome {
            Outcome::Pool { pool, created } => Reply::created(pool, *created),
            Outcome::Volume { volume, created } => Reply::created(volume, *created),
            Outcome::Host { created, new } => Reply::created(created, *new),
            Outcome::Connection {
                connection,
                created,
            } => Reply::created(connection, *created),
            Outcome::Removed | Outcome::Detached => Ok(Reply::gone()),
        },
    }
}
