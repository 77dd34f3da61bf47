//! What each operation asks of the engine. Where a route gets its meaning.

use std::time::Duration;

use ashlar_protocol::{
    ObjectKind, Operation, Page, Problem, ProblemCode, ReleaseSpec, RestartSpec, ThawSpec,
};
use bytes::Bytes;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::body::decode;
use super::query::{Query, after};
use super::reply::Reply;
use super::sequence::Sequence;
use crate::engine::{After, Answer, Command, Engine, Outcome, RequestContext};

/// A request, understood and allowed.
pub(super) struct Call {
    pub(super) operation: Operation,
    /// The id in the path, where the route has one.
    pub(super) id: Option<Uuid>,
    pub(super) query: Query,
    pub(super) body: Bytes,
    pub(super) context: RequestContext,
    pub(super) wait: Duration,
    /// Set when the connection is to end.
    pub(super) closing: CancellationToken,
}

impl Call {
    fn id(&self) -> Result<Uuid, Problem> {
        let lost = || Problem::new(ProblemCode::Internal, "the route has lost its id");
        self.id.ok_or_else(lost)
    }
}

/// Begins an answer without an end.
pub(super) fn stream(
    engine: &Engine,
    call: &Call,
    permit: OwnedSemaphorePermit,
) -> Result<Reply, Problem> {
    let (begin, closing) = (after(&call.query.page)?, call.closing.clone());
    let sequence = match call.operation {
        Operation::AuditList => Sequence::start(engine.audit().after(begin)?, permit, closing),
        _ => Sequence::start(engine.events_after(begin)?, permit, closing),
    };
    Ok(Reply::sequence(sequence))
}

/// Longest wait for a targetd that is away: enough for one that is being started again, after an
/// update or a crash.
const RETURN: Duration = Duration::from_secs(10);

/// Does what is asked. What targetd is needed for and was away for is asked once more when it is
/// back, and again when the pools were put together since, if that is within what the client waits
/// for anyway.
pub(super) async fn perform(engine: &Engine, call: Call) -> Result<Reply, Problem> {
    let within = call.wait.min(RETURN);
    let mut outcome = once(engine, &call).await;
    if is_away(&outcome) && engine.targetd_returns(within).await {
        outcome = once(engine, &call).await;
        if is_away(&outcome) && engine.pools_return(within).await {
            outcome = once(engine, &call).await;
        }
    }
    outcome
}

fn is_away(outcome: &Result<Reply, Problem>) -> bool {
    let problem = outcome.as_ref().err();
    problem.is_some_and(|problem| problem.code == ProblemCode::TargetdUnavailable)
}

