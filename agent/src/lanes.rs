//! The lanes in which this process does background work, one for each pool.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ashlar_targetd_protocol::{Counted, Request, Response};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::data::{Lane, Turn};
use crate::targetd::Targetd;

/// All lanes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lanes {
    targetd: Targetd,
    lanes: Arc<Mutex<BTreeMap<Key, Arc<Lane>>>>,
}

/// Whose disks a lane is at, and for what.
type Key = (Uuid, Use);

/// What a lane is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    /// Whatever reads and writes.
    Data,
    /// What gives room back: in a full pool, writes wait for that.
    Room,
}

impl Lanes {
    /// None is used yet.
    pub fn new(targetd: Targetd) -> Lanes {
        Lanes {
            targetd,
            lanes: Arc::default(),
        }
    }

    /// A turn in a pool's lane, for work that moves so many bytes a second at most and is not
    /// wanted any more once `stop` is cancelled. To be used where a thread may block.
    pub fn turn(&self, pool: Uuid, bandwidth: Option<u64>, stop: CancellationToken) -> Turn {
        self.turn_of((pool, Use::Data), bandwidth, stop)
    }

    /// Likewise for work that only gives room back, which waits for nobody who needs that.
    pub fn turn_for_room(
        &self,
        pool: Uuid,
        bandwidth: Option<u64>,
        stop: CancellationToken,
    ) -> Turn {
        self.turn_of((pool, Use::Room), bandwidth, stop)
    }

    fn turn_of(&self, lane: (Uuid, Use), bandwidth: Option<u64>, stop: CancellationToken) -> Turn {
        let pool = lane.0;
        let lane = {
            let mut lanes = self.lanes.lock().expect("no holder of this lock panics");
            // Of those nobody is in, nothing is remembered.
            lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
            Arc::clone(lanes.entry(lane).or_default())
        };
        let targetd = self.targetd.clone();
        Turn::new(lane, bandwidth, stop, move || {
            let targetd = targetd.clone();
            Box::pin(async move { hosts(&targetd, pool).await })
        })
    }
}

/// What the process that reads images has asked for is over so soon, since it waits for ours to
/// take what it says.
const SOON: Duration = Duration::from_millis(5);

/// Whether hosts are at the disks of a pool: something is under way, and a little later again.
async fn hosts(targetd: &Targetd, pool: Uuid) -> bool {
    if !under_way(targetd, pool).await {
        return false;
    }
    sleep(SOON).await;
    under_way(targetd, pool).await
}

/// Whether anything is under way at the disks of a pool. Where that cannot be told nobody is
/// made to wait for it.
async fn under_way(targetd: &Targetd, pool: Uuid) -> bool {
    let counters = Request::ReadCounters(Counted::PoolData(pool));
    match targetd.call(counters).await {
        Ok(Response::Counters(Some(counters))) => {
            counters.reads_in_flight + counters.writes_in_flight > 0
        }
        _ => false,
    }
}
