//! Portals: made, gone, late, and last.

use std::net::IpAddr;

use ashlar_protocol::{
    ConnectionState, HealthStatus, PortalSpec, PortalState, ProblemCode, Transport,
};
use ashlar_targetd_protocol::{FailureKind, PortalAddr, Request};

use super::rig::*;
use crate::domain::record::Unit;
use crate::engine::{Command, Outcome, PageQuery};
use crate::targetd::fake::Behaviour;

const MIB: u64 = 1 << 20;

fn at(text: &str) -> PortalAddr {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn portal(n: u128, address: &str, transport: Transport) -> Command {
    let address = at(address);
    Command::PortalCreate {
        id: id(n),
        spec: PortalSpec { address, transport },
    }
}

fn remove(n: u128, force: bool) -> Command {
    Command::PortalDelete { id: id(n), force }
}

/// A volume that is connected over NVMe/TCP, at what the configuration says.
async fn connected() -> Rig {
    let rig = Rig::furnished().await;
    rig.outcome(volume(id(1), MIB)).await;
    rig.outcome(attach(id(2), id(1), HOST, Transport::NvmeTcp))
        .await;
    rig
}

fn nvme_addresses(rig: &Rig) -> Vec<PortalAddr> {
    let desired = rig.fake.last_applied(id(1)).unwrap();
    let ports = desired.exports.nvme.unwrap().ports;
    ports.values().filter_map(|port| port.address()).collect()
}

async fn told(rig: &Rig) -> Vec<PortalAddr> {
    let connection = rig.engine.connection(id(2)).await.unwrap();
    connection.nvme.unwrap().portals
}

#[tokio::test]
async fn a_portal_comes_to_all_that_is_connected_and_goes_again() {
    let rig = connected().await;
    let new = rig
        .outcome(portal(8, "10.0.0.8:4421", Transport::NvmeTcp))
        .await;
    let Outcome::Portal {
        portal: new,
        created,
    } = new
    else {
        panic!("{new:?}")
    };
    assert!(created);
    assert_eq!((new.state, new.configured), (PortalState::Ready, false));
    assert_eq!(
        nvme_addresses(&rig),
        [at("0.0.0.0:4420"), at("10.0.0.8:4421")]
    );
    assert_eq!(
        told(&rig).await,
        [at("192.0.2.1:4420"), at("10.0.0.8:4421")]
    );

    // What the file says is there as well, and not to be taken away by request.
    let all = rig
        .engine
        .portals(&PageQuery::default())
        .await
        .unwrap()
        .items;
    let addresses: Vec<_> = all
        .iter()
        .map(|portal| (portal.transport, portal.configured))
        .collect();
    assert_eq!(addresses.len(), 3);
    let of_file = all.iter().find(|portal| portal.configured).unwrap();
    let refused = rig
        .ask(remove(of_file.id.as_u128(), false))
        .await
        .unwrap_err();
    assert_eq!(refused.code, ProblemCode::WrongState, "{refused}");

    let rig = rig.kill().await;
    settled(&rig.engine, Unit::Portal(id(8))).await;
    assert_eq!(
        nvme_addresses(&rig),
        [at("0.0.0.0:4420"), at("10.0.0.8:4421")]
    );
    assert_eq!(rig.outcome(remove(8, false)).await, Outcome::Removed);
    assert_eq!(nvme_addresses(&rig), [at("0.0.0.0:4420")]);
    let gone = rig.engine.portal(id(8)).await.unwrap_err();
    assert_eq!(gone.code, ProblemCode::NotFound);
    let last = rig.engine.portal(of_file.id).await.unwrap();
    assert_eq!(last.state, PortalState::Ready);
}

#[tokio::test]
async fn a_late_address_waits_and_is_served_as_soon_as_the_kernel_tells() {
    let rig = connected().await;
    rig.fake.kernel().absent.insert(ip("10.0.0.8"));
    let late = rig
        .outcome(portal(8, "10.0.0.8:4421", Transport::NvmeTcp))
        .await;
    let Outcome::Portal { portal: late, .. } = late else {
        panic!("{late:?}")
    };
    assert_eq!(late.state, PortalState::Waiting, "{late:?}");
    // The others serve, and are told first.
    let connection = rig.engine.connection(id(2)).await.unwrap();
    assert_eq!(connection.state, ConnectionState::Ready);
    assert_eq!(
        told(&rig).await,
        [at("192.0.2.1:4420"), at("10.0.0.8:4421")]
    );
    let health = rig.engine.health([]).await;
    let check = health
        .checks
        .iter()
        .find(|check| check.name == "portals")
        .unwrap();
    assert_eq!(check.status, HealthStatus::Degraded);
    assert!(
        check.detail.as_ref().unwrap().contains("10.0.0.8"),
        "{check:?}"
    );

    // Nobody asks for it meanwhile.
    let applied = || rig.fake.kernel().calls.len();
    let before = applied();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(applied(), before);

    rig.fake.kernel().absent.clear();
    rig.fake.change();
    becomes(async || rig.engine.portal(id(8)).await.unwrap().state == PortalState::Ready).await;
    becomes(async || applied() > before).await;
    let health = rig.engine.health([]).await;
    assert_eq!(health.status, HealthStatus::Ok, "{health:?}");
}

#[tokio::test]
async fn a_volume_that_has_no_address_yet_is_attached_when_one_comes() {
    let rig = Rig::furnished().await;
    rig.outcome(volume(id(1), MIB)).await;
    rig.fake.kernel().absent.insert(ip("0.0.0.0"));
    rig.fake.change();
    let asked = attach(id(2), id(1), HOST, Transport::NvmeTcp);
    let request = uuid::Uuid::new_v4();
    let accepted = rig
        .ask_as(request, asked.clone(), std::time::Duration::ZERO)
        .await;
    assert!(
        matches!(accepted, Ok(crate::engine::Answer::Accepted(_))),
        "{accepted:?}"
    );
    becomes(async || {
        rig.engine
            .shared
            .ledger
            .problem(Unit::Volume(id(1)))
            .is_some()
    })
    .await;
    rig.fake.kernel().absent.clear();
    rig.fake.change();
    settled(&rig.engine, Unit::Volume(id(1))).await;
    let connection = rig.engine.connection(id(2)).await.unwrap();
    assert_eq!(connection.state, ConnectionState::Ready);
}

#[tokio::test]
async fn the_last_portal_goes_only_by_force_and_takes_its_hosts_along() {
    let rig = Rig::furnished().await;
    rig.outcome(volume(id(1), MIB)).await;
    // The first takes the place of what is usual.
    rig.outcome(portal(8, "10.0.0.8:3260", Transport::Iscsi))
        .await;
    assert_eq!(rig.fake.kernel().released, [at("0.0.0.0:3260")]);
    rig.outcome(attach(id(2), id(1), HOST, Transport::Iscsi))
        .await;
    rig.outcome(attach(id(3), id(1), OTHER_HOST, Transport::NvmeTcp))
        .await;
    let exports = || rig.fake.last_applied(id(1)).unwrap();
    assert_eq!(
        exports().exports.iscsi.unwrap().portals,
        [at("10.0.0.8:3260")].into()
    );
    let refused = rig.ask(remove(8, false)).await.unwrap_err();
    assert_eq!(refused.code, ProblemCode::InUse, "{refused}");
    assert!(refused.detail.contains("1 connection"), "{refused}");

    rig.outcome(remove(8, true)).await;
    let last = exports();
    assert_eq!(last.exports.iscsi, None);
    assert_eq!(last.cut.iscsi.len(), 1);
    assert!(last.exports.nvme.is_some() && last.cut.nvme.is_empty());
    let state = async |n| rig.engine.connection(id(n)).await.unwrap().state;
    assert_eq!(state(2).await, ConnectionState::Attaching);
    assert_eq!(state(3).await, ConnectionState::Ready);
    let health = rig.engine.health([]).await;
    assert_eq!(health.status, HealthStatus::Degraded);
    assert_eq!(
        rig.fake.kernel().released.last(),
        Some(&at("10.0.0.8:3260"))
    );

    // The next one brings them back, and the usual one never does.
    rig.outcome(portal(9, "[2001:db8::9]:3260", Transport::Iscsi))
        .await;
    assert_eq!(state(2).await, ConnectionState::Ready);
    let iscsi = exports().exports.iscsi.unwrap();
    assert_eq!(iscsi.portals, [at("[2001:db8::9]:3260")].into());
}

#[tokio::test]
async fn a_portal_that_cannot_go_from_a_volume_yet_says_so_and_goes_on() {
    let rig = connected().await;
    rig.outcome(portal(8, "10.0.0.8:4421", Transport::NvmeTcp))
        .await;
    let applies = |request: &Request| matches!(request, Request::ApplyVolume(_));
    rig.fake
        .rule(1, Behaviour::Fail(FailureKind::Refused), applies);
    let refused = rig.ask(remove(8, false)).await.unwrap_err();
    assert!(refused.detail.contains("not everywhere yet"), "{refused}");
    becomes(async || rig.engine.portal(id(8)).await.is_err()).await;
    assert_eq!(nvme_addresses(&rig), [at("0.0.0.0:4420")]);
}