async fn once(engine: &Engine, call: &Call) -> Result<Reply, Problem> {
    use Operation as Op;
    match call.operation {
        Op::SystemShow => Reply::ok(&engine.system().await),
        Op::DiskList => Reply::ok(&Page {
            items: engine.disks().await?,
            next: None,
        }),
        Op::PoolList => Reply::ok(&engine.pools(&call.query.page).await?),
        Op::VolumeList => Reply::ok(&engine.volumes(&call.query.page).await?),
        Op::SnapshotList => {
            let list = &call.query;
            Reply::ok(&engine.snapshots(&list.page, list.volume).await?)
        }
        Op::GroupList => Reply::ok(&engine.groups(&call.query.page).await?),
        Op::GroupSnapshotList => Reply::ok(&engine.group_snapshots(&call.query.page).await?),
        Op::PortalList => Reply::ok(&engine.portals(&call.query.page).await?),
        Op::HostList => Reply::ok(&engine.hosts(&call.query.page).await?),
        Op::ConnectionList => {
            let (list, of) = (&call.query, call.query.connected()?);
            Reply::ok(&engine.connections(&list.page, of).await?)
        }
        Op::JobList => Reply::ok(&engine.jobs(&call.query.page).await?),
        Op::EventList => listed(call, |after, limit, wait| engine.events(after, limit, wait)).await,
        Op::AuditList => {
            let audit = engine.audit();
            listed(call, |after, limit, wait| audit.page(after, limit, wait)).await
        }
        Op::BulkChange => {
            let detail = "a bulk request has no place in another";
            Err(Problem::new(ProblemCode::Internal, detail))
        }
        Op::FirmwareShow => Reply::ok(&engine.firmware().await?),
        Op::FirmwareActivate => {
            let spec = decode(&call.body)?;
            Reply::ok(&engine.activate(spec, call.context.clone()).await?)
        }
        Op::SystemRestart => {
            let RestartSpec {} = decode(&call.body)?;
            engine.restart(call.context.clone()).await?;
            Ok(Reply::gone())
        }
        Op::FirmwareInstall => {
            let detail = "a bundle has no place in a bulk request";
            Err(Problem::new(ProblemCode::InvalidField, detail))
        }
        Op::HealthShow
        | Op::IdentityShow
        | Op::IdentityRequest
        | Op::IdentityInstall
        | Op::IdentitySeal
        | Op::IdentityClaim
        | Op::IdentityReset
        | Op::TrustShow
        | Op::TrustUpdate => {
            let detail = "who and how the box is has no place in a bulk request";
            Err(Problem::new(ProblemCode::InvalidField, detail))
        }
        Op::SupportBundle => {
            let detail = "a support bundle has no place in a bulk request";
            Err(Problem::new(ProblemCode::InvalidField, detail))
        }
        Op::VolumeImport | Op::VolumeExport | Op::SnapshotExport => {
            let detail = "what volumes hold has no place in a bulk request";
            Err(Problem::new(ProblemCode::InvalidField, detail))
        }
        Op::PoolShow => Reply::ok(&engine.pool(call.id()?).await?),
        Op::VolumeShow => Reply::ok(&engine.volume(call.id()?).await?),
        Op::SnapshotShow => Reply::ok(&engine.snapshot(call.id()?).await?),
        Op::ThinDeviceList => {
            let id = call.id()?;
            Reply::ok(&engine.thin_devices(id, &call.query.thin_devices()?).await?)
        }
        Op::VolumeUsage => Reply::ok(&engine.usage(ObjectKind::Volume, call.id()?).await?),
        Op::SnapshotUsage => Reply::ok(&engine.usage(ObjectKind::Snapshot, call.id()?).await?),
        Op::VolumeExtents => extents(engine, ObjectKind::Volume, call).await,
        Op::SnapshotExtents => extents(engine, ObjectKind::Snapshot, call).await,
        Op::GroupShow => Reply::ok(&engine.group(call.id()?).await?),
        Op::GroupSnapshotShow => Reply::ok(&engine.group_snapshot(call.id()?).await?),
        Op::PortalShow => Reply::ok(&engine.portal(call.id()?).await?),
        Op::HostShow => Reply::ok(&engine.host(call.id()?).await?),
        Op::ConnectionShow => Reply::ok(&engine.connection(call.id()?).await?),
        Op::PoolStatistics => Reply::ok(&engine.pool_statistics(call.id()?).await?),
        Op::VolumeStatistics => Reply::ok(&engine.volume_statistics(call.id()?).await?),
        Op::JobShow => Reply::ok(&engine.job(call.id()?).await?),
        Op::JobCancel => match engine.cancel(call.id()?, call.wait).await? {
            Some(job) => Reply::accepted(&job),
            None => Ok(Reply::gone()),
        },
        Op::SystemFreeze | Op::SystemThaw => {
            let command = match call.operation {
                Op::SystemFreeze => Command::SystemFreeze {
                    id: engine.id(),
                    spec: decode(&call.body)?,
                },
                _ => {
                    let ThawSpec {} = decode(&call.body)?;
                    Command::SystemThaw { id: engine.id() }
                }
            };
            let answer = engine
                .execute(command, call.context.clone(), call.wait)
                .await?;
            match answer {
                Answer::Done(_) => Reply::ok(&engine.system().await),
                Answer::Accepted(job) => Reply::accepted(&job),
            }
        }
        Op::PoolScrub => {
            let (id, spec) = (call.id()?, decode(&call.body)?);
            Reply::ok(&engine.scrub(id, spec, &call.context).await?)
        }
        Op::VolumeMove => {
            let (id, spec) = (call.id()?, decode(&call.body)?);
            let context = call.context.clone();
            reply(&engine.move_volume(id, spec, context, call.wait).await?)
        }
        Op::PoolCreate
        | Op::PoolUpdate
        | Op::PoolGrow
        | Op::PoolImport
        | Op::PoolReplace
        | Op::PoolDelete
        | Op::VolumeUpdate
        | Op::VolumeCreate
        | Op::VolumeAdopt
        | Op::VolumeRelease
        | Op::VolumeExtend
        | Op::VolumeRevert
        | Op::VolumeTransfer
        | Op::VolumeDelete
        | Op::VolumeDetachAll
        | Op::SnapshotCreate
        | Op::SnapshotAdopt
        | Op::SnapshotUpdate
        | Op::SnapshotRelease
        | Op::SnapshotDelete
        | Op::GroupCreate
        | Op::GroupUpdate
        | Op::GroupDelete
        | Op::GroupSnapshotCreate
        | Op::GroupSnapshotUpdate
        | Op::GroupSnapshotDelete
        | Op::PortalCreate
        | Op::PortalDelete
        | Op::HostCreate
        | Op::HostRotate
        | Op::HostDelete
        | Op::ConnectionCreate
        | Op::ConnectionDelete => {
            let command = command(call)?;
            let answer = engine
                .execute(command, call.context.clone(), call.wait)
                .await?;
            reply(&answer)
        }
    }
}

