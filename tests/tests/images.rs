//! Images of disks, in and out of an appliance on the model kernel.

use std::path::Path;
use std::time::{Duration, Instant};

use ashlar_codec::Limits;
use ashlar_ctl::client::ImageFormat;
use ashlar_ctl::transfer::{
    Export, Form, Source, Target, TransferError, export, export_image, import_image, unwatched,
};
use ashlar_protocol::{JobResult, JobState, ObjectKind, ObjectRef, Problem, ProblemCode};
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
const IMAGE: &str = "application/vnd.ashlar.image";
const LIMITS: Limits = Limits {
    bytes: 64 << 10,
    depth: 8,
};

/// For so long nobody is silent.
const SILENT: Duration = Duration::from_millis(500);

const POOL: Uuid = Uuid::from_u128(0xa0);
/// Of 8 MiB.
const ONE: Uuid = Uuid::from_u128(1);
/// Of 12 MiB.
const TWO: Uuid = Uuid::from_u128(2);
/// Of 4 MiB.
const SMALL: Uuid = Uuid::from_u128(3);

struct World(Model);

impl World {
    async fn new() -> World {
        let model = Model::boot().unwrap();
        model
            .convert_with(Path::new(env!("CARGO_BIN_EXE_convert")))
            .unwrap();
        let mut world = World(model);
        let pool = json!({"name": "pool", "disks": ["serial-DISK0"]});
        world.made("pools", POOL, pool).await;
        for (id, size) in [(ONE, 8), (TWO, 12), (SMALL, 4)] {
            let volume = json!({"name": "v", "pool": POOL.to_string(), "size": size * MIB});
            world.made("volumes", id, volume).await;
        }
        world
    }

    async fn ask(&mut self, method: &str, path: String, body: Option<Value>) -> Answer {
        let request = Request::new(method, path, body);
        self.0.exchange("admin", &request).await.unwrap()
    }

    async fn made(&mut self, kind: &str, id: Uuid, body: Value) {
        let path = format!("/v1/{kind}/{id}");
        let answer = self.ask("PUT", path, Some(body)).await;
        assert_eq!(answer.status, 201, "{kind}: {:?}", answer.body);
    }

    async fn import(&self, volume: Uuid, query: &str, media: &str, body: &[u8]) -> RawReply {
        let request = Request::new("PUT", format!("/v1/volumes/{volume}/data{query}"), None);
        let body = Bytes::copy_from_slice(body);
        let wire = self.0.wire("operator");
        wire.send(&request, media, body).await.unwrap()
    }

    async fn export(&self, volume: Uuid, query: &str) -> RawReply {
        let request = Request::new("GET", format!("/v1/volumes/{volume}/data{query}"), None);
        let wire = self.0.wire("operator");
        wire.send(&request, "", Bytes::new()).await.unwrap()
    }

    async fn image(&self, volume: Uuid, format: &str) -> Vec<u8> {
        let reply = self.export(volume, &format!("?format={format}")).await;
        assert_eq!(reply.status, 200, "{format}");
        assert_eq!(reply.media_type.as_deref(), Some(IMAGE));
        reply.body.to_vec()
    }

    async fn content(&self, volume: Uuid) -> Vec<u8> {
        self.export(volume, "?format=raw").await.body.to_vec()
    }

