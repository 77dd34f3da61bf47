//! Looking at objects.

use std::time::Duration;

use ashlar_protocol::page::MAX_LIMIT;
use ashlar_protocol::volume::{GRANULARITY, MAX_SIZE};
use ashlar_protocol::{
    Capabilities, Connected, Connection, Disk, Group, GroupSnapshot, Host, Job, MAX_BODY,
    ObjectKind, Operation, Page, Pool, Problem, ProblemCode, Snapshot, System, Transport, Volume,
};
use ashlar_targetd_protocol::{DiskReport, Request, Response};
use uuid::Uuid;

use super::Engine;
use super::page::{PageQuery, after, page};
use crate::domain::Site;
use crate::domain::intent::GroupEntry;
use crate::domain::outcome::missing;
use crate::domain::record::{ConnectionRecord, GroupSnapshotRecord, RequestRecord, Unit};
use crate::domain::view::{self, Look, Reached};

/// Longest wait for what the kernel says of a pool; past it, its fill is left out.
const LOOK: Duration = Duration::from_secs(2);

/// The management protocol's version, the first part of every path.
const PROTOCOL: u32 = 1;

impl Engine {
    /// A pool, with its fill when targetd tells.
    ///
    /// # Errors
    /// When it does not exist; likewise below.
    pub async fn pool(&self, id: Uuid) -> Result<Pool, Problem> {
        let missing = || missing(ObjectKind::Pool, id);
        if self.shared.intent.read().await.pool(id).is_none() {
            return Err(missing());
        }
        let look = self.look_at_pool(id).await;
        let intent = self.shared.intent.read().await;
        let entry = intent.pool(id).ok_or_else(missing)?;
        Ok(view::pool(id, entry, &look))
    }

    /// A volume.
    pub async fn volume(&self, id: Uuid) -> Result<Volume, Problem> {
        let intent = self.shared.intent.read().await;
        let entry = intent
            .known_volume(id)
            .ok_or_else(|| missing(ObjectKind::Volume, id))?;
        Ok(view::volume(id, entry))
    }

    /// A snapshot.
    pub async fn snapshot(&self, id: Uuid) -> Result<Snapshot, Problem> {
        let intent = self.shared.intent.read().await;
        let record = intent
            .snapshot(id)
            .ok_or_else(|| missing(ObjectKind::Snapshot, id))?;
        Ok(view::snapshot(id, record))
    }

    /// A group.
    pub async fn group(&self, id: Uuid) -> Result<Group, Problem> {
        let intent = self.shared.intent.read().await;
        let entry = intent
            .group(id)
            .ok_or_else(|| missing(ObjectKind::Group, id))?;
        Ok(view::group(&intent, id, entry))
    }

    /// A group snapshot.
    pub async fn group_snapshot(&self, id: Uuid) -> Result<GroupSnapshot, Problem> {
        let intent = self.shared.intent.read().await;
        let record = intent
            .group_snapshot(id)
            .ok_or_else(|| missing(ObjectKind::GroupSnapshot, id))?;
        Ok(view::group_snapshot(&intent, id, record))
    }

    /// A host.
    pub async fn host(&self, id: Uuid) -> Result<Host, Problem> {
        let intent = self.shared.intent.read().await;
        let entry = intent
            .host(id)
            .ok_or_else(|| missing(ObjectKind::Host, id))?;
        Ok(view::host(id, entry))
    }

    /// A connection.
    pub async fn connection(&self, id: Uuid) -> Result<Connection, Problem> {
        let intent = self.shared.intent.read().await;
        let record = intent
            .connection(id)
            .ok_or_else(|| missing(ObjectKind::Connection, id))?;
        let site = self.shared.site.as_of(&intent);
        Ok(self.connection_view(&site, id, record))
    }

    /// A job.
    pub async fn job(&self, id: Uuid) -> Result<Job, Problem> {
        let intent = self.shared.intent.read().await;
        let record = intent
            .request(id)
            .ok_or_else(|| missing(ObjectKind::Job, id))?;
        Ok(self.job_view(id, record))
    }

    /// Pools in order of id.
    ///
    /// # Errors
    /// When the cursor is not one of ours; likewise below.
    pub async fn pools(&self, query: &PageQuery) -> Result<Page<Pool>, Problem> {
        let cursor = query.cursor()?;
        let ids = {
            let intent = self.shared.intent.read().await;
            page(query, after(intent.pools(), cursor), |id, _| id)
        };
        let mut items = Vec::with_capacity(ids.items.len());
        for id in ids.items {
            match self.pool(id).await {
                Ok(pool) => items.push(pool),
                // Forgotten since the ids were read.
                Err(problem) if problem.code == ProblemCode::NotFound => {}
                Err(problem) => return Err(problem),
            }
        }
        Ok(Page {
            items,
            next: ids.next,
        })
    }

    /// Volumes in order of id.
    pub async fn volumes(&self, query: &PageQuery) -> Result<Page<Volume>, Problem> {
        let cursor = query.cursor()?;
        let intent = self.shared.intent.read().await;
        let known = after(intent.volumes(), cursor);
        let known = known.filter(|(_, entry)| entry.record.purpose.is_none());
        Ok(page(query, known, view::volume))
    }

    /// Snapshots in order of id, of one volume if asked.
    pub async fn snapshots(
        &self,
        query: &PageQuery,
        volume: Option<Uuid>,
    ) -> Result<Page<Snapshot>, Problem> {
        let cursor = query.cursor()?;
        let intent = self.shared.intent.read().await;
        Ok(match volume {
            Some(volume) => page(query, intent.snapshots_of(volume, cursor), view::snapshot),
            None => page(query, after(intent.snapshots(), cursor), view::snapshot),
        })
    }

