//! Looking into the thin metadata of pools.

use ashlar_protocol::{
    Extent, ExtentKind, ObjectKind, Page, Problem, ProblemCode, ThinDevice, Usage,
};
use ashlar_targetd_protocol::{ThinId, ThinRef};
use uuid::Uuid;

use super::Engine;
use super::desk::Looked;
use crate::domain::decide::adopt::unadoptable;
use crate::domain::decide::{check_present, check_taken};
use crate::domain::intent::Intent;
use crate::domain::outcome::missing;
use crate::thin::{DevicesQuestion, Freshness, SeenDevice, StretchKind, StretchesQuestion};

/// Which extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtentsQuery {
    /// The snapshot since which things changed; all that is mapped when absent.
    pub since: Option<Uuid>,
    /// The byte to begin at.
    pub offset: u64,
    /// So many at most.
    pub limit: usize,
}

/// Which thin devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThinDevicesQuery {
    /// The id to begin after.
    pub after: Option<u32>,
    /// So many at most.
    pub limit: usize,
}

/// A thin device that does not change its place while nobody looks.
#[derive(Clone, Copy, Debug)]
struct Found {
    pool: Uuid,
    thin_id: ThinId,
    family: Uuid,
    size: u64,
    freshness: Freshness,
}

impl Engine {
    /// What a volume or snapshot takes of its pool.
    ///
    /// # Errors
    /// When it does not exist or is in motion, or the metadata cannot be read; likewise below.
    pub async fn usage(&self, kind: ObjectKind, id: Uuid) -> Result<Usage, Problem> {
        let (found, relatives) = {
            let intent = self.shared.intent.read().await;
            let found = find(&intent, kind, id)?;
            (found, intent.relatives(found.family, found.pool))
        };
        let views = &self.shared.thin;
        let usage = views.usage(found.pool, found.thin_id, relatives).await?;
        Ok(Usage {
            size: found.size,
            used: usage.used,
            shared: usage.shared,
        })
    }

    /// Thin devices of a pool in order of id, whoever made them.
    pub async fn thin_devices(
        &self,
        pool: Uuid,
        query: &ThinDevicesQuery,
    ) -> Result<Page<ThinDevice>, Problem> {
        if self.shared.intent.read().await.pool(pool).is_none() {
            return Err(missing(ObjectKind::Pool, pool));
        }
        let question = DevicesQuestion {
            pool,
            from: query.after.map_or(0, |after| after.saturating_add(1)),
            // One more tells whether there is another page.
            limit: query.limit + 1,
        };
        let mut devices = self.shared.thin.devices(question).await?;
        let more = devices.len() > query.limit;
        devices.truncate(query.limit);
        let last = devices.last().map(|device| device.thin_id.to_string());
        let intent = self.shared.intent.read().await;
        let items = devices.into_iter().map(|device| {
            let thin_id = device.thin_id;
            thin_device(&intent, ThinRef { pool, thin_id }, device)
        });
        Ok(Page {
            items: items.collect(),
            next: last.filter(|_| more),
        })
    }

    /// Looks at a thin device that is to be adopted, unless that is forbidden anyway.
    pub(super) async fn look_at_thin(&self, pool: Option<Uuid>, thin_id: ThinId) -> Looked {
        let thin_end = match pool {
            Some(pool) => self.end_of_thin(ThinRef { pool, thin_id }).await,
            None => None,
        };
        Looked {
            thin_end,
            ..Looked::default()
        }
    }

    async fn end_of_thin(&self, thin: ThinRef) -> Option<Result<u64, Problem>> {
        let ThinRef { pool, thin_id } = thin;
        {
            let intent = self.shared.intent.read().await;
            let free = intent.owner_of_thin(thin).is_none();
            intent.pool(pool).filter(|_| free)?;
        }
        let seen = self.shared.thin.device(pool, thin_id).await;
        Some(match seen {
            Ok(device) => Ok(device.end),
            Err(error) if error.no_device() => {
                let detail = format!("pool {pool} has no thin device {thin_id}");
                Err(Problem::new(ProblemCode::NotFound, detail))
            }
            Err(error) => Err(error.into()),
        })
    }

    /// What a volume or snapshot maps, or what changed in it since a snapshot.
    pub async fn extents(
        &self,
        kind: ObjectKind,
        id: Uuid,
        query: &ExtentsQuery,
    ) -> Result<Page<Extent>, Problem> {
        let question = {
            let intent = self.shared.intent.read().await;
            let found = find(&intent, kind, id)?;
            let since = query.since.map(|since| earlier(&intent, &found, since));
            StretchesQuestion {
                pool: found.pool,
                thin_id: found.thin_id,
                since: since.transpose()?,
                size: found.size,
                from: query.offset,
                limit: query.limit,
                freshness: found.freshness,
            }
        };
        let stretches = self.shared.thin.stretches(question).await?;
        let extent = |stretch: &crate::thin::Stretch| Extent {
            offset: stretch.offset,
            length: stretch.length,
            kind: match stretch.kind {
                StretchKind::Data => ExtentKind::Data,
                StretchKind::Hole => ExtentKind::Hole,
            },
        };
        Ok(Page {
            items: stretches.items.iter().map(extent).collect(),
            next: stretches.next.map(|next| next.to_string()),
        })
    }
}

fn thin_device(intent: &Intent, thin: ThinRef, seen: SeenDevice) -> ThinDevice {
    let owner = intent.owner_of_thin(thin);
    let reason = unadoptable(intent, thin, seen.end);
    let owner_of = |kind| {
        owner
            .filter(|owner| owner.kind == kind)
            .map(|owner| owner.id)
    };
    ThinDevice {
        thin_id: seen.thin_id.value(),
        used: seen.used,
        end: seen.end,
        volume: owner_of(ObjectKind::Volume),
        snapshot: owner_of(ObjectKind::Snapshot),
        adoptable: reason.is_none(),
        reason,
    }
}

fn find(intent: &Intent, kind: ObjectKind, id: Uuid) -> Result<Found, Problem> {
    if kind == ObjectKind::Snapshot {
        return snapshot(intent, id);
    }
    let entry = intent.known_volume(id).ok_or_else(|| missing(kind, id))?;
    check_present(id, entry)?;
    Ok(Found {
        pool: entry.record.pool,
        thin_id: entry.record.thin_id,
        family: entry.record.family(id),
        size: entry.record.size,
        freshness: Freshness::Now,
    })
}

fn snapshot(intent: &Intent, id: Uuid) -> Result<Found, Problem> {
    let record = intent
        .snapshot(id)
        .ok_or_else(|| missing(ObjectKind::Snapshot, id))?;
    check_taken(id, record)?;
    Ok(Found {
        pool: record.pool,
        thin_id: record.thin_id,
        family: record.family(),
        size: record.size,
        freshness: Freshness::Any,
    })
}

/// The thin device of the snapshot that is compared with.
fn earlier(intent: &Intent, found: &Found, since: Uuid) -> Result<ThinId, Problem> {
    let snapshot = snapshot(intent, since)?;
    if snapshot.pool != found.pool {
        let (here, there) = (found.pool, snapshot.pool);
        let detail = format!(
            "snapshot {since} is in pool {there} and cannot be compared with what is in pool {here}"
        );
        return Err(Problem::new(ProblemCode::InvalidField, detail));
    }
    Ok(snapshot.thin_id)
}
