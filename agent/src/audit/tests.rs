use std::net::{Ipv4Addr, SocketAddr};

use ashlar_protocol::{Operation, ProblemCode, Role};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;

fn caller(key: bool) -> Caller {
    Caller {
        subject: "CN=alice".to_owned(),
        key_sha256: key.then(|| [7; 32].into()),
        role: Some(Role::Operator),
        from: SocketAddr::from((Ipv4Addr::LOCALHOST, 9)),
    }
}

fn asked(operation: Operation) -> Asked {
    Asked {
        operation: Some(operation),
        object: Some(Uuid::from_u128(5)),
        changes: operation.route().method != ashlar_protocol::Method::Get,
    }
}

fn begin(audit: &Audit, request: u128, operation: Operation) -> Call {
    let request = Uuid::from_u128(request);
    Call::begin(audit, &caller(true), request, asked(operation))
}

/// Waits until so many records are durable, after which others can be asked for.
async fn records(audit: &Audit, count: u64) -> Vec<AuditRecord> {
    let mut all = Vec::new();
    for last in 0..count {
        let page = audit
            .page(After::Id(last), 1, Duration::from_secs(10))
            .await;
        all.extend(page.unwrap().items);
    }
    all
}

fn requests(records: &[AuditRecord]) -> Vec<u128> {
    let ids = records.iter().map(|record| record.request.as_u128());
    ids.collect()
}

#[tokio::test]
async fn what_changes_reads_data_or_is_refused_is_recorded() {
    let dir = TempDir::new().unwrap();
    let (audit, task) = Audit::open(dir.path()).unwrap();
    begin(&audit, 1, Operation::VolumeCreate)
        .end(201, None)
        .await;
    begin(&audit, 2, Operation::VolumeShow).end(200, None).await;
    begin(&audit, 3, Operation::SnapshotExport)
        .end(200, None)
        .await;
    let missing = Some(ProblemCode::NotFound);
    begin(&audit, 4, Operation::VolumeShow)
        .end(404, missing)
        .await;
    begin(&audit, 5, Operation::AuditList)
        .end(403, Some(ProblemCode::Forbidden))
        .await;
    begin(&audit, 6, Operation::VolumeDelete)
        .end(404, missing)
        .await;
    // Its caller has left; one who only looked is not missed.
    drop(begin(&audit, 7, Operation::VolumeShow));
    drop(begin(&audit, 8, Operation::PoolDelete));
    let all = records(&audit, 5).await;
    assert_eq!(requests(&all), [1, 3, 5, 6, 8]);
    assert_eq!((all[4].status, all[4].code), (None, None));
    let page = audit.page(After::Id(1), 2, Duration::ZERO).await.unwrap();
    assert_eq!(
        (requests(&page.items), page.next.as_deref()),
        (vec![3, 5], Some("3"))
    );
    task.stop().await;
}

#[tokio::test]
async fn strangers_do_not_fill_the_trail_but_what_they_change_is_in_it() {
    let dir = TempDir::new().unwrap();
    let (audit, task) = Audit::open(dir.path()).unwrap();
    let begin = |request| {
        let asked = asked(Operation::IdentityClaim);
        Call::begin(&audit, &caller(false), Uuid::from_u128(request), asked)
    };
    begin(1).end(403, Some(ProblemCode::Forbidden)).await;
    drop(begin(2));
    // Until he has shown what entitles him to it, and then whether he waits for it or not.
    begin(3).end(200, None).await;
    begin(4).heard().end(200, None).await;
    drop(begin(5).heard());
    assert_eq!(requests(&records(&audit, 2).await), [4, 5]);
    task.stop().await;
}

#[tokio::test]
async fn a_caller_who_leaves_while_it_is_recorded_is_recorded() {
    let dir = TempDir::new().unwrap();
    let (audit, task) = Audit::open(dir.path()).unwrap();
    let mut ends: Vec<_> = (1..=2 * 256)
        .map(|request| Box::pin(begin(&audit, request, Operation::VolumeCreate).end(201, None)))
        .collect();
    // Each has begun to be written, and is let go of before it is.
    for end in &mut ends {
        assert!(begun(end.as_mut()).is_pending());
    }
    drop(ends);
    assert_eq!(records(&audit, 2 * 256).await.len(), 2 * 256);
    task.stop().await;
}

/// Has a future begin.
fn begun<F: Future>(future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    future.poll(&mut context)
}

#[tokio::test]
async fn calls_that_fail_push_out_nothing() {
    let dir = TempDir::new().unwrap();
    let (audit, task) = Audit::open(dir.path()).unwrap();
    for request in 1..=100 {
        let missing = Some(ProblemCode::NotFound);
        begin(&audit, request, Operation::VolumeDelete)
            .end(404, missing)
            .await;
    }
    begin(&audit, 101, Operation::VolumeDelete)
        .end(204, None)
        .await;
    let all = records(&audit, 21).await;
    assert_eq!(requests(&all[20..]), [101]);
    task.stop().await;
}

#[tokio::test]
async fn what_was_handed_over_before_a_stop_is_written() {
    let dir = TempDir::new().unwrap();
    let (audit, task) = Audit::open(dir.path()).unwrap();
    for request in 1..=200 {
        drop(begin(&audit, request, Operation::VolumeDelete));
    }
    let last = begin(&audit, 201, Operation::VolumeDelete);
    last.end(204, None).await;
    task.stop().await;
    let (audit, task) = Audit::open(dir.path()).unwrap();
    assert_eq!(records(&audit, 201).await.len(), 201);
    task.stop().await;
}

#[tokio::test]
async fn records_outlive_the_agent_and_their_numbers_go_on() {
    let dir = TempDir::new().unwrap();
    let (audit, task) = Audit::open(dir.path()).unwrap();
    begin(&audit, 1, Operation::VolumeCreate)
        .end(201, None)
        .await;
    let missing = Some(ProblemCode::NotFound);
    begin(&audit, 2, Operation::VolumeDelete)
        .end(404, missing)
        .await;
    task.stop().await;
    let (audit, task) = Audit::open(dir.path()).unwrap();
    let second = records(&audit, 2).await.remove(1);
    let expected = AuditRecord {
        id: 2,
        time: second.time,
        request: Uuid::from_u128(2),
        subject: "CN=alice".to_owned(),
        key_sha256: Some([7; 32].into()),
        role: Some(Role::Operator),
        from: "127.0.0.1:9".to_owned(),
        operation: Some(Operation::VolumeDelete),
        object: Some(Uuid::from_u128(5)),
        status: Some(404),
        code: missing,
        ms: second.ms,
    };
    assert_eq!(second, expected);
    assert!(second.time > 1_700_000_000);
    begin(&audit, 3, Operation::VolumeCreate)
        .end(201, None)
        .await;
    assert_eq!(requests(&records(&audit, 3).await), [1, 2, 3]);
    task.stop().await;
}
