//! What is in a pool and in no record: a store older than the pool was put in its place. It is
//! never shown, never given to anyone, and never destroyed, on the model kernel.

use ashlar_kernel_iface::tree::Errno;
use ashlar_tests::model::Model;
use ashlar_tests::runner::{Answer, Appliance};
use ashlar_tests::scenario::Request;
use ashlar_tests::wire::RawReply;
use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

const MIB: usize = 1 << 20;
const RAW: &str = "application/octet-stream";

const POOL: Uuid = Uuid::from_u128(0xa0);
/// In the store that is put back.
const KEPT: [Uuid; 2] = [Uuid::from_u128(1), Uuid::from_u128(2)];
/// In the pool alone.
const LOST: [Uuid; 3] = [Uuid::from_u128(3), Uuid::from_u128(4), Uuid::from_u128(5)];
const GROUP: Uuid = Uuid::from_u128(0x90);

struct World(Model);

impl World {
    /// Two volumes full of ones, which the store knows; volumes full of twos, on the thin ids
    /// that the store would give next, which it does not know.
    async fn new() -> World {
        let mut world = World(Model::boot().unwrap());
        world
            .made(
                "pools",
                POOL,
                json!({"name": "pool", "disks": ["serial-DISK0"]}),
            )
            .await;
        for id in KEPT {
            world.volume(id).await;
            world.fill(id, 1).await;
        }
        let group = json!({"name": "group", "volumes": KEPT.map(|id| id.to_string())});
        world.made("groups", GROUP, group).await;
        let copy = world.0.back_up().unwrap();
        for id in LOST {
            world.volume(id).await;
            world.fill(id, 2).await;
        }
        world.0.put_back(copy.path()).unwrap();
        assert_eq!(world.strangers().await, [2, 3, 4]);
        world
    }

    async fn ask(&mut self, method: &str, path: String, body: Option<Value>) -> Answer {
        let request = Request::new(method, path, body);
        self.0.exchange("admin", &request).await.unwrap()
    }

    async fn put(&mut self, kind: &str, id: Uuid, body: Value) -> Answer {
        self.ask("PUT", format!("/v1/{kind}/{id}"), Some(body))
            .await
    }

    async fn made(&mut self, kind: &str, id: Uuid, body: Value) {
        let answer = self.put(kind, id, body).await;
        assert_eq!(answer.status, 201, "{kind}: {:?}", answer.body);
    }

    async fn gone(&mut self, kind: &str, id: Uuid) {
        let answer = self.ask("DELETE", format!("/v1/{kind}/{id}"), None).await;
        assert_eq!(answer.status, 204, "{kind}: {:?}", answer.body);
    }

    async fn volume(&mut self, id: Uuid) {
        let volume = json!({"name": "volume", "pool": POOL.to_string(), "size": MIB});
        self.made("volumes", id, volume).await;
    }

    async fn send(&self, method: &str, path: String, body: Bytes) -> RawReply {
        let request = Request::new(method, path, None);
        let wire = self.0.wire("operator");
        wire.send(&request, RAW, body).await.unwrap()
    }

    async fn fill(&self, volume: Uuid, with: u8) {
        let path = format!("/v1/volumes/{volume}/data?offset=0");
        let reply = self.send("PUT", path, vec![with; MIB].into()).await;
        assert!(reply.status < 300, "{}", reply.status);
    }

    /// The one byte that something is full of.
    async fn content(&self, kind: &str, id: Uuid) -> u8 {
        let path = format!("/v1/{kind}/{id}/data?format=raw");
        let reply = self.send("GET", path, Bytes::new()).await;
        assert_eq!((reply.status, reply.body.len()), (200, MIB));
        let first = reply.body[0];
        assert!(reply.body.iter().all(|byte| *byte == first));
        first
    }

    /// Thin devices that hold something and are nobody's.
    async fn strangers(&mut self) -> Vec<u64> {
        let path = format!("/v1/pools/{POOL}/thin-devices");
        let listed = self.ask("GET", path, None).await.body;
        let devices = listed["items"].as_array().unwrap().iter();
        let nobodys = devices.filter(|device| {
            let owned = device.get("volume").or(device.get("snapshot")).is_some();
            !owned && device["used"] == json!(MIB)
        });
        nobodys
            .map(|device| device["thin_id"].as_u64().unwrap())
            .collect()
    }
}

fn group_snapshot(first: u128) -> Value {
    let pairs = KEPT.iter().zip(first..).map(|(volume, id)| {
        let snapshot = Uuid::from_u128(id);
        json!({"volume": volume.to_string(), "snapshot": snapshot.to_string()})
    });
    json!({
        "name": "whole", "group": GROUP.to_string(), "snapshots": pairs.collect::<Vec<_>>(),
    })
}

fn group_of_copies(first: u128) -> Value {
    let pairs = KEPT.iter().zip(first..).map(|(source, id)| {
        let volume = Uuid::from_u128(id);
        json!({"source": source.to_string(), "volume": volume.to_string()})
    });
    json!({
        "name": "copies",
        "source": {"group": GROUP.to_string(), "volumes": pairs.collect::<Vec<_>>()},
    })
}

#[tokio::test]
async fn nothing_new_is_made_on_what_the_pool_has_and_the_store_does_not() {
    let mut world = World::new().await;
    let [volume, snapshot, clone, whole, copies] = [11, 12, 13, 14, 15].map(Uuid::from_u128);
    world.volume(volume).await;
    assert_eq!(world.content("volumes", volume).await, 0);

    let of = json!({"name": "snapshot", "volume": KEPT[0].to_string()});
    world.made("snapshots", snapshot, of).await;
    assert_eq!(world.content("snapshots", snapshot).await, 1);
    let of = json!({
        "name": "clone", "pool": POOL.to_string(), "source": {"snapshot": snapshot.to_string()},
    });
    world.made("volumes", clone, of).await;
    assert_eq!(world.content("volumes", clone).await, 1);

    world
        .made("group-snapshots", whole, group_snapshot(21))
        .await;
    world.made("groups", copies, group_of_copies(31)).await;
    for n in [21, 22] {
        assert_eq!(world.content("snapshots", Uuid::from_u128(n)).await, 1);
    }
    for n in [31, 32] {
        assert_eq!(world.content("volumes", Uuid::from_u128(n)).await, 1);
    }
    assert_eq!(world.strangers().await, [2, 3, 4]);

    world.gone("group-snapshots", whole).await;
    for n in [11, 13, 31, 32] {
        world.gone("volumes", Uuid::from_u128(n)).await;
    }
    world.gone("snapshots", snapshot).await;
    assert_eq!(world.strangers().await, [2, 3, 4]);
}

#[tokio::test]
async fn what_cannot_be_made_takes_nothing_of_theirs_along() {
    let mut world = World::new().await;
    let of = json!({"name": "snapshot", "volume": KEPT[0].to_string()});
    // The second member, where there are several.
    for (kind, body, refused) in [
        ("snapshots", of, "create_snap 5"),
        ("group-snapshots", group_snapshot(21), "create_snap 7"),
        ("groups", group_of_copies(31), "create_snap 9"),
    ] {
        world.0.kernel.fail_matching(refused, Errno::ENOSPC);
        let answer = world.put(kind, Uuid::from_u128(14), body).await;
        assert!(answer.status >= 400, "{kind}: {:?}", answer.body);
        assert_eq!(world.strangers().await, [2, 3, 4], "{kind}");
    }
}
