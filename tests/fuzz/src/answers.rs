//! Reply bodies, as a client decodes them.

use ashlar_codec::Limits;
use ashlar_protocol::{
    Access, AuditRecord, Capabilities, Check, Connection, ConnectionState, Disk, Event, EventKind,
    Extent, ExtentKind, FcAccess, Frozen, Health, HealthStatus, Host, HostCreated, HostSecrets,
    IoCounters, IscsiAccess, Job, JobResult, JobState, Member, MemberState, NvmeAccess, Operation,
    Page, Parent, Pool, PoolLevel, PoolSet, PoolState, PoolStatistics, Portal, PortalState,
    Problem, ProblemCode, Progress, Provisioning, Redundancy, Replacement, Role, Scrubbed,
    SetAction, Snapshot, SnapshotState, System, ThinDevice, Transport, Unadoptable, Usage, Volume,
    VolumeState, VolumeStatistics, Watermarks,
};

use crate::round_trip::round_trip;
use crate::seed::{self, cbor, id, word};

const LIMITS: Limits = Limits {
    bytes: 4 << 20,
    depth: 16,
};

/// Decodes the bytes as every kind of answer.
///
/// # Panics
/// When an answer decodes and does not survive the way out and back.
pub fn run(data: &[u8]) {
    round_trip::<Problem>(data, &LIMITS);
    round_trip::<System>(data, &LIMITS);
    round_trip::<Health>(data, &LIMITS);
    round_trip::<Page<Disk>>(data, &LIMITS);
    round_trip::<Page<Pool>>(data, &LIMITS);
    round_trip::<Page<Volume>>(data, &LIMITS);
    round_trip::<Page<Snapshot>>(data, &LIMITS);
    round_trip::<VolumeStatistics>(data, &LIMITS);
    round_trip::<PoolStatistics>(data, &LIMITS);
    round_trip::<Usage>(data, &LIMITS);
    round_trip::<Page<Extent>>(data, &LIMITS);
    round_trip::<Page<ThinDevice>>(data, &LIMITS);
    round_trip::<Page<Portal>>(data, &LIMITS);
    round_trip::<HostCreated>(data, &LIMITS);
    round_trip::<Connection>(data, &LIMITS);
    round_trip::<Job>(data, &LIMITS);
    round_trip::<Page<Event>>(data, &LIMITS);
    round_trip::<Page<AuditRecord>>(data, &LIMITS);
}

/// One of each.
pub fn seeds() -> Vec<Vec<u8>> {
    let problem = Problem::new(ProblemCode::InUse, "volume 7 has 2 connections");
    let problem = problem.about(seed::object());
    vec![
        cbor(&problem),
        // As others write it: a language tag, an unknown standard key, a foreign entry.
        b"\xa4\x21\x62hi\x26\x62en\x63key\x01\x72urn:ashlar:problem\xa2\x64code\x68not-blank\x69retryable\xf4".to_vec(),
        cbor(&system()),
        cbor(&Health {
            status: HealthStatus::Degraded,
            checks: vec![Check {
                name: "targetd".to_owned(),
                status: HealthStatus::Failed,
                detail: Some("not connected".to_owned()),
            }],
        }),
        cbor(&page(disk())),
        cbor(&page(pool())),
        cbor(&page(volume())),
        cbor(&VolumeStatistics {
            id: id(7),
            active: true,
            used: Some(1 << 20),
            io: Some(IoCounters::default()),
        }),
        cbor(&PoolStatistics {
            id: id(1),
            capacity: Some(1 << 33),
            used: Some(1 << 20),
            metadata_used: Some(4096),
            data: Some(IoCounters::default()),
            metadata: None,
            provisioned: 1 << 34,
            thick: 0,
        }),
        cbor(&page(snapshot())),
        cbor(&Usage {
            size: 1 << 30,
            used: 128 << 10,
            shared: Some(64 << 10),
        }),
        cbor(&page(ThinDevice {
            thin_id: 7,
            used: 64 << 10,
            end: 1 << 20,
            volume: Some(id(2)),
            snapshot: None,
            adoptable: false,
            reason: Some(Unadoptable::Owned),
        })),
        cbor(&page(Extent {
            offset: 1 << 20,
            length: 64 << 10,
            kind: ExtentKind::Hole,
        })),
        cbor(&page(portal())),
        cbor(&HostCreated {
            host: host(),
            secrets: HostSecrets {
                chap: Some(seed::chap()),
                dhchap: Some(seed::dhchap()),
                ..HostSecrets::default()
            },
        }),
        cbor(&connection()),
        cbor(&page(Event {
            id: 17,
            time: 1_790_000_000,
            kind: EventKind::new(seed::object().kind, "create-failed"),
            object: seed::object(),
            request: Some(id(9)),
            detail: Some("no room".to_owned()),
        })),
        cbor(&page(AuditRecord {
            id: 17,
            time: 1_790_000_000,
            request: id(9),
            subject: "CN=alice".to_owned(),
            key_sha256: Some([7; 32].into()),
            role: Some(Role::Operator),
            from: "192.0.2.1:50000".to_owned(),
            operation: Some(Operation::VolumeCreate),
            object: Some(id(3)),
            status: Some(409),
            code: Some(ProblemCode::InUse),
            ms: 12,
        })),
        cbor(&Job {
            id: id(9),
            operation: Operation::VolumeCreate,
            object: seed::object(),
            state: JobState::Failed,
            problem: Some(problem),
            progress: Some(Progress {
                done: 7,
                total: Some(9),
            }),
            result: Some(JobResult {
                written: Some(7),
                zeroed: None,
                left: Some(2),
                sha256: Some([7; 32].into()),
            }),
            created: 1_790_000_000,
        }),
    ]
}

