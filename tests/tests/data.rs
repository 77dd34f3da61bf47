//! What volumes hold, in and out of an appliance on the model kernel.

use std::time::{Duration, Instant};

use ashlar_codec::Limits;
use ashlar_extents::Encoder;
use ashlar_protocol::{JobResult, Problem, ProblemCode};
use ashlar_tests::contract;
use ashlar_tests::model::Model;
use ashlar_tests::runner::{Answer, Appliance};
use ashlar_tests::scenario::Request;
use ashlar_tests::wire::RawReply;
use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

const MIB: usize = 1 << 20;
const RAW: &str = "application/octet-stream";
const EXTENTS: &str = "application/vnd.ashlar.extents";
const LIMITS: Limits = Limits {
    bytes: 64 << 10,
    depth: 8,
};

const POOL: Uuid = Uuid::from_u128(0xa0);
const ONE: Uuid = Uuid::from_u128(1);
const TWO: Uuid = Uuid::from_u128(2);
const SNAPSHOT: Uuid = Uuid::from_u128(3);
const HOST: Uuid = Uuid::from_u128(4);
const CONNECTION: Uuid = Uuid::from_u128(5);
const ADOPTED: Uuid = Uuid::from_u128(6);

struct World(Model);

impl World {
    /// Two volumes of 8 MiB.
    async fn new() -> World {
        let mut world = World(Model::boot().unwrap());
        let pool = json!({"name": "pool", "disks": ["serial-DISK0"]});
        world.made("pools", POOL, pool).await;
        for (id, name) in [(ONE, "one"), (TWO, "two")] {
            let volume = json!({"name": name, "pool": POOL.to_string(), "size": 8 * MIB});
            world.made("volumes", id, volume).await;
        }
        world
    }

    async fn ask(&mut self, method: &str, path: String, body: Option<Value>) -> Answer {
        let request = Request::new(method, path, body);
        self.0.exchange("admin", &request).await.unwrap()
    }

    async fn made(&mut self, kind: &str, id: Uuid, body: Value) {
        let answer = self
            .ask("PUT", format!("/v1/{kind}/{id}"), Some(body))
            .await;
        assert_eq!(answer.status, 201, "{kind}: {:?}", answer.body);
    }

    async fn put(&self, path: String, media_type: &str, body: &[u8]) -> RawReply {
        let request = Request::new("PUT", path, None);
        let body = Bytes::copy_from_slice(body);
        let wire = self.0.wire("operator");
        wire.send(&request, media_type, body).await.unwrap()
    }

    async fn import(&self, volume: Uuid, media_type: &str, body: &[u8]) -> RawReply {
        let path = format!("/v1/volumes/{volume}/data");
        self.put(path, media_type, body).await
    }

    async fn export(&self, path: String) -> RawReply {
        let request = Request::new("GET", path, None);
        let wire = self.0.wire("operator");
        wire.send(&request, "", Bytes::new()).await.unwrap()
    }

    async fn content(&self, object: &str) -> Vec<u8> {
        let reply = self.export(format!("/v1/{object}/data?format=raw")).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.media_type.as_deref(), Some(RAW));
        reply.body.to_vec()
    }
}

#[track_caller]
fn done(reply: &RawReply) -> JobResult {
    let path = format!("/v1/volumes/{ONE}/data");
    let job: Result<JobResult, _> = ashlar_codec::from_slice(&reply.body, &LIMITS);
    let job = job.unwrap_or_else(|_| panic!("{:?}", problem(reply)));
    contract::check("PUT", &path, &[], reply.status, &reply.body).unwrap();
    job
}

#[track_caller]
fn problem(reply: &RawReply) -> Problem {
    let problem: Problem = ashlar_codec::from_slice(&reply.body, &LIMITS).unwrap();
    assert_eq!(reply.status, problem.code.status());
    problem
}

