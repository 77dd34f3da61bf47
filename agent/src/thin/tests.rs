//! Views on a targetd that hands out images.

use std::time::Duration;

use ashlar_kernel_iface::model::{ThinImage, ThinMappings, ThinMetadata};
use ashlar_targetd_protocol::{Request, Sectors, ThinId};
use uuid::Uuid;

use super::views::IDLE;
use super::*;
use crate::targetd::Targetd;
use crate::targetd::fake::{Behaviour, FakeTargetd};

const POOL: Uuid = Uuid::from_u128(1);
const BLOCK: u64 = 65_536;

/// A pool with one thin device for each list of blocks, by id; blocks lie where they are.
fn image(devices: &[(u64, &[u64])]) -> ThinImage {
    let thin = |blocks: &[u64]| ThinMappings {
        mappings: blocks.iter().map(|block| (*block, (*block, 0))).collect(),
        ..ThinMappings::default()
    };
    let devices = devices.iter();
    let thins = devices.map(|(id, blocks)| (ThinId::try_from(*id).unwrap(), thin(blocks)));
    let metadata = ThinMetadata {
        block: Sectors(128),
        thins: thins.collect(),
        ..ThinMetadata::default()
    };
    metadata.image()
}

struct World {
    fake: FakeTargetd,
    targetd: Targetd,
    views: Views,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new(devices: &[(u64, &[u64])]) -> World {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeTargetd::start(dir.path());
        fake.kernel().metadata.insert(POOL, image(devices));
        let targetd = Targetd::start(fake.socket.clone());
        assert!(targetd.up().await);
        World {
            views: Views::new(targetd.clone()),
            fake,
            targetd,
            _dir: dir,
        }
    }

    fn change(&self, devices: &[(u64, &[u64])]) {
        self.fake.kernel().metadata.insert(POOL, image(devices));
    }

    async fn mapped(&self, thin: u64, freshness: Freshness) -> Result<Vec<u64>, ThinError> {
        let question = StretchesQuestion {
            pool: POOL,
            thin_id: ThinId::try_from(thin).unwrap(),
            since: None,
            size: 1000 * BLOCK,
            from: 0,
            limit: 100,
            freshness,
        };
        let stretches = self.views.stretches(question).await?;
        let blocks = stretches.items.iter().map(|stretch| stretch.offset / BLOCK);
        Ok(blocks.collect())
    }

    /// How often metadata were opened and released.
    fn calls(&self) -> (usize, usize) {
        let kernel = self.fake.kernel();
        let count = |test: fn(&Request) -> bool| kernel.calls.iter().filter(|c| test(c)).count();
        (
            count(|call| matches!(call, Request::OpenMetadata { .. })),
            count(|call| matches!(call, Request::ReleaseMetadata { .. })),
        )
    }
}

#[tokio::test]
async fn whoever_asks_for_now_sees_what_was_written_before() {
    let world = World::new(&[(1, &[5])]).await;
    assert_eq!(world.mapped(1, Freshness::Now).await.unwrap(), [5]);
    world.change(&[(1, &[5, 9])]);
    assert_eq!(world.mapped(1, Freshness::Any).await.unwrap(), [5]);
    assert_eq!(world.mapped(1, Freshness::Now).await.unwrap(), [5, 9]);
    assert_eq!(world.calls().0, 2);
}

#[tokio::test]
async fn what_is_not_in_a_view_is_looked_for_in_a_newer_one() {
    let world = World::new(&[(1, &[5])]).await;
    world.mapped(1, Freshness::Any).await.unwrap();
    world.change(&[(1, &[5]), (2, &[6])]);
    assert_eq!(world.mapped(2, Freshness::Any).await.unwrap(), [6]);
    assert_eq!(world.calls().0, 2);
    let error = world.mapped(3, Freshness::Any).await.unwrap_err();
    assert!(error.no_device(), "{error}");
    assert_eq!(world.calls().0, 3);
}

#[tokio::test]
async fn those_who_ask_at_once_share_a_view() {
    let world = World::new(&[(1, &[5])]).await;
    let asked = (0..20).map(|_| world.mapped(1, Freshness::Any));
    for answer in futures(asked).await {
        assert_eq!(answer.unwrap(), [5]);
    }
    assert_eq!(world.calls().0, 1);
}

/// All of them, side by side.
async fn futures<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|context| {
        pending.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(output) => {
                done.push(output);
                false
            }
            std::task::Poll::Pending => true,
        });
        match pending.is_empty() {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    done
}

