//! Laps: bringing every unit that the kernel must know about in order, after this process or
//! targetd was started.

use std::collections::BTreeSet;
use std::sync::Arc;

use ashlar_targetd_protocol::{Request, Response};
use uuid::Uuid;

use super::driver::{Desk, Reconciler};
use crate::domain::Intent;
use crate::domain::record::{SnapshotPhase, Unit};
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
        let volumes = intent.volumes_in_kernel().into_iter().map(Unit::Volume);
        let snapshots = intent.connected_snapshots();
        let snapshots = snapshots.into_iter().map(Unit::Snapshot);
        let units = volumes.chain(snapshots).chain(intent.units_made_at_once());
        let portals = intent.portals().keys().copied().map(Unit::Portal);
        for unit in units.chain(rotated(&intent)).chain(portals) {
            self.shared.ledger.recover(unit, intent.generation());
        }
    }

    /// Resolves when the first lap is done.
    pub async fn first_lap(&self) {
        let mut laps = self.shared.laps.subscribe();
        // The sender is ours, so this ends with the wait alone.
        drop(laps.wait_for(|laps| *laps > 0).await);
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
                Ok(units) => {
                    tracing::info!(units, "lap done");
                    self.shared.laps.send_modify(|laps| *laps += 1);
                }
                Err(error) => tracing::warn!(%error, "lap broken off"),
            }
        }
    }

    /// Pools first, then what lives in them; then what the kernel has and nobody knows.
    async fn lap(&self, desk: &Arc<dyn Desk>) -> Result<usize, CallError> {
        let found = self.objects().await?;
        let round = {
            let intent = self.shared.intent.read().await;
            Round::new(&intent, &found)
        };
        let mut strangers = found.foreign;
        let unknown = round.unknown_pools.iter();
        strangers
            .extend(unknown.map(|id| format!("pool {id} is in the kernel, but nobody knows it")));
        for pool in &round.pools {
            self.doubt(Unit::Pool(*pool), desk).await;
        }
        for pool in &round.pools {
            self.shared.ledger.attempted(Unit::Pool(*pool)).await;
        }
        let units = round.pools.len() + round.residents.len();
        self.residents(round.residents, desk).await;
        strangers.extend(self.remove_orphans(round.orphans).await?);
        for stranger in &strangers {
            tracing::warn!(stranger, "left alone");
        }
        self.shared.ledger.meet(strangers);
        Ok(units)
    }

    /// What is in the kernel, and strangers. A kernel that cannot list its objects may still
    /// take some.
    async fn objects(&self) -> Result<Found, CallError> {
        match self.shared.targetd.call(Request::ListObjects).await {
            Ok(Response::Objects {
                pools,
                volumes,
                snapshots,
                foreign,
            }) => Ok(Found {
                pools,
                volumes,
                snapshots,
                foreign,
            }),
            Ok(_) => Err(CallError::Unexpected {
                request: "list-objects",
            }),
            Err(CallError::Failed(failure)) => Ok(Found {
                foreign: vec![format!("the kernel's objects are unknown: {failure}")],
                ..Found::default()
            }),
            Err(error) => Err(error),
        }
    }

    async fn residents(&self, units: Vec<Unit>, desk: &Arc<dyn Desk>) {
        let mut under_way = tokio::task::JoinSet::new();
        for unit in units {
            if under_way.len() >= AT_ONCE {
                under_way.join_next().await;
            }
            self.doubt(unit, desk).await;
            // Hosts and portals wait for volumes until they are given up; a lap is done once all were
            // tried.
            if matches!(unit, Unit::Host(_) | Unit::Portal(_)) {
                continue;
            }
            let ledger = Arc::clone(&self.shared.ledger);
            under_way.spawn(async move { ledger.attempted(unit).await });
        }
        under_way.join_all().await;
    }

    /// Takes exports and devices from volumes and snapshots that the intent does not have;
    /// their data stays. Answers with those that were left alone.
    ///
    /// A store that was just made knows no volume. That it removes what the kernel serves is
    /// far less likely meant than that it took the place of one that was lost.
    async fn remove_orphans(&self, orphans: BTreeSet<Uuid>) -> Result<Vec<String>, CallError> {
        let mut left = Vec::new();
        for id in orphans {
            if self.shared.promised == 0 {
                left.push(format!("{id} is in the kernel, but this store is new"));
                continue;
            }
            match self.shared.targetd.call(Request::Unexport { id }).await {
                Ok(_) => tracing::warn!(object = %id, "took out what nobody knows"),
                Err(CallError::Failed(failure)) => {
                    left.push(format!("{id}, which nobody knows, stays: {failure}"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(left)
    }
}

/// Hosts that were given new secrets, as far as that is remembered.
fn rotated(intent: &Intent) -> BTreeSet<Unit> {
    let units = intent
        .requests()
        .values()
        .filter_map(|request| request.unit);
    let hosts = units.filter(|unit| matches!(unit, Unit::Host(_)));
    hosts.collect()
}

/// What the kernel has.
#[derive(Default)]
struct Found {
    pools: Vec<Uuid>,
    /// Those with a device, and with them whatever has exports, snapshots too.
    volumes: Vec<Uuid>,
    /// Those with a device.
    snapshots: Vec<Uuid>,
    foreign: Vec<String>,
}

/// What one lap sees to.
struct Round {
    pools: Vec<Uuid>,
    unknown_pools: Vec<Uuid>,
    /// What lives in pools.
    residents: Vec<Unit>,
    orphans: BTreeSet<Uuid>,
}

impl Round {
    fn new(intent: &Intent, found: &Found) -> Round {
        let pools = found.pools.iter();
        let unknown_pools = pools.filter(|id| intent.pool(**id).is_none());
        let (known, mut orphans): (BTreeSet<_>, BTreeSet<_>) = found
            .volumes
            .iter()
            .partition(|id| intent.volume(**id).is_some());
        let volumes = &intent.volumes_in_kernel() | &known;
        orphans.extend(&found.snapshots);
        let (snapshots, orphans): (BTreeSet<_>, BTreeSet<_>) = orphans
            .into_iter()
            .partition(|id| intent.snapshot(*id).is_some());
        let snapshots = &intent.connected_snapshots() | &snapshots;
        // The others are made or destroyed, perhaps with more at the same instant.
        let present = snapshots.into_iter().filter(|id| {
            let record = intent.snapshot(*id);
            record.is_some_and(|record| record.phase == SnapshotPhase::Present)
        });
        Round {
            pools: intent.pools().keys().copied().collect(),
            unknown_pools: unknown_pools.copied().collect(),
            residents: volumes
                .into_iter()
                .map(Unit::Volume)
                .chain(present.map(Unit::Snapshot))
                .chain(intent.units_made_at_once())
                .chain(rotated(intent))
                .chain(intent.portals().keys().copied().map(Unit::Portal))
                .collect(),
            orphans,
        }
    }
}
