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
    begin(3).end(200, None).await;
    assert_eq!(requests(&records(&audit, 1).await), [3]);
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
