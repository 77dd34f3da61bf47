//! What a volume holds after it was brought to another pool, on the model kernel.

use std::time::Duration;

use ashlar_tests::model::Model;
use ashlar_tests::runner::{Answer, Appliance};
use ashlar_tests::scenario::{Accident, Request};
use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

const MIB: usize = 1 << 20;
const SIZE: usize = 8 * MIB;
const FIRST: Uuid = Uuid::from_u128(0xa0);
const SECOND: Uuid = Uuid::from_u128(0xa1);
const VOLUME: Uuid = Uuid::from_u128(1);
const HOST: Uuid = Uuid::from_u128(4);
const CONNECTION: Uuid = Uuid::from_u128(5);

struct World(Model);

impl World {
    /// A volume of 8 MiB in the first of two pools, with something here and there.
    async fn new() -> (World, Vec<u8>) {
        let mut world = World(Model::boot().unwrap());
        for (id, disk) in [(FIRST, "serial-DISK0"), (SECOND, "serial-DISK1")] {
            world
                .put("pools", id, json!({"name": disk, "disks": [disk]}))
                .await;
        }
        let volume = json!({"name": "one", "pool": FIRST.to_string(), "size": SIZE});
        world.put("volumes", VOLUME, volume).await;
        let nqn = "nqn.2014-08.org.nvmexpress:uuid:8d5e0c3a-0000-4000-8000-000000000001";
        world
            .put("hosts", HOST, json!({"name": "host", "nqn": nqn}))
            .await;
        let mut content = vec![0; SIZE];
        for (n, begin, end) in [(1, 0, 8192), (2, MIB + 4096, 2 * MIB), (3, 7 * MIB, SIZE)] {
            content[begin..end].fill(n);
        }
        world.import(&content).await;
        (world, content)
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

    async fn import(&self, content: &[u8]) {
        let path = format!("/v1/volumes/{VOLUME}/data");
        let body = Bytes::copy_from_slice(content);
        let wire = self.0.wire("operator");
        let request = Request::new("PUT", path, None);
        let reply = wire.send(&request, "application/octet-stream", body).await;
        assert_eq!(reply.unwrap().status, 200);
    }

    async fn content(&self) -> Vec<u8> {
        let path = format!("/v1/volumes/{VOLUME}/data?format=raw");
        let wire = self.0.wire("operator");
        let reply = wire
            .send(&Request::new("GET", path, None), "", Bytes::new())
            .await;
        let reply = reply.unwrap();
        assert_eq!(reply.status, 200);
        reply.body.to_vec()
    }

    async fn moved(&mut self, pool: Uuid, more: &Value) -> Answer {
        let mut body = json!({"pool": pool.to_string()});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.ask("POST", format!("/v1/volumes/{VOLUME}/move"), Some(body))
            .await
    }

    /// Begins a move that takes seconds, as a client that goes away while it runs. Answers its job.
    async fn begin_move(&self) -> Uuid {
        let job = Uuid::from_u128(0x70b);
        let mut slow = Request::new(
            "POST",
            format!("/v1/volumes/{VOLUME}/move"),
            Some(json!({"pool": SECOND.to_string(), "bandwidth": 1 << 20})),
        );
        slow.request_id = Some(job);
        let look = Request::new("GET", format!("/v1/jobs/{job}"), None);
        let running = async {
            loop {
                let told = self.0.wire("operator").exchange(&look).await.unwrap();
                if told.body["state"] == "running" {
                    return;
                }
            }
        };
        tokio::select! {
            answer = self.0.wire("admin").exchange(&slow) => panic!("it takes seconds: {answer:?}"),
            () = running => job,
        }
    }

    async fn attach(&mut self) {
        let body = json!({
            "volume": VOLUME.to_string(), "host": HOST.to_string(), "transport": "nvme-tcp"
        });
        self.put("connections", CONNECTION, body).await;
    }

    async fn detach(&mut self) {
        let path = format!("/v1/connections/{CONNECTION}");
        assert_eq!(self.ask("DELETE", path, None).await.status, 204);
    }

    /// Thin devices that a pool has.
    async fn thins(&mut self, pool: Uuid) -> usize {
        let path = format!("/v1/pools/{pool}/thin-devices");
        let answer = self.ask("GET", path, None).await;
        answer.body["items"].as_array().unwrap().len()
    }
}

#[tokio::test]
async fn a_moved_volume_holds_what_it_held() {
    let (mut world, mut content) = World::new().await;
    let used = |answer: Answer| answer.body["used"].as_u64().unwrap();
    let usage = format!("/v1/volumes/{VOLUME}/usage");
    for (to, from, attached) in [(SECOND, FIRST, false), (FIRST, SECOND, true)] {
        let before = used(world.ask("GET", usage.clone(), None).await);
        if attached {
            world.attach().await;
        }
        let answer = world.moved(to, &json!({})).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        if attached {
            world.detach().await;
        }
        assert_eq!((world.thins(from).await, world.thins(to).await), (0, 1));
        assert!(world.content().await == content, "to {to}");
        // What was not mapped takes no room there either.
        let after = used(world.ask("GET", usage.clone(), None).await);
        assert_eq!(after, before);
        content[5 * MIB..5 * MIB + 4096].fill(9);
        world.import(&content).await;
        assert!(world.content().await == content);
    }
    world.0.accident(Accident::PowerCut).await.unwrap();
    assert!(world.content().await == content);
}

#[tokio::test]
async fn a_move_cut_short_leaves_everything_where_it_was() {
    for accident in [Accident::KillAgent, Accident::PowerCut] {
        let (mut world, content) = World::new().await;
        world.attach().await;
        let job = world.begin_move().await;
        world.0.accident(accident).await.unwrap();
        let told = world.ask("GET", format!("/v1/jobs/{job}"), None).await;
        assert_eq!(told.body["state"], "failed");
        world.detach().await;
        assert!(world.content().await == content, "{accident:?}");
        assert_eq!(
            (world.thins(FIRST).await, world.thins(SECOND).await),
            (1, 0)
        );
    }
}

#[tokio::test]
async fn a_cancelled_move_leaves_everything_where_it_was() {
    let (mut world, content) = World::new().await;
    let job = world.begin_move().await;
    let path = format!("/v1/jobs/{job}");
    // How much there is to copy is known once the copy has begun.
    let total = async {
        loop {
            let told = world.ask("GET", path.clone(), None).await.body;
            if let Some(total) = told["progress"]["total"].as_u64() {
                break total;
            }
        }
    };
    let total = tokio::time::timeout(Duration::from_secs(60), total).await;
    assert!(total.unwrap() > 0);
    assert_eq!(world.ask("DELETE", path.clone(), None).await.status, 204);
    let told = world.ask("GET", path, None).await.body;
    assert_eq!(told["state"], "cancelled");
    assert!(world.content().await == content);
    assert_eq!(
        (world.thins(FIRST).await, world.thins(SECOND).await),
        (1, 0)
    );
}
