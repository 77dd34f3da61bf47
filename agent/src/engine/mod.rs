//! The one way in: commands, queries, and the threads behind them.
//!
//! ```text
//! execute() ── bounded channel ──► store thread: decide, stage, one fsync, publish
//!     ▲                                  │ ledger.want(unit, generation)
//!     │                                  ▼
//!     └────────── settled ────────── reconciler ──► targetd
//! volume(), volumes(), … ── read lock on the intent
//! ```
//!
//! The store thread alone changes the intent, under its write lock and only once the change is
//! durable, so neither a query nor a driver ever sees what a power cut could take back.

mod answer;
mod catalog;
mod clerk;
mod data;
mod desk;
mod events;
mod firmware;
mod health;
mod import;
mod keeper;
mod mend;
mod moving;
mod open;
mod options;
mod page;
mod portal;
mod query;
mod schedule;
mod scrub;
mod spares;
mod start;
mod statistics;
mod support;
mod thin;
mod watch;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ashlar_protocol::{ObjectRef, Problem, ProblemCode};
use ashlar_targetd_protocol::{DiskReport, Request, Response};
use tokio::sync::{Mutex as AsyncMutex, RwLock, watch as channel};
use uuid::Uuid;

use crate::audit::Audit;
use crate::domain::view::Look;
use crate::domain::{Intent, Site};
use crate::firmware::Updater;
use crate::lanes::Lanes;
use crate::reconcile::{Ledger, Reconciler};
use crate::support::SupportOptions;
use crate::targetd::{CallError, Targetd};
use crate::thin::Views;

pub use crate::domain::Outcome;
pub use crate::domain::command::{Command, RequestContext};
pub use crate::kept::After;
pub use answer::Answer;
pub use catalog::Catalogs;
pub use data::{Broken, Download, Export, Import, Upload, Uploading};
pub use open::Opened;
pub use options::EngineOptions;
pub use page::PageQuery;
pub use start::{EngineTask, StartError};
pub use thin::{ExtentsQuery, ThinDevicesQuery};
pub use work::{Begun, Meter, Rule, Work};

use desk::{Looked, StoreDesk, Taken};
use events::Events;
use work::Works;

/// The engine, for handlers. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    desk: StoreDesk,
    intent: Arc<RwLock<Intent>>,
    ledger: Arc<Ledger>,
    targetd: Targetd,
    reconciler: Reconciler,
    thin: Views,
    lanes: Lanes,
    catalogs: Catalogs,
    /// Whoever looks at the catalog of a pool that is not here.
    importing: Arc<AsyncMutex<()>>,
    site: Arc<Site>,
    /// The program that reads images.
    convert: PathBuf,
    updater: Updater,
    support: SupportOptions,
    works: Arc<Works>,
    events: Arc<Events>,
    audit: Audit,
    watcher: watch::Watcher,
    ready: channel::Receiver<bool>,
}