fn page<T>(item: T) -> Page<T> {
    Page {
        items: vec![item],
        next: Some("a6e4EJ2tQdGAtADAT9QwAQ".to_owned()),
    }
}

fn system() -> System {
    System {
        id: id(0),
        name: word("box1"),
        version: "0.1.0".to_owned(),
        protocol: 1,
        kernel: Some("6.12".to_owned()),
        capabilities: Capabilities {
            transports: Transport::ALL.into(),
            volume_granularity: 1 << 20,
            volume_max: 1 << 48,
            online_extend: true,
            multiattach: true,
            qos: true,
            page_max: 1000,
            body_max: 65_536,
        },
        frozen: Some(Frozen {
            since: 1_790_000_000,
            reason: Some(word("moving")),
        }),
    }
}

fn disk() -> Disk {
    Disk {
        id: word("serial-A1"),
        kernel_name: "vdb".to_owned(),
        size: 1 << 33,
        rotational: false,
        in_use: true,
        content: Some("an XFS file system".to_owned()),
        pool: Some(id(1)),
    }
}

fn pool() -> Pool {
    Pool {
        id: id(1),
        name: word("fast"),
        disks: vec![word("serial-A1")],
        redundancy: Redundancy::Raid1,
        members: vec![Member {
            disk: word("serial-A1"),
            set: 0,
            state: MemberState::Rebuilding,
        }],
        sets: vec![PoolSet {
            action: SetAction::Rebuild,
            done: 1 << 20,
            total: 1 << 33,
            mismatches: 0,
        }],
        spares: vec![word("serial-A3")],
        replacing: Some(Replacement {
            disk: word("serial-A1"),
            by: word("serial-A2"),
        }),
        block_size: 65_536,
        metadata_size: 2 << 20,
        state: PoolState::Online,
        capacity: Some(1 << 33),
        used: Some(1 << 20),
        metadata_used: Some(4096),
        provisioned: 1 << 34,
        thick: 1 << 30,
        over_subscription: 2_000,
        reserved: 10,
        level: PoolLevel::Warn,
        watermarks: Watermarks::default(),
        scrub_days: 30,
        scrubbed: Some(Scrubbed {
            time: 1_800_000_000,
            mismatches: 4096,
        }),
        volumes: 3,
        snapshots: 1,
        generation: 12,
    }
}

fn volume() -> Volume {
    Volume {
        id: id(7),
        name: word("db1"),
        owner: Some(word("billing")),
        group: Some(id(23)),
        pool: id(1),
        size: 1 << 30,
        state: VolumeState::Available,
        connections: 2,
        snapshots: 1,
        parent: Some(Parent::Volume(id(4))),
        labels: seed::labels(),
        qos: seed::volume().qos,
        provisioning: Provisioning::Thick,
        created: 1_790_000_000,
        generation: 13,
    }
}

fn snapshot() -> Snapshot {
    Snapshot {
        id: id(6),
        name: word("before"),
        volume: id(7),
        pool: id(1),
        size: 1 << 30,
        state: SnapshotState::Available,
        labels: seed::labels(),
        group: Some(id(8)),
        created: 1_790_000_000,
        generation: 16,
    }
}

fn portal() -> Portal {
    let spec = seed::portal();
    Portal {
        id: id(6),
        address: spec.address,
        transport: spec.transport,
        configured: false,
        state: PortalState::Waiting,
        detail: Some("no interface has it".to_owned()),
        generation: 14,
    }
}

fn host() -> Host {
    let spec = seed::host();
    Host {
        id: id(3),
        name: spec.name,
        iqn: spec.iqn,
        nqn: spec.nqn,
        wwpns: spec.wwpns,
        authentication: spec.authentication,
        dhchap: spec.dhchap,
        connections: 1,
        generation: 14,
    }
}

fn connection() -> Connection {
    Connection {
        id: id(5),
        volume: None,
        snapshot: Some(id(7)),
        host: id(3),
        transport: Transport::Iscsi,
        access: Access::ReadOnly,
        state: ConnectionState::Ready,
        iscsi: Some(IscsiAccess {
            target: word("iqn.2026-11.io.ashlar:box:7"),
            lun: 0.try_into().expect("a LUN"),
            portals: vec![word("192.0.2.1:3260")],
            serial: "6ba7b810".to_owned(),
        }),
        fc: Some(FcAccess {
            ports: vec![word("20000025b5aa0c1f")],
            lun: 2.try_into().expect("a LUN"),
            serial: "6ba7b810".to_owned(),
        }),
        nvme: Some(NvmeAccess {
            subsystem: word("nqn.2026-11.io.ashlar:box:7"),
            nsid: 1.try_into().expect("a namespace"),
            uuid: id(7),
            portals: vec![word("[2001:db8::1]:4420")],
            fc_ports: vec![word("nn-0x10000025b5aa0c1f:pn-0x20000025b5aa0c1f")],
        }),
        generation: 15,
    }
}
