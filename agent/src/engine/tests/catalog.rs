//! Catalogs of pools follow the store.

use std::collections::BTreeMap;
use std::time::Duration;

use ashlar_protocol::{HealthStatus, Transport};
use ashlar_targetd_protocol::{FailureKind, Request};
use tokio::time::sleep;
use uuid::Uuid;

use super::rig::*;
use crate::catalog::{DeviceMedium, read};
use crate::domain::Record;
use crate::domain::record::Key;
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
    let check = format!("pool/{POOL}");
    let told = tokio::time::timeout(LONG, async {
        loop {
            let health = rig.engine.health([]).await;
            let pool = health.checks.iter().find(|found| found.name == check);
            let pool = pool.unwrap();
            if pool.status == HealthStatus::Degraded {
                return pool.detail.clone().unwrap();
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    let told = told.await.expect("it is told");
    assert!(told.contains("the catalog is behind"), "{told}");
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
