//! Events over the wire: long polls and streams.

use std::time::Duration;

use ashlar_ctl::client::Failure;
use ashlar_protocol::{FreezeSpec, HostSpec, ProblemCode};
use uuid::Uuid;

use ashlar_inprocess::Appliance;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn host(n: u32) -> HostSpec {
    HostSpec {
        name: format!("host {n}").parse().unwrap(),
        iqn: Some(format!("iqn.1993-08.org.debian:{n}").parse().unwrap()),
        nqn: None,
        wwpns: Default::default(),
        authentication: Default::default(),
        dhchap: Default::default(),
        secrets: Default::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_what_happens_and_goes_on_after_a_break() {
    let appliance = Appliance::start().await;
    let (reader, operator) = (appliance.client("reader"), appliance.client("operator"));
    let mut stream = reader.event_stream(None).await.unwrap();
    let mut last = 0;
    for n in 0..100 {
        let id = Uuid::new_v4();
        operator.host_create(id, &host(n)).await.unwrap();
        let event = tokio::time::timeout(PATIENCE, stream.next()).await;
        let event = event.expect("it comes by itself").unwrap();
        assert_eq!((event.kind.as_str(), event.object.id), ("host.created", id));
        assert!(event.request.is_some());
        last = event.id;
    }
    drop(stream);
    for n in 100..103 {
        operator
            .host_create(Uuid::new_v4(), &host(n))
            .await
            .unwrap();
    }
    let mut stream = reader.event_stream(Some(last)).await.unwrap();
    for n in 1..=3 {
        assert_eq!(stream.next().await.unwrap().id, last + n);
    }
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_from_what_never_was_is_refused() {
    let appliance = Appliance::start().await;
    let refused = appliance.client("reader").event_stream(Some(1000)).await;
    let Err(error) = refused else {
        panic!("it is a stream")
    };
    assert_eq!(error.problem().unwrap().code, ProblemCode::EventsLost);
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_streams_and_waits_at_once() {
    let appliance = Appliance::start().await;
    let reader = appliance.client("reader");
    let mut stream = reader.event_stream(None).await.unwrap();
    let begun = std::time::Instant::now();
    appliance.stop().await;
    let ended = stream.next().await.unwrap_err();
    assert!(
        matches!(ended.failure, Failure::Transport { .. }),
        "{ended:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_readers_leave_room_for_those_who_act() {
    let appliance = Appliance::start().await;
    let reader = appliance.client("reader");
    let mut streams = Vec::new();
    let refused = loop {
        match reader.event_stream(None).await {
            Ok(stream) => streams.push(stream),
            Err(error) => break error,
        }
    };
    assert_eq!(
        refused.problem().unwrap().code,
        ProblemCode::TooManyRequests
    );
    assert_eq!(streams.len(), 64);
    reader.volume_list().await.unwrap();
    let admin = appliance.client("admin");
    admin.system_freeze(&FreezeSpec::default()).await.unwrap();
    let event = streams[63].next().await.unwrap();
    assert_eq!(event.kind.as_str(), "system.frozen");
    drop(streams);
    appliance.stop().await;
}