impl Engine {
    /// Changes something, and waits up to `wait` for the kernel to have it.
    ///
    /// # Errors
    /// When a rule forbids it or the kernel cannot have it; then nothing of it remains, but
    /// for removals and new secrets of hosts, which are never taken back once they began.
    pub async fn execute(
        &self,
        command: Command,
        context: RequestContext,
        wait: Duration,
    ) -> Result<Answer, Problem> {
        let request = context.id;
        let looked = match &command {
            Command::PoolImport { id, spec } => self.look_at_catalog(&context, *id, *spec).await,
            _ => self.look(&command).await?,
        };
        let taken = self.decided(command, context, looked).await?;
        let Taken {
            reply,
            stored,
            waiting,
        } = taken;
        if let Some(outcome) = stored {
            return Ok(Answer::Done(self.with_state(*outcome).await));
        }
        if let Some(waiting) = waiting {
            match tokio::time::timeout(wait, waiting).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(problem))) => return Err(problem),
                Ok(Err(_stopping)) => return Err(stopping()),
                Err(_elapsed) => return self.accepted(request).await,
            }
        }
        let outcome = self.done(request, reply).await?;
        Ok(Answer::Done(self.with_state(outcome).await))
    }

    /// Has a command decided. That hosts gave room back is told by nobody, so a pool that takes
    /// nothing new is looked at before that is the last word.
    async fn decided(
        &self,
        command: Command,
        context: RequestContext,
        looked: Looked,
    ) -> Result<Taken, Problem> {
        let desk = &self.shared.desk;
        let asked = (command.clone(), context.clone(), looked.clone());
        match desk.command(command, context, looked).await {
            Err(problem) if problem.code == ProblemCode::NoSpace && self.look_for_room().await => {
                let (command, context, looked) = asked;
                desk.command(command, context, looked).await
            }
            decided => decided,
        }
    }

    /// The audit trail.
    pub fn audit(&self) -> &Audit {
        &self.shared.audit
    }

    /// The box's id.
    pub fn id(&self) -> Uuid {
        self.shared.site.id
    }

    /// Resolves once the first lap has brought the kernel to the intent, or a bounded time has
    /// passed.
    pub async fn ready(&self) {
        let mut ready = self.shared.ready.clone();
        // An error means that the engine stopped, which ends the wait as well.
        drop(ready.wait_for(|ready| *ready).await);
    }

    /// Waits for targetd to be there, so long at most; whether it is.
    pub async fn targetd_returns(&self, within: Duration) -> bool {
        let back = tokio::time::timeout(within, self.shared.targetd.up()).await;
        back.unwrap_or(false)
    }

    /// Waits, so long at most, until the pools were tried that targetd was away for; whether they
    /// were.
    pub async fn pools_return(&self, within: Duration) -> bool {
        let tried = self.shared.ledger.pools_tried_again();
        tokio::time::timeout(within, tried).await.is_ok()
    }

    /// Looks at what a command is judged by and the store thread does not know.
    async fn look(&self, command: &Command) -> Result<Looked, Problem> {
        Ok(match command {
            Command::PoolCreate { .. } => Looked {
                disks: self.disks_for_pool(command.object()).await?,
                ..Looked::default()
            },
            Command::PoolUpdate { spec, .. } if spec.spares.is_some() => Looked {
                disks: self.disks_for_pool(command.object()).await?,
                ..Looked::default()
            },
            Command::PoolGrow { id, .. } => Looked {
                disks: self.disks_for_pool(command.object()).await?,
                usage: match self.look_at_pool(*id).await {
                    Look::Report(report) => report.usage,
                    Look::Busy | Look::Gone => None,
                },
                ..Looked::default()
            },
            Command::PoolReplace { id, .. } => Looked {
                disks: self.disks_for_pool(command.object()).await?,
                sets: match self.look_at_pool(*id).await {
                    Look::Report(report) => report.sets,
                    Look::Busy | Look::Gone => Vec::new(),
                },
                ..Looked::default()
            },
            Command::PortalCreate { spec, .. } => Looked {
                address: self.look_at_address(*spec).await,
                ..Looked::default()
            },
            Command::VolumeAdopt { spec, .. } => {
                let pool = Some(spec.pool);
                self.look_at_thin(pool, spec.thin_id).await
            }
            Command::SnapshotAdopt { spec, .. } => {
                let intent = self.shared.intent.read().await;
                let pool = intent.volume(spec.volume).map(|entry| entry.record.pool);
                drop(intent);
                self.look_at_thin(pool, spec.thin_id).await
            }
            _ => Looked::default(),
        })
    }

    /// The disks a pool is laid out by. None while targetd is away: what forbids the pool
    /// anyway is told first.
    async fn disks_for_pool(&self, pool: ObjectRef) -> Result<Vec<DiskReport>, Problem> {
        match self.shared.targetd.call(Request::ListDisks).await {
            Ok(Response::Disks(disks)) => Ok(disks),
            Ok(_) => Err(internal("targetd answered list-disks with something else")),
            Err(CallError::Away(_) | CallError::Lost) => Ok(Vec::new()),
            Err(error) => {
                Err(Problem::new(ProblemCode::KernelFailed, error.to_string()).about(pool))
            }
        }
    }
}

fn stopping() -> Problem {
    Problem::new(ProblemCode::Stopping, "the agent is stopping")
}

pub(crate) fn internal(detail: &str) -> Problem {
    Problem::new(ProblemCode::Internal, detail)
}

#[cfg(test)]
mod tests;
