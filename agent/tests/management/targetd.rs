//! A targetd that goes away and comes back.

use std::time::Duration;

use ashlar_protocol::ProblemCode;
use uuid::Uuid;

use ashlar_inprocess::{Appliance, volume};

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_targetd_waits_for_one_that_is_being_started_again() {
    let mut appliance = Appliance::start().await;
    let pool = appliance.pool().await;
    let client = appliance.client("operator");
    appliance.stop_targetd().await;
    let hasty = client.waiting(Duration::ZERO);
    let refused = hasty.volume_create(Uuid::new_v4(), &volume(pool)).await;
    let refused = refused.unwrap_err();
    let problem = refused.problem().unwrap();
    assert_eq!(problem.code, ProblemCode::TargetdUnavailable);
    assert!(problem.retryable);

    let (id, spec) = (Uuid::new_v4(), volume(pool));
    let disks = client.disk_list();
    let create = client.volume_create(id, &spec);
    let start = async { appliance.start_targetd() };
    let (created, disks, ()) = tokio::join!(create, disks, start);
    created.unwrap();
    disks.unwrap();
    assert_eq!(client.volume_show(id).await.unwrap().id, id);
    appliance.stop().await;
}
