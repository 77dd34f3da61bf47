//! The client library and the agent together.

use std::time::Duration;

use ashlar_ctl::client::{HttpVersion, PageQuery};
use ashlar_ctl::{Change, Client};
use ashlar_protocol::{
    Connected, ConnectionSpec, ConnectionState, ExtendSpec, HostSpec, JobState, ObjectKind,
    PoolState, ProblemCode, Transport, VolumeState,
};
use uuid::Uuid;

use ashlar_inprocess::{Appliance, volume};

fn host(iqn: &str) -> HostSpec {
    HostSpec {
        name: "web".parse().unwrap(),
        iqn: Some(iqn.parse().unwrap()),
        nqn: Some("nqn.2026-11.io.example:web".parse().unwrap()),
        wwpns: Default::default(),
        authentication: Default::default(),
        dhchap: Default::default(),
        secrets: Default::default(),
    }
}

/// Every resource from birth to death.
async fn live(client: Client, pool: Uuid) {
    let (id, host_id, connection_id) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let made = client.volume_create(id, &volume(pool)).await.unwrap();
    let made = made.done().unwrap();
    assert_eq!((made.size, made.state), (1 << 30, VolumeState::Available));

    let spec = host("iqn.2026-11.io.example:web");
    let made = client.host_create(host_id, &spec).await.unwrap();
    let made = made.done().unwrap();
    assert!(made.secrets.chap.is_some() && made.secrets.dhchap.is_some());
    let again = client.host_create(host_id, &spec).await.unwrap();
    let Change::Done { value, created } = again else {
        panic!("a host needs no kernel");
    };
    assert!(!created && value.secrets.chap.is_none());

    let spec = ConnectionSpec {
        of: Connected::Volume(id),
        host: host_id,
        transport: Transport::NvmeTcp,
        access: Default::default(),
    };
    client
        .connection_create(connection_id, &spec)
        .await
        .unwrap();
    let shown = client.connection_show(connection_id).await.unwrap();
    assert_eq!(shown.state, ConnectionState::Ready);
    assert_eq!(shown.nvme.unwrap().uuid, id);
    assert_eq!(client.connections_of(id).await.unwrap().len(), 1);

    let refused = client.volume_delete(id).await.unwrap_err();
    let problem = refused.problem().unwrap();
    assert_eq!(problem.code, ProblemCode::InUse);
    assert_eq!(problem.object.unwrap().kind, ObjectKind::Volume);

    let grown = ExtendSpec { size: 2 << 30 };
    let grown = client.volume_extend(id, &grown).await.unwrap();
    assert_eq!(grown.done().unwrap().size, 2 << 30);

    client.volume_detach_all(id).await.unwrap();
    let gone = client.connection_show(connection_id).await.unwrap_err();
    assert_eq!(gone.problem().unwrap().code, ProblemCode::NotFound);
    client.host_delete(host_id).await.unwrap();
    client.volume_delete(id).await.unwrap();
    assert_eq!(client.volume_list().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_over_both_versions_of_http() {
    let appliance = Appliance::start().await;
    let pool = appliance.pool().await;
    for version in [HttpVersion::H2, HttpVersion::H1] {
        let client = appliance.client_over("operator", version);
        live(client.clone(), pool).await;
        assert_eq!(client.connections_made(), 1, "{version:?}");
    }
    let client = appliance.client("reader");
    let pools = client.pool_list().await.unwrap();
    assert_eq!(pools.len(), 1);
    assert_eq!(pools[0].state, PoolState::Online);
    assert_eq!(client.system_show().await.unwrap().name.as_str(), "box1");
    assert_eq!(client.disk_list().await.unwrap().len(), 3);
    client.health_show().await.unwrap();
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_share_one_connection() {
    let appliance = Appliance::start().await;
    let pool = appliance.pool().await;
    let client = appliance.client("operator");
    let mut creations = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let client = client.clone();
        creations.spawn(async move { client.volume_create(Uuid::new_v4(), &volume(pool)).await });
    }
    for change in creations.join_all().await {
        assert!(matches!(
            change.unwrap(),
            Change::Done { created: true, .. }
        ));
    }
    assert_eq!(client.connections_made(), 1);
    assert_eq!(client.volume_list().await.unwrap().len(), 32);
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_over_http_1_take_a_connection_each_and_keep_them() {
    let appliance = Appliance::start().await;
    let client = appliance.client_over("reader", HttpVersion::H1);
    for _ in 0..2 {
        let mut looks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let client = client.clone();
            looks.spawn(async move { client.system_show().await });
        }
        for look in looks.join_all().await {
            look.unwrap();
        }
    }
    assert!(
        client.connections_made() <= 9,
        "{}",
        client.connections_made()
    );
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_gets_the_same_answer_and_another_is_a_conflict() {
    let appliance = Appliance::start().await;
    let pool = appliance.pool().await;
    let (id, client) = (Uuid::new_v4(), appliance.client("operator"));
    let client = client.under(Uuid::new_v4());
    let first = client.volume_create(id, &volume(pool)).await.unwrap();
    assert!(matches!(first, Change::Done { created: true, .. }));
    let second = client.volume_create(id, &volume(pool)).await.unwrap();
    assert_eq!(first, second);

    let other = ashlar_protocol::VolumeSpec {
        size: Some(5 << 30),
        ..volume(pool)
    };
    for (id, spec) in [(id, &other), (Uuid::new_v4(), &volume(pool))] {
        let refused = client.volume_create(id, spec).await.unwrap_err();
        assert_eq!(
            refused.problem().unwrap().code,
            ProblemCode::RequestIdReused
        );
    }
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_longer_than_the_wait_is_a_job() {
    let appliance = Appliance::start().await;
    let pool = appliance.pool().await;
    let (id, client) = (Uuid::new_v4(), appliance.client("operator"));
    appliance.kernel.hold();
    let request = Uuid::new_v4();
    let hasty = client.waiting(Duration::ZERO).under(request);
    let change = hasty.volume_create(id, &volume(pool)).await.unwrap();
    let Change::Accepted(job) = change else {
        panic!("{change:?}");
    };
    assert_eq!((job.id, job.state), (request, JobState::Running));
    let shown = client.volume_show(id).await.unwrap();
    assert_eq!(shown.state, VolumeState::Creating);

    appliance.kernel.release();
    let mut looks = 0;
    let done = client.job_wait(job, |_| looks += 1).await.unwrap();
    assert_eq!(done.state, JobState::Succeeded);
    assert!(looks >= 2);
    let shown = client.volume_show(id).await.unwrap();
    assert_eq!(shown.state, VolumeState::Available);
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_survives_the_loss_of_a_kept_connection() {
    let appliance = Appliance::start().await;
    let pool = appliance.pool().await;
    for version in [HttpVersion::H2, HttpVersion::H1] {
        let client = appliance.client_over("operator", version);
        client.system_show().await.unwrap();
        assert_eq!(client.connections_made(), 1);
    }
    let clients = [HttpVersion::H2, HttpVersion::H1].map(|v| appliance.client_over("operator", v));
    for client in &clients {
        client.system_show().await.unwrap();
    }
    let appliance = appliance.restart().await;
    for client in &clients {
        let made = client.volume_create(Uuid::new_v4(), &volume(pool)).await;
        assert!(matches!(made.unwrap(), Change::Done { created: true, .. }));
        assert_eq!(client.connections_made(), 2);
    }
    assert_eq!(clients[0].volume_list().await.unwrap().len(), 2);
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_walked_page_by_page() {
    let appliance = Appliance::start().await;
    let client = appliance.client("operator");
    for n in 0..5 {
        let mut spec = host(&format!("iqn.2026-11.io.example:web{n}"));
        spec.nqn = None;
        client.host_create(Uuid::new_v4(), &spec).await.unwrap();
    }
    let mut query = PageQuery {
        after: None,
        limit: Some(2),
    };
    let (mut seen, mut pages) = (Vec::new(), Vec::new());
    loop {
        let page = client.host_page(&query).await.unwrap();
        pages.push(page.items.len());
        seen.extend(page.items);
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    assert_eq!(pages, [2, 2, 1]);
    assert_eq!(seen, client.host_list().await.unwrap());
    appliance.stop().await;
}
