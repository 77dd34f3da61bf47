//! A pool that is taken over by what its disks carry, on the model kernel: with what volumes hold,
//! wherever power goes meanwhile, and from the box that had it.

use std::time::Duration;

use ashlar_tests::model::Model;
use ashlar_tests::runner::{Answer, Appliance};
use ashlar_tests::scenario::{Accident, Request};
use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

const MIB: usize = 1 << 20;
const SIZE: usize = 4 * MIB;
const POOL: Uuid = Uuid::from_u128(0xa0);
const VOLUME: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);
const SNAPSHOT: Uuid = Uuid::from_u128(3);
const HOST: Uuid = Uuid::from_u128(4);
const CONNECTION: Uuid = Uuid::from_u128(5);

struct World(Model);

impl World {
    /// A pool with a volume that holds something, a snapshot of it, and one that is connected.
    async fn new(pool: Value) -> World {
        let mut world = World(Model::boot().unwrap());
        world.put("pools", POOL, pool).await;
        let blank = json!({"name": "one", "pool": POOL.to_string(), "size": SIZE});
        world.put("volumes", VOLUME, blank.clone()).await;
        world.put("volumes", OTHER, blank).await;
        world.write(7).await;
        let taken = json!({"name": "before", "volume": VOLUME.to_string()});
        world.put("snapshots", SNAPSHOT, taken).await;
        world.write(8).await;
        let iqn = "iqn.2026-11.org.example:alpha";
        world
            .put("hosts", HOST, json!({"name": "alpha", "iqn": iqn}))
            .await;
        let connected = json!({
            "volume": OTHER.to_string(), "host": HOST.to_string(), "transport": "iscsi"
        });
        world.put("connections", CONNECTION, connected).await;
        world
    }

    async fn ask(&mut self, method: &str, path: String, body: Option<Value>) -> Answer {
        let request = Request::new(method, path, body);
        self.0.exchange("admin", &request).await.unwrap()
    }

    async fn put(&mut self, kind: &str, id: Uuid, body: Value) {
        let path = format!("/v1/{kind}/{id}");
        let answer = self.ask("PUT", path, Some(body)).await;
        assert_eq!(answer.status, 201, "{kind}: {:?}", answer.body);
    }

    async fn write(&self, byte: u8) {
        let path = format!("/v1/volumes/{VOLUME}/data");
        let body = Bytes::from(vec![byte; SIZE]);
        let request = Request::new("PUT", path, None);
        let wire = self.0.wire("operator");
        let reply = wire.send(&request, "application/octet-stream", body).await;
        assert_eq!(reply.unwrap().status, 200);
    }

    async fn holds(&self, what: &str, byte: u8) {
        let path = format!("/v1/{what}/data?format=raw");
        let request = Request::new("GET", path, None);
        let reply = self.0.wire("operator").send(&request, "", Bytes::new());
        let reply = reply.await.unwrap();
        assert_eq!(reply.status, 200, "{what}");
        assert!(reply.body.iter().all(|is| *is == byte), "{what}");
        assert_eq!(reply.body.len(), SIZE);
    }

    async fn import(&mut self) -> Answer {
        let path = format!("/v1/pools/{POOL}/import");
        self.ask("POST", path, Some(json!({"force": true}))).await
    }

    async fn pool(&mut self) -> Answer {
        self.ask("GET", format!("/v1/pools/{POOL}"), None).await
    }

    /// All of it is here, and more can be made.
    async fn is_whole(&mut self) {
        let pool = self.pool().await;
        assert_eq!(pool.body["state"], "online", "{:?}", pool.body);
        assert_eq!(pool.body["volumes"], 2, "{:?}", pool.body);
        self.holds(&format!("volumes/{VOLUME}"), 8).await;
        self.holds(&format!("snapshots/{SNAPSHOT}"), 7).await;
        let path = format!("/v1/connections/{CONNECTION}");
        let connection = self.ask("GET", path, None).await;
        assert_eq!(connection.status, 200, "{:?}", connection.body);
        // Under an id that nothing in the pool has.
        let next = Uuid::from_u128(0x77);
        let taken = json!({"name": "next", "volume": OTHER.to_string()});
        self.put("snapshots", next, taken).await;
        self.holds(&format!("snapshots/{next}"), 0).await;
        let gone = self.ask("DELETE", format!("/v1/snapshots/{next}"), None);
        assert_eq!(gone.await.status, 204);
    }