/// A page of what may still come, sooner than it would when the connection is to end.
async fn listed<T: Serialize, F>(
    call: &Call,
    page: impl Fn(After, usize, Duration) -> F,
) -> Result<Reply, Problem>
where
    F: Future<Output = Result<Page<T>, Problem>>,
{
    let (begin, limit) = (after(&call.query.page)?, call.query.page.limit);
    let page = tokio::select! {
        page = page(begin, limit, call.query.wait) => page?,
        () = call.closing.cancelled() => page(begin, limit, Duration::ZERO).await?,
    };
    Reply::ok(&page)
}

async fn extents(engine: &Engine, kind: ObjectKind, call: &Call) -> Result<Reply, Problem> {
    Reply::ok(
        &engine
            .extents(kind, call.id()?, &call.query.extents()?)
            .await?,
    )
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
        Op::VolumeAdopt => Command::VolumeAdopt {
            id,
            spec: Box::new(decode(&call.body)?),
        },
        Op::VolumeRelease => {
            let ReleaseSpec {} = decode(&call.body)?;
            Command::VolumeRelease { id }
        }
        Op::VolumeExtend => Command::VolumeExtend {
            id,
            spec: decode(&call.body)?,
        },
        Op::PoolDelete => Command::PoolDelete {
            id,
            force: call.query.force,
        },
        Op::PoolGrow => Command::PoolGrow {
            id,
            spec: decode(&call.body)?,
        },
        Op::PoolImport => Command::PoolImport {
            id,
            spec: decode(&call.body)?,
        },
        Op::PoolReplace => Command::PoolReplace {
            id,
            spec: decode(&call.body)?,
        },
        Op::PoolUpdate => Command::PoolUpdate {
            id,
            spec: decode(&call.body)?,
        },
        Op::VolumeUpdate => Command::VolumeUpdate {
            id,
            spec: Box::new(decode(&call.body)?),
        },
        Op::VolumeRevert => Command::VolumeRevert {
            id,
            spec: decode(&call.body)?,
        },
        Op::VolumeTransfer => Command::VolumeTransfer {
            id,
            spec: decode(&call.body)?,
        },
        Op::SnapshotAdopt => Command::SnapshotAdopt {
            id,
            spec: Box::new(decode(&call.body)?),
        },
        Op::SnapshotUpdate => Command::SnapshotUpdate {
            id,
            spec: decode(&call.body)?,
        },
        Op::SnapshotRelease => {
            let ReleaseSpec {} = decode(&call.body)?;
            Command::SnapshotRelease { id }
        }
        Op::SnapshotCreate => Command::SnapshotCreate {
            id,
            spec: decode(&call.body)?,
        },
        Op::GroupCreate => Command::GroupCreate {
            id,
            spec: decode(&call.body)?,
        },
        Op::GroupUpdate => Command::GroupUpdate {
            id,
            update: decode(&call.body)?,
        },
        Op::GroupSnapshotCreate => Command::GroupSnapshotCreate {
            id,
            spec: decode(&call.body)?,
        },
        Op::GroupSnapshotUpdate => Command::GroupSnapshotUpdate {
            id,
            spec: decode(&call.body)?,
        },
        Op::GroupDelete => Command::GroupDelete { id },
        Op::GroupSnapshotDelete => Command::GroupSnapshotDelete { id },
        Op::PortalCreate => Command::PortalCreate {
            id,
            spec: decode(&call.body)?,
        },
        Op::PortalDelete => Command::PortalDelete {
            id,
            force: call.query.force,
        },
        Op::HostCreate => Command::HostCreate {
            id,
            spec: decode(&call.body)?,
        },
        Op::HostRotate => Command::HostRotate {
            id,
            spec: Box::new(decode(&call.body)?),
        },
        Op::ConnectionCreate => Command::ConnectionCreate {
            id,
            spec: decode(&call.body)?,
        },
        Op::VolumeDelete => match call.query.clearing()? {
            None => Command::VolumeDelete { id },
            Some(clearing) => Command::VolumeClear { id, clearing },
        },
        Op::VolumeDetachAll => Command::VolumeDetachAll { id },
        Op::SnapshotDelete => Command::SnapshotDelete { id },
        Op::HostDelete => Command::HostDelete { id },
        Op::ConnectionDelete => Command::ConnectionDelete {
            id,
            force: call.query.force,
        },
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
            Outcome::Snapshot { snapshot, created } => Reply::created(snapshot, *created),
            Outcome::Group { group, created } => Reply::created(group, *created),
            Outcome::GroupSnapshot {
                group_snapshot,
                created,
            } => Reply::created(group_snapshot, *created),
            Outcome::Portal { portal, created } => Reply::created(portal, *created),
            Outcome::Host { created, new } => Reply::created(created, *new),
            Outcome::Connection {
                connection,
                created,
            } => Reply::created(connection, *created),
            Outcome::Removed | Outcome::Detached | Outcome::Switched => Ok(Reply::gone()),
        },
    }
}
