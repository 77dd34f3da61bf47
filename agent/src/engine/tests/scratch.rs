use ashlar_protocol::{JobResult, Operation, Progress};
use ashlar_targetd_protocol::OpenObject;
use uuid::Uuid;

use super::rig::*;
use crate::domain::Undertaking;
use crate::domain::decide::scratch::{self, Scratch};
use crate::domain::record::Unit;
use crate::engine::{Begun, Command, PageQuery, Rule, Work};

const VOLUME: Uuid = Uuid::from_u128(1);
const HIDDEN: Uuid = Uuid::from_u128(2);
const JOB: Uuid = Uuid::from_u128(0x70b);

/// Long work on a volume, with room of its own that is open.
async fn begun(rig: &Rig) -> Work {
    rig.ask(volume(VOLUME, 1 << 20)).await.unwrap();
    let object = Unit::Volume(VOLUME).object();
    let made = Scratch {
        id: HIDDEN,
        pool: POOL,
        size: 1 << 20,
    };
    let rule: Rule = Box::new(move |intent, generation, facts| {
        scratch::create(intent, object, &made, generation, facts)
    });
    let work = Undertaking {
        operation: Operation::VolumeImport,
        object,
        progress: Progress::default(),
    };
    let context = context(JOB, &Command::VolumeDelete { id: VOLUME });
    let work = match rig.engine.begin(work, context, rule).await {
        Ok(Begun::Work(work)) => work,
        other => panic!("{other:?}"),
    };
    let opened = rig.engine.open(OpenObject::Volume(HIDDEN), true).await;
    drop(opened.unwrap());
    assert_eq!(thins(rig), 2);
    work
}

fn thins(rig: &Rig) -> usize {
    rig.fake.kernel().thin.len()
}

async fn gone(rig: &Rig) {
    let intent = &rig.engine.shared.intent;
    becomes(async || intent.read().await.volume(HIDDEN).is_none()).await;
    assert_eq!(thins(rig), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn room_of_a_job_is_used_by_it_alone_and_goes_with_it() {
    let rig = Rig::furnished().await;
    let work = begun(&rig).await;
    let volumes = rig.engine.volumes(&PageQuery::default()).await.unwrap();
    let ids: Vec<_> = volumes.items.iter().map(|volume| volume.id).collect();
    assert_eq!(ids, [VOLUME]);
    assert!(rig.engine.volume(HIDDEN).await.is_err());
    work.finish(Ok(JobResult::default())).await.unwrap();
    gone(&rig).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn room_of_a_job_that_was_cut_short_goes_with_the_next_start() {
    let rig = Rig::furnished().await;
    let work = begun(&rig).await;
    let rig = rig.kill().await;
    gone(&rig).await;
    drop(work);
    assert!(rig.engine.volume(VOLUME).await.is_ok());
}