/// 8 MiB with something here and there, and as extents.
fn sample() -> (Vec<u8>, Vec<u8>) {
    let mut content = vec![0; 8 * MIB];
    let (mut encoder, mut extents) = (Encoder::new(), Vec::new());
    for (n, begin, end) in [
        (1, 0, 8192),
        (2, MIB + 4096, 2 * MIB),
        (3, 7 * MIB, 8 * MIB),
    ] {
        let data = &mut content[begin..end];
        data.fill(n);
        extents.extend(encoder.data(begin as u64, data));
        extents.extend_from_slice(data);
        if n == 2 {
            extents.extend(encoder.zero(2 * MIB as u64, MIB as u64));
            extents.extend(encoder.hole(3 * MIB as u64, MIB as u64));
        }
    }
    extents.extend(encoder.end(8 * MIB as u64).bytes);
    (content, extents)
}

#[tokio::test]
async fn what_is_imported_is_exported_again() {
    let mut world = World::new().await;
    let (content, extents) = sample();
    let result = done(&world.import(ONE, EXTENTS, &extents).await);
    assert_eq!(result.zeroed, Some(2 * MIB as u64));
    assert_eq!(world.content(&format!("volumes/{ONE}")).await, content);

    // As extents, which say no more than there is, into another.
    let reply = world.export(format!("/v1/volumes/{ONE}/data")).await;
    assert_eq!(reply.media_type.as_deref(), Some(EXTENTS));
    assert!(reply.body.len() < 3 * MIB, "{}", reply.body.len());
    done(&world.import(TWO, EXTENTS, &reply.body).await);
    assert_eq!(world.content(&format!("volumes/{TWO}")).await, content);

    // A snapshot keeps it, and what differs from it is all there is to tell.
    let snapshot = json!({"name": "snapshot", "volume": ONE.to_string()});
    world.made("snapshots", SNAPSHOT, snapshot).await;
    let path = format!("/v1/volumes/{ONE}/data?offset={}", 4 * MIB);
    done(&world.put(path, RAW, &[9; 4096]).await);
    assert_eq!(
        world.content(&format!("snapshots/{SNAPSHOT}")).await,
        content
    );
    let since = format!("/v1/volumes/{ONE}/data?since={SNAPSHOT}");
    let since = world.export(since).await;
    assert!(since.body.len() < MIB, "{}", since.body.len());
    done(&world.import(TWO, EXTENTS, &since.body).await);
    let mut changed = content;
    changed[4 * MIB..4 * MIB + 4096].fill(9);
    assert_eq!(world.content(&format!("volumes/{TWO}")).await, changed);

    // A part.
    let path = format!("/v1/volumes/{ONE}/data?format=raw&offset={MIB}&length=8192");
    assert_eq!(world.export(path).await.body, changed[MIB..MIB + 8192]);
    // Nothing is left in the way.
    let answer = world
        .ask("DELETE", format!("/v1/snapshots/{SNAPSHOT}"), None)
        .await;
    assert_eq!(answer.status, 204);
}

/// Its size is where its data ends, and its data what it was, whatever its id.
#[tokio::test]
async fn what_is_released_and_adopted_holds_what_it_held() {
    let mut world = World::new().await;
    let (content, extents) = sample();
    done(&world.import(ONE, EXTENTS, &extents).await);
    let release = format!("/v1/volumes/{ONE}/release");
    let released = world.ask("POST", release, Some(json!({}))).await;
    assert_eq!(released.status, 204);
    let adopt = json!({"name": "adopted", "pool": POOL.to_string(), "thin_id": 0});
    let path = format!("/v1/volumes/{ADOPTED}/adopt");
    let adopted = world.ask("POST", path, Some(adopt)).await;
    assert_eq!(adopted.status, 201, "{:?}", adopted.body);
    assert_eq!(world.content(&format!("volumes/{ADOPTED}")).await, content);
    assert_eq!(
        world.content(&format!("volumes/{TWO}")).await,
        vec![0; 8 * MIB]
    );
}

