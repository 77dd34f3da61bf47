//! Values of every type that crosses the wire, sparse and full.

use std::fmt::Debug;

use ashlar_codec::{Limits, from_slice, to_vec};
use ashlar_protocol::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// A value as it goes over the wire, and the rule it must fit.
pub struct Sample {
    pub rule: &'static str,
    pub bytes: Vec<u8>,
    pub shown: String,
    /// Whether bytes decode into the sample's type.
    pub decodes: fn(&[u8]) -> bool,
}

fn sample<T>(rule: &'static str, value: T) -> Sample
where
    T: Serialize + DeserializeOwned + Debug + PartialEq,
{
    let bytes = to_vec(&value).unwrap();
    let back: T = from_slice(&bytes, &Limits::default()).unwrap();
    assert_eq!(back, value, "{rule}");
    Sample {
        rule,
        bytes,
        shown: format!("{value:?}"),
        decodes: |bytes| from_slice::<T>(bytes, &Limits::default()).is_ok(),
    }
}

/// The item alone and in lists, where `list` is one.
fn listed<T>(list: &'static str, items: Vec<T>) -> [Sample; 2]
where
    T: Serialize + DeserializeOwned + Debug + PartialEq,
{
    let page = |items, next: Option<&str>| Page {
        items,
        next: next.map(str::to_owned),
    };
    [
        sample(list, page(Vec::<T>::new(), None)),
        sample(list, page(items, Some("c29tZXdoZXJl"))),
    ]
}

/// All samples.
pub fn all() -> Vec<Sample> {
    let mut all = Vec::new();
    all.extend(box_itself());
    all.extend(pools());
    all.extend(volumes());
    all.extend(hosts());
    all.extend(connections());
    all.extend(jobs());
    all
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(0x6ba7_b810_9dad_41d1_80b4_00c0_4fd4_0000 + number)
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn box_itself() -> Vec<Sample> {
    let capabilities = Capabilities {
        transports: vec![Transport::Iscsi, Transport::NvmeTcp],
        volume_granularity: volume::GRANULARITY,
        volume_max: volume::MAX_SIZE,
        online_extend: true,
        multiattach: true,
        page_max: page::MAX_LIMIT as u64,
        body_max: MAX_BODY as u64,
    };
    let system = System {
        id: id(1),
        name: name("box1"),
        version: "0.1.0".to_owned(),
        protocol: 1,
        kernel: Some("6.12.0".to_owned()),
        capabilities,
    };
    let away = System {
        kernel: None,
        ..system.clone()
    };
    let check = |status, detail: Option<&str>| Check {
        name: "store".to_owned(),
        status,
        detail: detail.map(str::to_owned),
    };
    let health = Health {
        status: HealthStatus::Failed,
        checks: vec![
            check(HealthStatus::Ok, None),
            check(HealthStatus::Degraded, Some("slow")),
            check(HealthStatus::Failed, Some("gone")),
        ],
    };
    let blank = Disk {
        id: "serial-DISK0".parse().unwrap(),
        kernel_name: "vda".to_owned(),
        size: 1 << 40,
        rotational: false,
        in_use: false,
        content: None,
        pool: None,
    };
    let taken = Disk {
        id: "wwn-0x5000c500a1b2c3d4".parse().unwrap(),
        in_use: true,
        content: Some("an Ashlar pool".to_owned()),
        pool: Some(id(2)),
        ..blank.clone()
    };
    let mut all = vec![
        sample("system-show-reply", system),
        sample("system-show-reply", away),
        sample("health-show-reply", health),
    ];
    all.extend(listed("disk-list-reply", vec![blank, taken]));
    all
}

fn pools() -> Vec<Sample> {
    let disks = vec!["serial-A".parse().unwrap(), "wwn-0x1".parse().unwrap()];
    let least = PoolSpec {
        name: name("fast"),
        disks: disks.clone(),
        block_size: None,
        metadata_size: None,
        wipe: false,
    };
    let full = PoolSpec {
        block_size: Some(65_536),
        metadata_size: Some(2 << 20),
        wipe: true,
        ..least.clone()
    };
    let pool = |state, used: Option<u64>| Pool {
        id: id(2),
        name: name("fast"),
        disks: disks.clone(),
        block_size: 65_536,
        metadata_size: 2 << 20,
        state,
        capacity: used.map(|used| used * 10),
        used,
        metadata_used: used,
        provisioned: u64::MAX,
        volumes: 3,
        generation: 7,
    };
    let mut all = vec![
        sample("pool-create-request", least),
        sample("pool-create-request", full),
        sample("pool-create-reply", pool(PoolState::Creating, None)),
        sample("pool-show-reply", pool(PoolState::Online, Some(5))),
    ];
    let others = vec![
        pool(PoolState::Offline, None),
        pool(PoolState::Degraded, Some(0)),
    ];
    all.extend(listed("pool-list-reply", others));
    all
}

fn volumes() -> Vec<Sample> {
    let spec = VolumeSpec {
        name: name("Größe 1"),
        pool: id(2),
        size: 1,
    };
    let volume = |state| Volume {
        id: id(3),
        name: name("db"),
        pool: id(2),
        size: 1 << 30,
        state,
        connections: 1,
        created: 1_800_000_000,
        generation: 8,
    };
    let mut all = vec![
        sample("volume-create-request", spec),
        sample("volume-create-reply", volume(VolumeState::Creating)),
        sample("volume-extend-request", ExtendSpec { size: 2 << 30 }),
        sample("volume-extend-reply", volume(VolumeState::Available)),
        sample("volume-show-reply", volume(VolumeState::Deleting)),
    ];
    all.extend(listed(
        "volume-list-reply",
        vec![volume(VolumeState::Available)],
    ));
    all
}

fn secrets() -> HostSecrets {
    let credentials = |name: &str| ChapCredentials {
        name: ChapName::try_from(name.to_owned()).unwrap(),
        secret: ChapSecret::try_from("abcdefghijkl".to_owned()).unwrap(),
    };
    let key = |hash: &str, length: usize| {
        let key = format!("DHHC-1:{hash}:{}:", "A".repeat(length));
        DhchapKey::try_from(key).unwrap()
    };
    HostSecrets {
        chap: Some(credentials("web")),
        chap_mutual: Some(credentials("box1")),
        dhchap: Some(key("00", 48)),
        dhchap_controller: Some(key("03", 92)),
    }
}

fn hosts() -> Vec<Sample> {
    let least = HostSpec {
        name: name("web"),
        iqn: None,
        nqn: None,
        authentication: Authentication::Required,
        secrets: HostSecrets::default(),
    };
    let full = HostSpec {
        iqn: Some("iqn.1993-08.org.debian:01:abc".parse().unwrap()),
        nqn: Some("nqn.2014-08.org.nvmexpress:uuid:x".parse().unwrap()),
        authentication: Authentication::None,
        secrets: secrets(),
        ..least.clone()
    };
    let host = |spec: &HostSpec| Host {
        id: id(4),
        name: spec.name.clone(),
        iqn: spec.iqn.clone(),
        nqn: spec.nqn.clone(),
        authentication: spec.authentication,
        connections: 0,
        generation: 9,
    };
    let created = |spec: &HostSpec| HostCreated {
        host: host(spec),
        secrets: spec.secrets.clone(),
    };
    let mut all = vec![
        sample("host-create-reply", created(&least)),
        sample("host-create-reply", created(&full)),
        sample("host-show-reply", host(&full)),
    ];
    all.extend(listed("host-list-reply", vec![host(&least), host(&full)]));
    all.push(sample("host-create-request", least));
    all.push(sample("host-create-request", full));
    all
}

fn connections() -> Vec<Sample> {
    let spec = |transport| ConnectionSpec {
        volume: id(3),
        host: id(4),
        transport,
    };
    let portals: Vec<PortalAddr> = vec![
        "192.0.2.7:3260".parse().unwrap(),
        "[2001:db8::1]:4420".parse().unwrap(),
    ];
    let connection = |transport, state| Connection {
        id: id(5),
        volume: id(3),
        host: id(4),
        transport,
        state,
        iscsi: None,
        nvme: None,
        generation: 10,
    };
    let iscsi = Connection {
        iscsi: Some(IscsiAccess {
            target: "iqn.2026-11.io.ashlar:0:1".parse().unwrap(),
            lun: Lun::try_from(0).unwrap(),
            portals: portals.clone(),
            serial: "6ba7b810".to_owned(),
        }),
        ..connection(Transport::Iscsi, ConnectionState::Ready)
    };
    let nvme = Connection {
        nvme: Some(NvmeAccess {
            subsystem: "nqn.2026-11.io.ashlar:0:1".parse().unwrap(),
            nsid: Nsid::try_from(1).unwrap(),
            uuid: id(3),
            portals,
        }),
        ..connection(Transport::NvmeTcp, ConnectionState::Attaching)
    };
    let mut all = vec![
        sample("connection-create-request", spec(Transport::Iscsi)),
        sample("connection-create-request", spec(Transport::NvmeTcp)),
        sample("connection-create-reply", iscsi.clone()),
        sample("connection-show-reply", nvme),
    ];
    let leaving = connection(Transport::Iscsi, ConnectionState::Detaching);
    all.extend(listed("connection-list-reply", vec![iscsi, leaving]));
    all
}

fn jobs() -> Vec<Sample> {
    let kinds = [
        ObjectKind::Pool,
        ObjectKind::Volume,
        ObjectKind::Host,
        ObjectKind::Connection,
        ObjectKind::Job,
    ];
    let job = |kind, state, problem| Job {
        id: id(6),
        operation: Operation::VolumeDelete,
        object: ObjectRef { kind, id: id(3) },
        state,
        problem,
        created: 1_800_000_000,
    };
    let problem = Problem::new(ProblemCode::InUse, "it is").about(ObjectRef {
        kind: ObjectKind::Volume,
        id: id(3),
    });
    let running = kinds.map(|kind| job(kind, JobState::Running, None));
    let failed = job(ObjectKind::Volume, JobState::Failed, Some(problem.clone()));
    let done = job(ObjectKind::Volume, JobState::Succeeded, None);
    let mut all = vec![
        sample("job-show-reply", failed),
        sample("job-show-reply", done),
        sample("problem", problem),
        sample("problem", Problem::new(ProblemCode::Busy, "")),
    ];
    all.extend(listed("job-list-reply", running.into()));
    all
}
