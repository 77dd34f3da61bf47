use std::time::Duration;

use ashlar_protocol::{Event, FreezeSpec, HealthStatus, ProblemCode};

use super::rig::*;
use crate::engine::{After, Command};

const MIB: u64 = 1 << 20;

fn kinds(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

async fn all(rig: &Rig) -> Vec<Event> {
    let page = rig
        .engine
        .events(After::Beginning, 1000, Duration::ZERO)
        .await;
    page.unwrap().items
}

/// All events once the last is `kind`: what the kernel was found to have is told within a second.
async fn until(rig: &Rig, kind: &str) -> Vec<Event> {
    loop {
        let events = all(rig).await;
        if events.last().is_some_and(|last| last.kind.as_str() == kind) {
            return events;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn events_have_ids_without_gaps_and_survive_a_kill() {
    let rig = Rig::furnished().await;
    rig.ask_as(id(9), volume(id(1), MIB), LONG).await.unwrap();
    let events = until(&rig, "volume.created").await;
    let told = [
        "pool.created",
        "host.created",
        "host.created",
        "volume.created",
    ];
    assert_eq!(kinds(&events), told);
    let ids: Vec<u64> = events.iter().map(|event| event.id).collect();
    assert_eq!(ids, [1, 2, 3, 4]);
    let last = events.last().unwrap();
    assert_eq!((last.object.id, last.request), (id(1), Some(id(9))));

    let rig = rig.kill().await;
    assert_eq!(all(&rig).await, events);
    rig.outcome(host(id(7), 7)).await;
    assert_eq!(until(&rig, "host.created").await.last().unwrap().id, 5);
}

#[tokio::test]
async fn who_waits_is_woken_by_the_next_event() {
    let rig = Rig::furnished().await;
    let engine = rig.engine.clone();
    let waiting = tokio::spawn(async move { engine.events(After::Newest, 10, LONG).await });
    tokio::task::yield_now().await;
    rig.outcome(host(id(7), 7)).await;
    let page = waiting.await.unwrap().unwrap();
    assert_eq!(kinds(&page.items), ["host.created"]);
    // Without any, the wait ends with an empty page.
    let none = rig
        .engine
        .events(After::Newest, 10, Duration::from_millis(20));
    assert_eq!(none.await.unwrap().items, []);
}

#[tokio::test]
async fn a_page_goes_on_after_the_one_before() {
    let rig = Rig::furnished().await;
    let page = |after, limit| rig.engine.events(after, limit, Duration::ZERO);
    let first = page(After::Beginning, 2).await.unwrap();
    assert_eq!(first.next.as_deref(), Some("2"));
    let rest = page(After::Id(2), 2).await.unwrap();
    assert_eq!(
        (kinds(&rest.items), rest.next),
        (vec!["host.created"], None)
    );
    let lost = page(After::Id(4), 2).await.unwrap_err();
    assert_eq!(lost.code, ProblemCode::EventsLost);
}

#[tokio::test]
async fn a_frozen_box_says_so_and_still_heals() {
    let rig = Rig::furnished().await;
    rig.outcome(volume(id(1), MIB)).await;
    let spec = FreezeSpec {
        reason: Some("moving house".parse().unwrap()),
    };
    let id_of_box = rig.engine.id();
    let freeze = Command::SystemFreeze {
        id: id_of_box,
        spec,
    };
    rig.outcome(freeze).await;
    let refused = rig.ask(volume(id(2), MIB)).await.unwrap_err();
    assert_eq!(refused.code, ProblemCode::Frozen);

    let rig = rig.kill().await;
    assert!(rig.engine.system().await.frozen.is_some());
    let health = rig.engine.health(None).await;
    assert_eq!(health.status, HealthStatus::Degraded);
    assert!(health.checks.iter().any(|check| check.name == "frozen"));
    rig.outcome(Command::SystemThaw { id: id_of_box }).await;
    rig.outcome(volume(id(2), MIB)).await;
    let events = until(&rig, "volume.created").await;
    assert!(kinds(&events).ends_with(&["system.frozen", "system.thawed", "volume.created"]));
}
