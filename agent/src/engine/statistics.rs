//! What volumes and pools have done, as targetd reads it from the kernel.

use ashlar_protocol::{IoCounters, ObjectKind, PoolStatistics, Problem, VolumeStatistics};
use ashlar_targetd_protocol::{Counted, Request, Response};
use uuid::Uuid;

use super::{Engine, internal};
use crate::domain::outcome::missing;
use crate::domain::record::Unit;
use crate::reconcile::problem_of;

impl Engine {
    /// What hosts have done with a volume.
    ///
    /// # Errors
    /// When it does not exist, or targetd does not tell; likewise below.
    pub async fn volume_statistics(&self, id: Uuid) -> Result<VolumeStatistics, Problem> {
        let (pool, thin_id) = {
            let intent = self.shared.intent.read().await;
            let entry = intent.known_volume(id);
            let entry = entry.ok_or_else(|| missing(ObjectKind::Volume, id))?;
            (entry.record.pool, entry.record.thin_id)
        };
        let unit = Unit::Volume(id);
        let Some(io) = self.counters(unit, Counted::Volume(id)).await? else {
            return Ok(VolumeStatistics {
                id,
                active: false,
                used: None,
                io: None,
            });
        };
        let look = Request::ObserveVolume { id, pool, thin_id };
        let used = match self.shared.targetd.call(look).await {
            Ok(Response::Volume(report)) => report.mapped.map(|mapped| mapped.bytes().0),
            Ok(_) => return Err(unexpected()),
            Err(error) => return Err(problem_of(unit.object(), &error)),
        };
        Ok(VolumeStatistics {
            id,
            active: true,
            used,
            io: Some(io),
        })
    }

    /// What a pool holds, and what its disks have done for it.
    pub async fn pool_statistics(&self, id: Uuid) -> Result<PoolStatistics, Problem> {
        let pool = self.pool(id).await?;
        let unit = Unit::Pool(id);
        Ok(PoolStatistics {
            id,
            capacity: pool.capacity,
            used: pool.used,
            metadata_used: pool.metadata_used,
            data: self.counters(unit, Counted::PoolData(id)).await?,
            metadata: self.counters(unit, Counted::PoolMetadata(id)).await?,
            provisioned: pool.provisioned,
            thick: pool.thick,
        })
    }

    async fn counters(&self, unit: Unit, counted: Counted) -> Result<Option<IoCounters>, Problem> {
        match self
            .shared
            .targetd
            .call(Request::ReadCounters(counted))
            .await
        {
            Ok(Response::Counters(counters)) => Ok(counters),
            Ok(_) => Err(unexpected()),
            Err(error) => Err(problem_of(unit.object(), &error)),
        }
    }
}

fn unexpected() -> Problem {
    internal("targetd answered a question for counters with something else")
}