#[tokio::test]
async fn what_is_not_sound_or_does_not_fit_is_refused() {
    let world = World::new().await;
    let (_, extents) = sample();
    let mut changed = extents.clone();
    changed[100] ^= 1;
    let path = |query: &str| format!("/v1/volumes/{ONE}/data{query}");
    for (query, media_type, body, code, words) in [
        (
            "",
            EXTENTS,
            &changed[..],
            ProblemCode::MalformedRequest,
            "checksum",
        ),
        (
            "",
            EXTENTS,
            &extents[..5000],
            ProblemCode::MalformedRequest,
            "before its end",
        ),
        (
            "?offset=4096",
            RAW,
            &[1; 8 * MIB],
            ProblemCode::OutOfRange,
            "past",
        ),
        (
            "?offset=512",
            RAW,
            &[1; 512],
            ProblemCode::OutOfRange,
            "multiple",
        ),
        (
            "?offset=4096",
            EXTENTS,
            &extents,
            ProblemCode::InvalidField,
            "offset",
        ),
        (
            "?since=1",
            RAW,
            &[1; 512],
            ProblemCode::InvalidField,
            "since",
        ),
        (
            "",
            "application/cbor",
            &[0xa0],
            ProblemCode::UnsupportedMediaType,
            EXTENTS,
        ),
    ] {
        let refused = problem(&world.put(path(query), media_type, body).await);
        assert_eq!(refused.code, code, "{query} {media_type}: {refused}");
        assert!(refused.detail.contains(words), "{refused}");
    }
    for (query, code) in [
        ("?format=iso", ProblemCode::InvalidField),
        (
            "?format=raw&since=6ba7b810-9dad-41d1-80b4-00c04fd430c8",
            ProblemCode::InvalidField,
        ),
        (
            "?since=6ba7b810-9dad-41d1-80b4-00c04fd430c8",
            ProblemCode::NotFound,
        ),
        ("?length=512", ProblemCode::OutOfRange),
        ("?offset=8392704", ProblemCode::OutOfRange),
    ] {
        assert_eq!(
            problem(&world.export(path(query)).await).code,
            code,
            "{query}"
        );
    }
    // A volume whose transfer failed is free again.
    done(&world.import(ONE, EXTENTS, &extents).await);
}

#[tokio::test]
async fn a_transfer_keeps_to_its_bandwidth_and_moves_the_same() {
    let world = World::new().await;
    let content = vec![7; 4 * MIB];
    let path = format!("/v1/volumes/{ONE}/data");
    // The first MiB goes at once, each other one in half a second.
    let (query, least) = (
        format!("bandwidth={}", 2 * MIB),
        Duration::from_millis(1400),
    );
    let begin = Instant::now();
    done(&world.put(format!("{path}?{query}"), RAW, &content).await);
    assert!(begin.elapsed() >= least, "{:?}", begin.elapsed());
    let begin = Instant::now();
    let part = format!("{path}?format=raw&length={}&{query}", content.len());
    let reply = world.export(part).await;
    assert!(begin.elapsed() >= least, "{:?}", begin.elapsed());
    assert!(reply.body[..] == content);
    let slow = world.export(format!("{path}?bandwidth=1000")).await;
    assert_eq!(problem(&slow).code, ProblemCode::OutOfRange);
}

#[tokio::test]
async fn what_a_host_reaches_is_neither_written_nor_read() {
    let mut world = World::new().await;
    let host = json!({"name": "host", "iqn": "iqn.2026-01.com.example:host"});
    world.made("hosts", HOST, host).await;
    let connection = json!({
        "volume": ONE.to_string(), "host": HOST.to_string(), "transport": "iscsi",
    });
    world.made("connections", CONNECTION, connection).await;
    let (_, extents) = sample();
    let refused = problem(&world.import(ONE, EXTENTS, &extents).await);
    assert_eq!(refused.code, ProblemCode::InUse);
    let refused = problem(&world.export(format!("/v1/volumes/{ONE}/data")).await);
    assert_eq!(refused.code, ProblemCode::InUse);
}
