//! A pool that hosts fill, from the kernel's event to the one that a client reads, on the model
//! kernel: nothing between them asks again and again.

use ashlar_kernel_iface::dm::DmName;
use ashlar_kernel_iface::model::ModelKernel;
use ashlar_targetd_protocol::ThinId;
use ashlar_tests::model::Model;
use ashlar_tests::runner::{Answer, Appliance};
use ashlar_tests::scenario::{Accident, Request};
use serde_json::{Value, json};
use uuid::Uuid;

const POOL: Uuid = Uuid::from_u128(0xa0);
const VOLUME: Uuid = Uuid::from_u128(1);
const BLOCK: u64 = 64 << 10;

struct World {
    model: Model,
    /// Of the pool.
    blocks: u64,
    /// The last event that was read.
    last: u64,
}

impl World {
    /// A pool with a volume of most of it.
    async fn new() -> World {
        let mut world = World {
            model: Model::boot().unwrap(),
            blocks: 0,
            last: 0,
        };
        let pool = json!({"name": "tank", "disks": ["serial-DISK0"]});
        let pool = world.put("pools", POOL, pool).await;
        let capacity = pool["capacity"].as_u64().unwrap();
        world.blocks = capacity / BLOCK;
        let volume = json!({"name": "one", "pool": POOL.to_string(), "size": capacity});
        world.put("volumes", VOLUME, volume).await;
        world
    }

    async fn ask(&mut self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let request = Request::new(method, path, body);
        self.model.exchange("admin", &request).await.unwrap()
    }

    async fn put(&mut self, kind: &str, id: Uuid, body: Value) -> Value {
        let answer = self
            .ask("PUT", &format!("/v1/{kind}/{id}"), Some(body))
            .await;
        assert_eq!(answer.status, 201, "{kind}: {:?}", answer.body);
        answer.body
    }

    /// So many percent of the pool are written and a little more: until its size is known, the
    /// kernel's mark is an estimate.
    fn fill(&self, percent: u64) {
        let kernel: &ModelKernel = &self.model.kernel;
        let pool: DmName = format!("ashlar-pool-{POOL}-thin").parse().unwrap();
        let blocks = self.blocks * percent / 100 + self.blocks / 200;
        let thin = ThinId::try_from(0).unwrap();
        kernel.write_thin(&pool, thin, blocks).unwrap();
    }

    /// What is told of the pool next, beside its being made; nothing when nothing comes.
    async fn told(&mut self, wait: u64) -> Option<String> {
        loop {
            let path = format!("/v1/events?after={}&limit=1&wait={wait}", self.last);
            let page = self.ask("GET", &path, None).await.body;
            let event = page["items"].get(0)?.clone();
            self.last = event["id"].as_u64().unwrap();
            let kind = event["kind"].as_str().unwrap();
            if kind.starts_with("pool.") && kind != "pool.created" {
                return Some(format!("{kind}: {}", event["detail"].as_str().unwrap()));
            }
        }
    }

    async fn level(&mut self) -> String {
        let pool = self.ask("GET", &format!("/v1/pools/{POOL}"), None).await;
        pool.body["level"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_pool_that_hosts_fill_is_told_level_by_level() {
    let mut world = World::new().await;
    for (percent, told) in [
        (75, "pool.level-warn: tank: data 75 %, metadata 0 %"),
        (90, "pool.level-critical: tank: data 90 %, metadata 0 %"),
        (97, "pool.level-stop: tank: data 97 %, metadata 0 %"),
    ] {
        world.fill(percent);
        assert_eq!(world.told(30).await.as_deref(), Some(told));
    }
    let refused = json!({"name": "two", "pool": POOL.to_string(), "size": 1 << 20});
    let path = format!("/v1/volumes/{}", Uuid::from_u128(2));
    let answer = world.ask("PUT", &path, Some(refused)).await;
    assert_eq!(answer.status, 507, "{:?}", answer.body);
    // What is known is not told again, whoever starts anew.
    for accident in [
        Accident::KillTargetd,
        Accident::KillAgent,
        Accident::PowerCut,
    ] {
        world.model.accident(accident).await.unwrap();
        assert_eq!(world.level().await, "stop");
    }
    assert_eq!(world.told(0).await, None);
    // Hosts go on, until it is full.
    world.fill(99);
    let path = format!("/v1/volumes/{VOLUME}");
    assert_eq!(world.ask("DELETE", &path, None).await.status, 204);
    let told = world.told(30).await.unwrap();
    assert!(told.starts_with("pool.level-ok: tank: data 0 %"), "{told}");
}