    /// Groups in order of id.
    pub async fn groups(&self, query: &PageQuery) -> Result<Page<Group>, Problem> {
        let cursor = query.cursor()?;
        let intent = self.shared.intent.read().await;
        let view = |id, entry: &GroupEntry| view::group(&intent, id, entry);
        Ok(page(query, after(intent.groups(), cursor), view))
    }

    /// Group snapshots in order of id.
    pub async fn group_snapshots(&self, query: &PageQuery) -> Result<Page<GroupSnapshot>, Problem> {
        let cursor = query.cursor()?;
        let intent = self.shared.intent.read().await;
        let view = |id, record: &GroupSnapshotRecord| view::group_snapshot(&intent, id, record);
        Ok(page(query, after(intent.group_snapshots(), cursor), view))
    }

    /// Hosts in order of id.
    pub async fn hosts(&self, query: &PageQuery) -> Result<Page<Host>, Problem> {
        let cursor = query.cursor()?;
        let intent = self.shared.intent.read().await;
        Ok(page(query, after(intent.hosts(), cursor), view::host))
    }

    /// Connections in order of id, of one volume or snapshot if asked.
    pub async fn connections(
        &self,
        query: &PageQuery,
        of: Option<Connected>,
    ) -> Result<Page<Connection>, Problem> {
        let cursor = query.cursor()?;
        let intent = self.shared.intent.read().await;
        let site = self.shared.site.as_of(&intent);
        let view = |id, record: &ConnectionRecord| self.connection_view(&site, id, record);
        Ok(match of {
            Some(of) => page(query, intent.connections_of(of, cursor), view),
            None => page(query, after(intent.connections(), cursor), view),
        })
    }

    /// Jobs in order of id.
    pub async fn jobs(&self, query: &PageQuery) -> Result<Page<Job>, Problem> {
        let cursor = query.cursor()?;
        let intent = self.shared.intent.read().await;
        let view = |id, record: &RequestRecord| self.job_view(id, record);
        Ok(page(query, after(intent.requests(), cursor), view))
    }

    /// The box.
    pub async fn system(&self) -> System {
        let greeting = self.shared.targetd.greeting();
        let intent = self.shared.intent.read().await;
        let site = self.shared.site.as_of(&intent);
        let features = greeting.iter().flat_map(|greeting| &greeting.features);
        let has_blkio = features
            .filter(|feature| feature.name == "blkio")
            .any(|feature| feature.problem.is_none());
        let transports = site.transports().into_iter().filter(|transport| {
            let features = greeting.iter().flat_map(|greeting| &greeting.features);
            let mut named = features.filter(|feature| feature.name == transport.to_string());
            named.all(|feature| feature.problem.is_none())
        });
        let transports: Vec<Transport> = transports.collect();
        System {
            id: site.id,
            name: site.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            kernel: greeting.map(|greeting| greeting.kernel),
            capabilities: Capabilities {
                transports,
                volume_granularity: GRANULARITY,
                volume_max: MAX_SIZE,
                online_extend: true,
                multiattach: true,
                qos: has_blkio,
                page_max: MAX_LIMIT as u64,
                body_max: MAX_BODY as u64,
            },
            frozen: intent.frozen().cloned(),
        }
    }

    /// The disks of the box.
    ///
    /// # Errors
    /// When targetd does not tell.
    pub async fn disks(&self) -> Result<Vec<Disk>, Problem> {
        match self.shared.targetd.call(Request::ListDisks).await {
            Ok(Response::Disks(disks)) => Ok(disks.into_iter().map(disk).collect()),
            Ok(_) => Err(super::internal(
                "targetd answered list-disks with something else",
            )),
            Err(error) => Err(Problem::new(
                ProblemCode::TargetdUnavailable,
                error.to_string(),
            )),
        }
    }

    /// What the kernel says of a pool, if it says anything soon.
    pub(super) async fn look_at_pool(&self, id: Uuid) -> Look {
        let look = self.shared.targetd.call(Request::ObservePool { id });
        match tokio::time::timeout(LOOK, look).await {
            Ok(Ok(Response::Pool(report))) => {
                self.shared.watcher.saw(&report).await;
                Look::Report(report)
            }
            Err(_) if self.shared.ledger.settled(Unit::Pool(id)) => Look::Busy,
            Err(_) | Ok(_) => Look::Gone,
        }
    }

    fn connection_view(&self, site: &Site, id: Uuid, record: &ConnectionRecord) -> Connection {
        let unit = Unit::of(record.of);
        let applied = self.shared.ledger.has(unit, record.generation);
        self.best_first(view::connection(id, record, site, applied))
    }

    fn job_view(&self, id: Uuid, record: &RequestRecord) -> Job {
        let reached = match record.unit {
            Some(unit) => self.shared.ledger.reached(unit, record.generation),
            None => Reached::All,
        };
        let erasing = record
            .unit
            .filter(|_| record.operation == Operation::VolumeDelete && reached != Reached::All);
        let erasing = || self.shared.reconciler.erasing(erasing?);
        let portal = || {
            let unit = record.unit.filter(|_| reached != Reached::All)?;
            self.shared.reconciler.portal_progress(unit)
        };
        let progress = self.progress(id).or_else(portal).or_else(erasing);
        view::job(id, record, reached.clone(), progress)
    }
}

fn disk(report: DiskReport) -> Disk {
    Disk {
        id: report.id,
        kernel_name: report.kernel_name,
        size: report.size.0,
        rotational: report.rotational,
        in_use: report.in_use,
        content: report.content,
        pool: report.pool,
    }
}
