//! Catalogs of pools follow the store.

use std::collections::BTreeMap;
use std::time::Duration;

use ashlar_protocol::Transport;
use ashlar_targetd_protocol::{FailureKind, Request};
use tokio::time::sleep;
use uuid::Uuid;

use super::rig::*;
use crate::catalog::{DeviceMedium, Owner, Writer, read};
use crate::domain::Record;
use crate::domain::record::Key;
use crate::engine::Engine;
use crate::store::Batch;
use crate::targetd::OpenDevice;
use crate::targetd::fake::{Behaviour, FakeTargetd};

/// What the catalog of the pool has, if there is a whole one.
fn catalog(fake: &FakeTargetd) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
    let kernel = fake.kernel();
    let file = kernel.catalogs.get(&POOL)?.try_clone().unwrap();
    let size = file.metadata().unwrap().len();
    let mut medium = DeviceMedium::new(OpenDevice { file, size });
    read(&mut medium, POOL).ok().map(|catalog| catalog.entries)
}

/// Waits until the catalog is as asked; how long it takes is bounded by the test's patience only.
async fn until(fake: &FakeTargetd, is: impl Fn(&BTreeMap<Vec<u8>, Vec<u8>>) -> bool) {
    let waited = tokio::time::timeout(LONG, async {
        while !catalog(fake).as_ref().is_some_and(&is) {
            sleep(Duration::from_millis(50)).await;
        }
    });
    waited.await.expect("the catalog follows");
}

fn has(key: Key) -> impl Fn(&BTreeMap<Vec<u8>, Vec<u8>>) -> bool {
    move |entries| entries.contains_key(&key.bytes())
}

#[tokio::test]
async fn what_is_made_and_removed_is_so_in_the_catalog_and_secrets_are_not() {
    let rig = Rig::furnished().await;
    rig.ask(volume(id(1), 8 << 20)).await.unwrap();
    rig.ask(attach(id(9), id(1), HOST, Transport::Iscsi))
        .await
        .unwrap();
    until(&rig.fake, has(Key::Connection(id(9)))).await;
    let entries = catalog(&rig.fake).unwrap();
    for key in [Key::Pool(POOL), Key::ThinCounter(POOL), Key::Volume(id(1))] {
        assert!(has(key)(&entries), "{key:?}");
    }
    let host = Key::Host(HOST).bytes();
    match Record::parse(&host, &entries[&host]).unwrap() {
        Record::Host(_, host) => assert_eq!(host.secrets, Default::default()),
        other => panic!("{other:?}"),
    }
    rig.ask(detach(id(9))).await.unwrap();
    until(&rig.fake, |entries| !has(Key::Connection(id(9)))(entries)).await;
}

#[tokio::test]
async fn the_next_start_goes_on_with_it() {
    let rig = Rig::furnished().await;
    rig.ask(volume(id(1), 8 << 20)).await.unwrap();
    let (dir, fake) = rig.stop().await;
    let (engine, task) = start(&dir.path().join("state"), &fake).await;
    until(&fake, has(Key::Volume(id(1)))).await;
    drop(engine);
    task.stop().await;
}

#[tokio::test]
async fn a_catalog_that_cannot_be_written_keeps_nothing_and_is_told() {
    let rig = Rig::furnished().await;
    rig.fake
        .rule(1, Behaviour::Fail(FailureKind::Kernel), |call| {
            matches!(call, Request::OpenCatalog { .. })
        });
    rig.ask(volume(id(1), 8 << 20)).await.unwrap();
    let told = told(&rig.engine).await;
    assert!(told.contains("the catalog is behind"), "{told}");
    until(&rig.fake, has(Key::Volume(id(1)))).await;
}