#[tokio::test]
async fn a_view_that_nobody_asks_for_is_let_go() {
    let world = World::new(&[(1, &[5])]).await;
    world.mapped(1, Freshness::Any).await.unwrap();
    assert_eq!(world.calls(), (1, 0));
    for _ in 0..100 {
        tokio::time::sleep(IDLE / 4).await;
        if world.calls() == (1, 1) {
            break;
        }
    }
    assert_eq!(world.calls(), (1, 1));
    assert_eq!(world.mapped(1, Freshness::Any).await.unwrap(), [5]);
    assert_eq!(world.calls().0, 2);
}

#[tokio::test]
async fn a_view_ends_with_the_stream_it_came_by() {
    let mut world = World::new(&[(1, &[5])]).await;
    world.mapped(1, Freshness::Any).await.unwrap();
    world.change(&[(1, &[7])]);
    world.fake.pause();
    let mut link = world.targetd.link();
    let away = |link: &crate::targetd::Link| matches!(link, crate::targetd::Link::Away(_));
    link.wait_for(away).await.unwrap();
    let error = world.mapped(1, Freshness::Any).await.unwrap_err();
    assert!(matches!(error, ThinError::Open { .. }), "{error}");
    world.fake.resume();
    assert!(world.targetd.up().await);
    assert_eq!(world.mapped(1, Freshness::Any).await.unwrap(), [7]);
}

#[tokio::test]
async fn a_failed_opening_is_told_and_the_next_one_tried() {
    let world = World::new(&[(1, &[5])]).await;
    let failing = Behaviour::Fail(ashlar_targetd_protocol::FailureKind::Missing);
    world.fake.rule(1, failing, |call| {
        matches!(call, Request::OpenMetadata { .. })
    });
    let error = world.mapped(1, Freshness::Any).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("failed to open the thin metadata")
    );
    assert_eq!(world.mapped(1, Freshness::Any).await.unwrap(), [5]);
}

#[tokio::test]
async fn damage_is_told_with_the_block() {
    let world = World::new(&[(1, &[5])]).await;
    {
        let mut kernel = world.fake.kernel();
        let image = kernel.metadata.get_mut(&POOL).unwrap();
        let last = image.bytes.len() - 4000;
        image.bytes[last] ^= 1;
    }
    let error = world.mapped(1, Freshness::Any).await.unwrap_err();
    assert!(
        error.to_string().contains("has a wrong checksum"),
        "{error}"
    );
}

#[tokio::test]
async fn usage_and_devices_are_in_bytes() {
    let world = World::new(&[(1, &[5, 6]), (2, &[6, 7]), (4, &[])]).await;
    let thin = |id| ThinId::try_from(id).unwrap();
    let usage = world
        .views
        .usage(POOL, thin(1), vec![thin(1), thin(2), thin(9)]);
    let expected = Usage {
        used: 2 * BLOCK,
        shared: Some(BLOCK),
    };
    assert_eq!(usage.await.unwrap(), expected);
    let question = DevicesQuestion {
        pool: POOL,
        from: 2,
        limit: 2,
    };
    let devices = world.views.devices(question).await.unwrap();
    let seen = |id, used, end| SeenDevice {
        thin_id: thin(id),
        used: used * BLOCK,
        end: end * BLOCK,
    };
    assert_eq!(devices, [seen(2, 2, 8), seen(4, 0, 0)]);
    assert!(
        tokio::time::timeout(Duration::from_secs(5), world.views.device(POOL, thin(3)))
            .await
            .unwrap()
            .unwrap_err()
            .no_device()
    );
}

#[tokio::test]
async fn nobody_holds_anything_while_that_is_not_to_be() {
    let world = World::new(&[(1, &[5])]).await;
    world.mapped(1, Freshness::Any).await.unwrap();
    let unheld = world.views.unheld(POOL).await.unwrap();
    assert_eq!(world.calls(), (1, 1));
    let asked = world.mapped(1, Freshness::Any);
    let asked = tokio::time::timeout(IDLE, asked).await;
    assert!(asked.is_err(), "{asked:?}");
    assert_eq!(world.calls(), (1, 1));
    drop(unheld);
    assert_eq!(world.mapped(1, Freshness::Any).await.unwrap(), [5]);
    assert_eq!(world.calls().0, 2);
    // What may still be held is no ground to go on.
    let release = |call: &Request| matches!(call, Request::ReleaseMetadata { .. });
    let fail = Behaviour::Fail(ashlar_targetd_protocol::FailureKind::Kernel);
    world.fake.rule(1, fail, release);
    assert!(world.views.unheld(POOL).await.is_err());
}
