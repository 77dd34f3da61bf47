//! Laps: bringing every unit that the kernel must know about in order, after this process or
//! targetd was started.

use std::collections::BTreeSet;
use std::sync::Arc;

use ashlar_targetd_protocol::{Request, Response};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::driver::{Desk, Reconciler};
use crate::domain::record::Unit;
use crate::targetd::{CallError, Link};

/// Units of one lap under way at once. More than are in flight, so that those which wait for
/// their pool do not hold up the rest.
const AT_ONCE: usize = 2 * crate::targetd::IN_FLIGHT;

impl Reconciler {
    /// Notes in the ledger all that the first lap will see to. Before anyone is served.
    pub async fn recover(&self) {
        let intent = self.shared.intent.read().await;
        for pool in intent.pools().keys() {
            self.shared
                .ledger
                .recover(Unit::Pool(*pool), intent.generation());
        }
        for volume in intent.volumes_in_kernel() {
            self.shared
                .ledger
                .recover(Unit::Volume(volume), intent.generation());
        }
    }

    /// Runs a lap for every stream to targetd, until there will be none.
    pub async fn laps(self, desk: Arc<dyn Desk>) {
        let mut link = self.shared.targetd.link();
        let mut seen = 0;
        loop {
            let newer = |link: &Link| matches!(link, Link::Up(up) if up.epoch > seen);
            let epoch = match link.wait_for(newer).await.as_deref() {
                Ok(Link::Up(greeting)) => greeting.epoch,
                Ok(Link::Away(_)) => continue,
                Err(_) => return,
            };
            seen = epoch;
            match self.lap(&desk).await {
                Ok(units) => tracing::info!(units, "lap done"),
                Err(error) => tracing::warn!(%error, "lap broken off"),
            }
        }
    }

    /// Pools first, then volumes; then what the kernel has and nobody knows.
    async fn lap(&self, desk: &Arc<dyn Desk>) -> Result<usize, CallError> {
        let Response::Objects {
            pools,
            volumes,
            foreign,
        } = self.shared.targetd.call(Request::ListObjects).await?
        else {
            return Err(CallError::Unexpected {
                request: "list-objects",
            });
        };
        if !foreign.is_empty() {
            tracing::warn!(
                ?foreign,
                "the kernel has objects that are not ours; left alone"
            );
        }
        let (known_pools, known, orphans, generation) = {
            let intent = self.shared.intent.read().await;
            let known_pools: Vec<_> = intent.pools().keys().copied().collect();
            for pool in pools.iter().filter(|id| intent.pool(**id).is_none()) {
                tracing::warn!(%pool, "the kernel has a pool that nobody knows; left alone");
            }
            let volumes = volumes.into_iter();
            let (there, orphans): (BTreeSet<_>, BTreeSet<_>) =
                volumes.partition(|id| intent.volume(*id).is_some());
            let known = &intent.volumes_in_kernel() | &there;
            (known_pools, known, orphans, intent.generation())
        };
        for pool in &known_pools {
            self.doubt(Unit::Pool(*pool), generation, desk);
        }
        for pool in &known_pools {
            self.shared.ledger.attempted(Unit::Pool(*pool)).await;
        }
        let units = known_pools.len() + known.len();
        self.volumes(known, generation, desk).await;
        self.remove_orphans(orphans).await?;
        Ok(units)
    }

    async fn volumes(&self, volumes: BTreeSet<Uuid>, generation: u64, desk: &Arc<dyn Desk>) {
        let mut under_way = tokio::task::JoinSet::new();
        for volume in volumes {
            if under_way.len() >= AT_ONCE {
                under_way.join_next().await;
            }
            let unit = Unit::Volume(volume);
            self.doubt(unit, generation, desk);
            let ledger = Arc::clone(&self.shared.ledger);
            under_way.spawn(async move { ledger.attempted(unit).await });
        }
        under_way.join_all().await;
    }

    fn doubt(&self, unit: Unit, generation: u64, desk: &Arc<dyn Desk>) {
        if self.shared.ledger.doubt(unit, generation) {
            self.launch(unit, Arc::clone(desk), &Handle::current());
        }
    }

    /// Takes exports from volumes that the intent does not have. Their data stays.
    async fn remove_orphans(&self, orphans: BTreeSet<Uuid>) -> Result<(), CallError> {
        for id in orphans {
            match self.shared.targetd.call(Request::Unexport { id }).await {
                Ok(_) => tracing::warn!(volume = %id, "took out a volume that nobody knows"),
                Err(CallError::Failed(failure)) => {
                    tracing::warn!(volume = %id, %failure, "a volume that nobody knows stays");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