/// Waits until health says something of the pool, and answers what.
async fn told(engine: &Engine) -> String {
    let check = format!("pool/{POOL}");
    let told = tokio::time::timeout(LONG, async {
        loop {
            let health = engine.health([]).await;
            let pool = health.checks.iter().find(|found| found.name == check);
            if let Some(detail) = pool.and_then(|pool| pool.detail.clone()) {
                return detail;
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    told.await.expect("it is told")
}

/// Who wrote it, where the box did.
type Wrote = fn(Owner) -> Owner;

/// Has the catalog be one that was written by `owner` and has one entry.
fn written_by(fake: &FakeTargetd, owner: Wrote) -> Vec<u8> {
    let kernel = fake.kernel();
    let file = kernel.catalogs[&POOL].try_clone().unwrap();
    let size = file.metadata().unwrap().len();
    let mut medium = DeviceMedium::new(OpenDevice { file, size });
    let found = read(&mut medium, POOL).unwrap();
    let mut writer = Writer::new(POOL, Some(&found));
    let mut checkpoint = writer.begin(1, owner(found.owner));
    let key = b"of another".to_vec();
    let added = writer.add(&mut medium, &mut checkpoint, key.clone(), vec![1]);
    added.unwrap();
    let finished = writer.finish(&mut medium, checkpoint, &Batch::new());
    finished.unwrap();
    let clock = Record::Clock(1_000_000);
    let mut later = Batch::new();
    later.put(clock.key().bytes(), clock.value().unwrap());
    let appended = writer.append(&mut medium, &later).unwrap();
    assert_eq!(appended, crate::catalog::Appended::Durable);
    key
}

#[tokio::test]
async fn what_another_box_wrote_or_a_newer_store_is_left_as_it_is_and_told() {
    let other = |owner: Owner| Owner {
        id: id(0xb1),
        ..owner
    };
    let newer = |owner: Owner| Owner {
        generation: owner.generation + 1000,
        ..owner
    };
    // A checkpoint may be older than the store, and the records after it newer.
    let same = |owner: Owner| owner;
    let cases: [(Wrote, &str); 3] = [
        (other, "was written by box"),
        (newer, "store is older"),
        (same, "store is older"),
    ];
    for (owner, says) in cases {
        let rig = Rig::furnished().await;
        until(&rig.fake, has(Key::Pool(POOL))).await;
        let (dir, fake) = rig.stop().await;
        let key = written_by(&fake, owner);
        let (engine, task) = start(&dir.path().join("state"), &fake).await;
        let rig = Rig {
            dir,
            fake,
            engine,
            task,
        };
        let told = told(&rig.engine).await;
        assert!(told.contains(says), "{told}");
        rig.ask(volume(id(1), 8 << 20)).await.unwrap();
        sleep(Duration::from_millis(1500)).await;
        let entries = catalog(&rig.fake).unwrap();
        let clock = Key::Clock.bytes();
        assert_eq!(entries.keys().collect::<Vec<_>>(), [&clock, &key]);
    }
}

#[tokio::test]
async fn a_catalog_that_was_not_there_is_written_when_the_pool_says_so() {
    let rig = Rig::furnished().await;
    until(&rig.fake, has(Key::Pool(POOL))).await;
    let missing = |call: &Request| matches!(call, Request::OpenCatalog { .. });
    rig.fake
        .rule(1000, Behaviour::Fail(FailureKind::Missing), missing);
    rig.ask(volume(id(1), 8 << 20)).await.unwrap();
    let told = told(&rig.engine).await;
    assert!(told.contains("the catalog is behind"), "{told}");
    // It asks for the catalog itself; and whatever pause it is in ends when the pool is applied.
    let raised = |call: &&Request| matches!(call, Request::ApplyCatalog(_));
    assert!(rig.fake.kernel().calls.iter().any(|call| raised(&call)));
    rig.fake.obey();
    until(&rig.fake, has(Key::Volume(id(1)))).await;
}

#[tokio::test]
async fn many_changes_are_few_records() {
    let rig = Rig::furnished().await;
    until(&rig.fake, has(Key::Pool(POOL))).await;
    for n in 0..50 {
        rig.ask(volume(Uuid::from_u128(1000 + n), 8 << 20))
            .await
            .unwrap();
    }
    until(&rig.fake, has(Key::Volume(Uuid::from_u128(1049)))).await;
    let kernel = rig.fake.kernel();
    let opened = |call: &&Request| matches!(call, Request::OpenCatalog { .. });
    let writes = kernel.calls.iter().filter(opened).count();
    assert!(writes < 25, "{writes} writes for 50 volumes");
}