    async fn has(&mut self, accident: Accident) {
        self.0.accident(accident).await.unwrap();
    }
}

fn plain() -> Value {
    json!({"name": "first", "disks": ["serial-DISK0", "serial-DISK1"]})
}

fn mirrored() -> Value {
    json!({"name": "first", "disks": ["serial-DISK0", "serial-DISK1"], "redundancy": "raid1"})
}

#[tokio::test]
async fn a_pool_comes_whole_or_not_at_all_wherever_power_goes() {
    let mut world = World::new(plain()).await;
    let mut cut = 0;
    for step in [0, 1, 2, 3, 5, 7, 9, 12, 1000] {
        world.has(Accident::LoseStore).await;
        world.0.kernel.stop_after(step);
        // Who asked does not wait for a kernel that is gone.
        let asked = tokio::time::timeout(Duration::from_secs(3), world.import());
        let answer = asked.await;
        let stopped = world.0.kernel.stopped();
        world.0.kernel.revive();
        if stopped {
            cut += 1;
            world.has(Accident::PowerCut).await;
        } else {
            let answer = answer.expect("the kernel answers");
            assert_eq!(answer.status, 200, "{step}: {:?}", answer.body);
        }
        match world.pool().await.status {
            // Its disks are as they were.
            404 => {
                let again = world.import().await;
                assert_eq!(again.status, 200, "{step}: {:?}", again.body);
            }
            _ => world.settles().await,
        }
        world.is_whole().await;
        if !stopped {
            break;
        }
    }
    assert!(cut > 6, "{cut} cuts");
}

impl World {
    /// The start goes on with what was under way.
    async fn settles(&mut self) {
        for _ in 0..200 {
            if self.pool().await.body["state"] == "online" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{:?}", self.pool().await.body);
    }
}

#[tokio::test]
async fn the_box_that_had_a_pool_leaves_it_to_the_one_that_took_it() {
    for pool in [plain(), mirrored()] {
        let mut world = World::new(pool).await;
        let before = world.0.back_up().unwrap();
        world.has(Accident::LoseStore).await;
        let answer = world.import().await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        world.is_whole().await;
        let after = world.0.back_up().unwrap();
        // The disks are in the first box again.
        world.0.put_back(before.path()).unwrap();
        assert_eq!(world.pool().await.body["state"], "offline");
        let health = world.ask("GET", "/v1/system/health".to_owned(), None).await;
        let text = health.body.to_string();
        assert!(text.contains("was taken over by box"), "{text}");
        let path = format!("/v1/volumes/{VOLUME}");
        let deleted = world.ask("DELETE", path, None).await;
        assert_ne!(deleted.status, 204, "{:?}", deleted.body);
        // And in the second one.
        world.0.put_back(after.path()).unwrap();
        world.settles().await;
        world.is_whole().await;
    }
}

#[tokio::test]
async fn a_mirror_is_taken_over_by_one_of_its_disks() {
    let mut world = World::new(mirrored()).await;
    world.has(Accident::LoseStore).await;
    let disk = world
        .0
        .kernel
        .pull_disk(&"serial-DISK1".parse().unwrap())
        .unwrap();
    world.has(Accident::PowerCut).await;
    let answer = world.import().await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    world.is_whole().await;
    // The other one still tells of the box before, and is believed in nothing.
    world.0.kernel.plug_disk(disk);
    world.has(Accident::PowerCut).await;
    world.settles().await;
    world.is_whole().await;
}