    /// Nothing is left of what the images were kept on.
    async fn check_nothing_left(&mut self) {
        let begin = Instant::now();
        loop {
            let path = format!("/v1/pools/{POOL}/thin-devices");
            let devices = self.ask("GET", path, None).await.body;
            let count = devices["items"].as_array().unwrap().len();
            if count == 3 {
                break;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "{devices:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let volumes = self.ask("GET", "/v1/volumes".to_owned(), None).await.body;
        let count = volumes["items"].as_array().unwrap().len();
        assert_eq!(count, 3);
    }
}

#[track_caller]
fn done(reply: &RawReply) -> JobResult {
    let path = format!("/v1/volumes/{ONE}/data");
    let result: Result<JobResult, _> = ashlar_codec::from_slice(&reply.body, &LIMITS);
    let result = result.unwrap_or_else(|_| panic!("{:?}", problem(reply)));
    contract::check("PUT", &path, &[], reply.status, &reply.body).unwrap();
    result
}

#[track_caller]
fn problem(reply: &RawReply) -> Problem {
    let problem: Problem = ashlar_codec::from_slice(&reply.body, &LIMITS).unwrap();
    assert_eq!(reply.status, problem.code.status());
    problem
}

/// 8 MiB with something here and there.
fn sample() -> Vec<u8> {
    let mut content = vec![0; 8 * MIB];
    for (n, begin, end) in [
        (1, 0, 8192),
        (2, MIB + 4096, 2 * MIB),
        (3, 7 * MIB, 8 * MIB),
    ] {
        for (at, byte) in content[begin..end].iter_mut().enumerate() {
            *byte = (at / 7 % 250) as u8 + n;
        }
    }
    content
}

#[tokio::test]
async fn an_image_of_every_format_is_exported_and_imported() {
    let mut world = World::new().await;
    let content = sample();
    done(&world.import(ONE, "", RAW, &content).await);
    let mut expected = content;
    expected.resize(12 * MIB, 0);
    for format in ["qcow2", "vmdk", "vhd", "vhdx"] {
        let image = world.image(ONE, format).await;
        // What was there before is gone, also behind the end of the image's disk.
        done(&world.import(TWO, "", RAW, &vec![9; 12 * MIB]).await);
        for query in ["", "?format=auto", &format!("?format={format}")] {
            let result = done(&world.import(TWO, query, IMAGE, &image).await);
            assert!(result.sha256.is_some(), "{result:?}");
            assert!(world.content(TWO).await == expected, "{format} {query}");
        }
    }
    world.check_nothing_left().await;
}

#[tokio::test]
async fn what_is_no_image_that_can_be_taken_is_refused_and_leaves_the_volume() {
    let mut world = World::new().await;
    done(&world.import(ONE, "", RAW, &sample()).await);
    let sound = world.image(ONE, "qcow2").await;
    let mut backed = sound.clone();
    backed[8..20].copy_from_slice(&[0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 11]);
    backed[256..267].copy_from_slice(b"/etc/passwd");
    let mut hostile = sound.clone();
    hostile[24..32].copy_from_slice(&u64::MAX.to_be_bytes());
    let cut = &sound[..sound.len() - MIB];
    let [bad, wrong] = [ProblemCode::MalformedRequest, ProblemCode::InvalidField];
    let large = ProblemCode::OutOfRange;
    for (volume, query, media, body, code, words) in [
        (TWO, "", IMAGE, &backed[..], bad, "backing file"),
        (TWO, "", IMAGE, &hostile, bad, "qcow2"),
        (TWO, "", IMAGE, cut, bad, "cut short"),
        (SMALL, "", IMAGE, &sound, large, "at most 4194304 fit"),
        (TWO, "?format=vhdx", IMAGE, &sound, bad, "vhdx"),
        (TWO, "?format=raw", IMAGE, &sound, wrong, RAW),
        (TWO, "?format=qcow2", RAW, &sound, wrong, "format"),
        (TWO, "?format=iso", IMAGE, &sound[..512], wrong, "iso"),
        (TWO, "?offset=4096", IMAGE, &sound, wrong, "offset"),
    ] {
        let refused = problem(&world.import(volume, query, media, body).await);
        assert_eq!(refused.code, code, "{query}: {refused}");
        assert!(refused.detail.contains(words), "{query}: {refused}");
    }
    for query in [
        "?format=auto",
        "?format=qcow2&offset=4096",
        "?format=vhd&length=4096",
    ] {
        let refused = problem(&world.export(ONE, query).await);
        assert_eq!(refused.code, wrong, "{query}: {refused}");
    }
    world.check_nothing_left().await;
    // Both are free again.
    done(&world.import(TWO, "", IMAGE, &sound).await);
    assert!(world.content(TWO).await[..8 * MIB] == sample());
}

#[tokio::test]
async fn an_image_waits_for_nobody_who_could_read_it() {
    let model = Model::boot().unwrap();
    let mut world = World(model);
    let pool = json!({"name": "pool", "disks": ["serial-DISK0"]});
    world.made("pools", POOL, pool).await;
    for id in [ONE, TWO, SMALL] {
        let volume = json!({"name": "v", "pool": POOL.to_string(), "size": MIB});
        world.made("volumes", id, volume).await;
    }
    let image = world.image(ONE, "qcow2").await;
    let refused = problem(&world.import(TWO, "", IMAGE, &image).await);
    assert_eq!(refused.code, ProblemCode::Internal);
    assert!(refused.detail.contains("converter"), "{refused}");
    world.check_nothing_left().await;
}

#[tokio::test]
async fn files_of_images_are_moved_as_they_are() {
    let mut world = World::new().await;
    done(&world.import(ONE, "", RAW, &sample()).await);
    let client = world.0.client("operator").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let what = Export {
        object: ObjectRef {
            kind: ObjectKind::Volume,
            id: ONE,
        },
        since: None,
    };
    for format in [ImageFormat::Qcow2, ImageFormat::Vhd, ImageFormat::Vhdx] {
        let target = Target::create(&path, Form::Raw).unwrap();
        let exported = export_image(&client, what, (target, format), unwatched());
        let exported = exported.await.unwrap();
        let image = std::fs::read(&path).unwrap();
        assert_eq!(exported.moved, image.len() as u64, "{format:?}");
        let source = Source::open(&path, Form::Raw).unwrap();
        let imported = import_image(&client, TWO, (source, format), unwatched()).await;
        assert_eq!(imported.unwrap().sha256, exported.sha256);
        assert!(world.content(TWO).await[..8 * MIB] == sample());
        done(&world.import(TWO, "", RAW, &vec![1; 12 * MIB]).await);
    }
    // What is refused is told as the appliance tells it.
    std::fs::write(&path, b"QFI\xfb and no more").unwrap();
    let source = Source::open(&path, Form::Raw).unwrap();
    let image = (source, ImageFormat::Auto);
    let refused = import_image(&client, TWO, image, unwatched()).await;
    let Err(TransferError::Call(refused)) = refused else {
        panic!("{refused:?}");
    };
    let code = refused.problem().map(|problem| problem.code);
    assert_eq!(code, Some(ProblemCode::MalformedRequest), "{refused}");
    world.check_nothing_left().await;
}

#[tokio::test]
async fn an_image_that_is_not_wanted_any_more_leaves_nothing() {
    let mut world = World::new().await;
    let job = Uuid::from_u128(0x70b);
    let import = Request {
        request_id: Some(job),
        ..Request::new("PUT", format!("/v1/volumes/{TWO}/data"), None)
    };
    let cancel = Request::new("DELETE", format!("/v1/jobs/{job}"), None);
    let cancelled = async {
        loop {
            let answer = world.0.wire("admin").exchange(&cancel).await.unwrap();
            match answer.status {
                404 => {}
                status => return status,
            }
        }
    };
    let body = Bytes::from(vec![7; 64 * MIB]);
    let wire = world.0.wire("operator");
    let (reply, status) = tokio::join!(wire.send(&import, IMAGE, body), cancelled);
    assert!(matches!(status, 202 | 204), "{status}");
    // The rest of the body may not have been read.
    if let Ok(reply) = reply {
        assert_eq!(problem(&reply).code, ProblemCode::Cancelled);
    }
    world.check_nothing_left().await;
    done(&world.import(TWO, "", RAW, &sample()).await);
}

/// Tables may be wrong at their end, or data not be there, when some of the disk is written.
#[tokio::test]
async fn an_image_that_is_damaged_leaves_nothing_of_itself() {
    let mut world = World::new().await;
    done(&world.import(ONE, "", RAW, &sample()).await);
    let sound = world.image(ONE, "qcow2").await;
    let vhdx = world.image(ONE, "vhdx").await;
    let mut damaged = sound.clone();
    let last = last_cluster(&sound);
    damaged[last..last + 8].copy_from_slice(&(1_u64 << 63 | 1 << 50).to_be_bytes());
    for (image, words) in [
        (&damaged[..], "a cluster lies at"),
        (&vhdx[..vhdx.len() - MIB], "cut short"),
    ] {
        done(&world.import(TWO, "", RAW, &vec![9; 12 * MIB]).await);
        let refused = problem(&world.import(TWO, "", IMAGE, image).await);
        assert_eq!(refused.code, ProblemCode::MalformedRequest, "{refused}");
        assert!(refused.detail.contains(words), "{refused}");
        assert!(world.content(TWO).await == vec![0; 12 * MIB], "{refused}");
        // Nor does it take room.
        let path = format!("/v1/volumes/{TWO}/usage");
        let usage = world.ask("GET", path, None).await.body;
        assert_eq!(usage["used"], 0, "{words}: {usage:?}");
    }
    // Refused before anything is written, it has left the volume as it was.
    done(&world.import(TWO, "", RAW, &vec![9; 12 * MIB]).await);
    for (query, image) in [
        ("?format=vhdx", &sound[..]),
        // Without its tables, which come last.
        ("", &sound[..sound.len() - MIB]),
    ] {
        let refused = problem(&world.import(TWO, query, IMAGE, image).await);
        assert_eq!(refused.code, ProblemCode::MalformedRequest, "{refused}");
        assert!(world.content(TWO).await == vec![9; 12 * MIB], "{refused}");
    }
    world.check_nothing_left().await;
}

/// Where a qcow2 of a disk of 8 MiB says where the last of it is.
fn last_cluster(image: &[u8]) -> usize {
    let long = |at: usize| u64::from_be_bytes(image[at..at + 8].try_into().unwrap());
    let place = |entry: u64| (entry & 0x00ff_ffff_ffff_fe00) as usize;
    let cluster = 1 << u32::from_be_bytes(image[20..24].try_into().unwrap());
    let table = place(long(place(long(40))));
    let last = table + (8 * MIB / cluster - 1) * 8;
    assert_ne!(long(last), 0, "there is data");
    last
}

#[tokio::test]
async fn an_image_that_is_cancelled_while_it_is_read_leaves_nothing_of_itself() {
    let mut world = World::new().await;
    done(&world.import(ONE, "", RAW, &sample()).await);
    let image = world.image(ONE, "qcow2").await;
    done(&world.import(TWO, "", RAW, &vec![9; 12 * MIB]).await);
    let job = Uuid::from_u128(0x70c);
    // So slow that it takes seconds from its first bytes on the disk to its last.
    let path = format!("/v1/volumes/{TWO}/data?bandwidth={}", 512 << 10);
    let import = Request {
        request_id: Some(job),
        ..Request::new("PUT", path, None)
    };
    let shown = Request::new("GET", format!("/v1/jobs/{job}"), None);
    let cancel = Request::new("DELETE", format!("/v1/jobs/{job}"), None);
    let begun = (image.len() + 8192) as u64;
    let cancelled = async {
        let wire = world.0.wire("admin");
        loop {
            let seen = wire.exchange(&shown).await.unwrap();
            if seen.body["progress"]["done"].as_u64() >= Some(begun) {
                assert_eq!(seen.body["state"], "running", "{:?}", seen.body);
                return wire.exchange(&cancel).await.unwrap().status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let wire = world.0.wire("operator");
    let sending = wire.send(&import, IMAGE, Bytes::from(image.clone()));
    let (reply, status) = tokio::join!(sending, cancelled);
    assert!(matches!(status, 202 | 204), "{status}");
    assert_eq!(problem(&reply.unwrap()).code, ProblemCode::Cancelled);
    assert!(world.content(TWO).await == vec![0; 12 * MIB]);
    world.check_nothing_left().await;
    done(&world.import(TWO, "", IMAGE, &image).await);
    assert!(world.content(TWO).await[..8 * MIB] == sample());
}

#[tokio::test]
async fn an_image_that_is_not_had_leaves_no_file() {
    let mut world = World::new().await;
    let client = world.0.client("operator").unwrap();
    let folder = tempfile::tempdir().unwrap();
    for form in [Form::Raw, Form::Extents] {
        let target = Target::create(&folder.path().join("image"), form).unwrap();
        let what = Export {
            object: ObjectRef {
                kind: ObjectKind::Volume,
                id: Uuid::from_u128(9),
            },
            since: None,
        };
        let exported = match form {
            Form::Raw => {
                let image = (target, ImageFormat::Vhdx);
                export_image(&client, what, image, unwatched()).await
            }
            Form::Extents => export(&client, what, target, unwatched()).await,
        };
        let Err(TransferError::Call(refused)) = exported else {
            panic!("{exported:?}");
        };
        let code = refused.problem().map(|problem| problem.code);
        assert_eq!(code, Some(ProblemCode::NotFound), "{refused}");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }
    world.check_nothing_left().await;
}

#[tokio::test]
async fn an_image_is_read_for_longer_than_anybody_is_silent() {
    let mut world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    std::fs::write(&path, vec![7; MIB]).unwrap();
    let source = Source::open(&path, Form::Raw).unwrap();
    let client = world.0.client("operator").unwrap();
    // It is given at once; what is read of it comes to the disks two seconds later.
    let client = client.limited(Some(512 << 10)).bearing(SILENT);
    let image = (source, ImageFormat::Auto);
    let begin = Instant::now();
    let imported = import_image(&client, TWO, image, unwatched()).await;
    assert!(imported.unwrap().sha256.is_some());
    assert!(begin.elapsed() > 2 * SILENT, "{:?}", begin.elapsed());
    assert!(world.content(TWO).await[..MIB] == vec![7; MIB]);
    world.check_nothing_left().await;
}

#[tokio::test]
async fn an_image_that_stalls_leaves_nobody_at_work() {
    let world = World::new().await;
    done(&world.import(ONE, "", RAW, &sample()).await);
    let folder = tempfile::tempdir().unwrap();
    let target = Target::create(&folder.path().join("image"), Form::Raw).unwrap();
    let what = Export {
        object: ObjectRef {
            kind: ObjectKind::Volume,
            id: ONE,
        },
        since: None,
    };
    let job = Uuid::from_u128(0x70b);
    let client = world.0.client("operator").unwrap();
    let slow = client.limited(Some(64 << 10)).bearing(SILENT).under(job);
    let image = (target, ImageFormat::Vhdx);
    let exported = export_image(&slow, what, image, unwatched()).await;
    assert!(exported.is_err(), "{exported:?}");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    let job = client.job_show(job).await.unwrap();
    assert_ne!(job.state, JobState::Running);
    done(&world.import(ONE, "", RAW, &sample()).await);
}
