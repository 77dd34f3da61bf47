//! `golden/v1` holds a key and a value of each kind in hexadecimal. What a released version
//! wrote must be read for ever; when one of these fails, the schema changed.

use ashlar_protocol::{DhGroup, DhHash, ObjectKind, ProblemCode, Redundancy, Volume, VolumeState};

use super::stored::Versioned;
use super::*;
use crate::domain::outcome::Outcome;

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn thin(number: u64) -> ThinId {
    ThinId::try_from(number).unwrap()
}

fn labels() -> Labels {
    let labels = [("owner".to_owned(), "db team".to_owned())];
    BTreeMap::from(labels).try_into().unwrap()
}

fn portal() -> PortalRecord {
    PortalRecord {
        spec: PortalSpec {
            address: "[2001:db8::7]:4420".parse().unwrap(),
            transport: Transport::NvmeTcp,
        },
        phase: PortalPhase::Removing,
        generation: 12,
    }
}

/// With everything that a volume of the first release did not have.
fn clone_of(volume: &VolumeRecord) -> VolumeRecord {
    VolumeRecord {
        phase: VolumePhase::Reverting,
        labels: labels(),
        parent: Some(Parent::Snapshot(id(7))),
        origin: Some(Origin {
            object: id(8),
            thin_id: thin(11),
        }),
        retired: [ThinRef {
            pool: id(1),
            thin_id: thin(12),
        }]
        .into(),
        group: Some(id(9)),
        ..volume.clone()
    }
}

fn qos() -> Qos {
    Qos {
        read_iops: Some(500),
        total_bytes: Some(100 << 20),
        per_gib: true,
        ..Qos::default()
    }
}

fn snapshot() -> SnapshotRecord {
    SnapshotRecord {
        name: "before".parse().unwrap(),
        labels: labels(),
        volume: id(3),
        pool: id(1),
        thin_id: thin(10),
        origin_thin: thin(9),
        size: 10 << 30,
        phase: SnapshotPhase::Present,
        group: Some(id(10)),
        created: 1_800_000_002,
        generation: 7,
        provisioning: Provisioning::Thin,
        family: None,
    }
}

fn group() -> GroupRecord {
    GroupRecord {
        name: "app".parse().unwrap(),
        phase: GroupPhase::Creating,
        created: 1_800_000_003,
        generation: 8,
    }
}

fn group_snapshot() -> GroupSnapshotRecord {
    GroupSnapshotRecord {
        name: "nightly".parse().unwrap(),
        group: id(9),
        phase: GroupPhase::Deleting,
        created: 1_800_000_004,
        generation: 9,
    }
}

fn samples() -> Vec<(Record, &'static str)> {
    let iqn = "iqn.1993-08.org.debian:01:abc".parse().unwrap();
    let key = "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:".to_owned();
    let pool = PoolRecord {
        spec: PoolSpec {
            metadata_size: Some(64 << 20),
            wipe: true,
            ..PoolSpec::on(
                "fast".parse().unwrap(),
                vec!["wwn-0x5000c500a1b2c3d4".parse().unwrap()],
            )
        },
        block_size: 64 << 10,
        metadata_size: 64 << 20,
        low_water_blocks: 700,
        phase: PoolPhase::Present,
        capacity: Some(900 << 20),
        generation: 3,
        metadata_rooms: Vec::new(),
        growth: None,
        made_on: None,
        sets: Vec::new(),
        replacing: None,
        former: BTreeMap::new(),
        turns: BTreeMap::new(),
        stale: BTreeMap::new(),
        lost: BTreeSet::new(),
        told: Told::default(),
        spares: Vec::new(),
        scrubs: Scrubs::default(),
        catalog: None,
        import: None,
    };
    let mut spared = pool.clone();
    spared.spares = ["serial-E", "serial-F"]
        .map(|disk| disk.parse().unwrap())
        .into();
    let mut larger = pool.clone();
    larger.spec.disks.push("serial-DISK1".parse().unwrap());
    larger.metadata_size = 128 << 20;
    larger.metadata_rooms = vec![64 << 20, 64 << 20];
    larger.made_on = Some(1);
    larger.growth = Some(Growing {
        disks: 1,
        metadata_size: 64 << 20,
        low_water_blocks: 700,
        wipe: false,
        since: 3,
    });
    let mut deleting = pool.clone();
    deleting.phase = PoolPhase::Deleting(Destruction {
        force: false,
        since: 3,
    });
    let mut exchanging = pool.clone();
    exchanging.spec.disks = ["serial-A", "serial-B", "serial-C"]
        .map(|disk| disk.parse().unwrap())
        .into();
    exchanging.spec.redundancy = Redundancy::Raid5;
    exchanging.sets = vec![SetRecord {
        width: 3,
        smallest: 1 << 40,
    }];
    exchanging.replacing = Some(Replacing {
        place: 1,
        by: "serial-D".parse().unwrap(),
        turn: 2,
        wipe: true,
        since: 3,
    });
    exchanging.former = [(2, vec!["serial-Z".parse().unwrap()])].into();
    exchanging.turns = [
        (1, Turns { now: 0, last: 1 }),
        (2, Turns { now: 1, last: 1 }),
    ]
    .into();
    exchanging.stale = [(1, MemberState::Failed)].into();
    exchanging.lost = [1].into();
    let mut promised = pool.clone();
    promised.spec.over_subscription = 2_000;
    promised.spec.reserved = 10;
    let mut filling = pool.clone();
    filling.spec.watermarks.warn = 50;
    filling.told = Told {
        state: Standing::Degraded,
        data: Filled {
            level: PoolLevel::Stop,
            percent: 97,
        },
        metadata: Filled {
            level: PoolLevel::Warn,
            percent: 51,
        },
    };
    let host = HostRecord {
        name: "db 1".parse().unwrap(),
        iqn: Some(iqn),
        nqn: None,
        wwpns: Default::default(),
        authentication: Authentication::Required,
        secrets: HostSecrets {
            dhchap: Some(key.try_into().unwrap()),
            ..HostSecrets::default()
        },
        generation: 4,
        dhchap: DhchapExchange::default(),
    };
    let mutual = HostRecord {
        authentication: Authentication::Mutual,
        dhchap: DhchapExchange {
            hash: DhHash::Sha384,
            group: DhGroup::Ffdhe2048,
        },
        ..host.clone()
    };
    let volume = VolumeRecord {
        name: "data".parse().unwrap(),
        pool: id(1),
        thin_id: ThinId::try_from(9).unwrap(),
        size: 10 << 30,
        growth: Vec::new(),
        phase: VolumePhase::Creating,
        created: 1_800_000_000,
        generation: 5,
        labels: Labels::default(),
        parent: None,
        origin: None,
        retired: BTreeSet::new(),
        owner: None,
        group: None,
        qos: None,
        provisioning: Provisioning::Thin,
        family: None,
        purpose: None,
        moving: None,
    };
    let moving = VolumeRecord {
        phase: VolumePhase::Present,
        moving: Some(Moving {
            job: id(5),
            to: ThinRef {
                pool: id(11),
                thin_id: ThinId::try_from(3).unwrap(),
            },
            base: Some(ThinId::try_from(12).unwrap()),
            copy: Some(ThinId::try_from(13).unwrap()),
            still: true,
        }),
        ..volume.clone()
    };
    let clone = clone_of(&volume);
    let replacing = VolumeRecord {
        phase: VolumePhase::Replacing,
        ..clone.clone()
    };
    let clearing = VolumeRecord {
        phase: VolumePhase::Clearing(Clearing {
            how: Clear::Zero,
            size: Some(1 << 30),
            bandwidth: Some(50 << 20),
            since: 0,
        }),
        ..volume.clone()
    };
    let growing = VolumeRecord {
        phase: VolumePhase::Present,
        growth: vec![Growth {
            generation: 5,
            from: 9 << 30,
        }],
        ..volume.clone()
    };
    let owned = VolumeRecord {
        owner: Some("billing".parse().unwrap()),
        ..volume.clone()
    };
    let limited = VolumeRecord {
        qos: Some(Box::new(qos())),
        provisioning: Provisioning::Thick,
        ..volume.clone()
    };
    let scratch = VolumeRecord {
        purpose: Some(Purpose::Scratch(id(6))),
        ..volume.clone()
    };
    let adopting = VolumeRecord {
        phase: VolumePhase::Adopting,
        family: Some(id(1)),
        ..volume.clone()
    };
    let releasing = VolumeRecord {
        phase: VolumePhase::Releasing,
        ..volume.clone()
    };
    let snapshot = snapshot();
    let thick = SnapshotRecord {
        provisioning: Provisioning::Thick,
        ..snapshot.clone()
    };
    let adopting_snapshot = SnapshotRecord {
        phase: SnapshotPhase::Adopting,
        ..snapshot.clone()
    };
    let releasing_snapshot = SnapshotRecord {
        phase: SnapshotPhase::Releasing,
        ..snapshot.clone()
    };
    let connection = ConnectionRecord {
        of: Connected::Volume(id(3)),
        host: id(2),
        transport: Transport::NvmeTcp,
        phase: ConnectionPhase::Detaching,
        generation: 6,
        access: Access::ReadWrite,
        fc: None,
    };
    let withdrawn = ConnectionRecord {
        phase: ConnectionPhase::Withdrawn,
        ..connection
    };
    let reading = ConnectionRecord {
        transport: Transport::Iscsi,
        phase: ConnectionPhase::Wanted,
        access: Access::ReadOnly,
        ..connection
    };
    let of_snapshot = ConnectionRecord {
        of: Connected::Snapshot(id(7)),
        ..reading
    };
    let object = ObjectRef {
        kind: ObjectKind::Connection,
        id: id(4),
    };
    let request = RequestRecord {
        digest: [7; 32],
        subject: "CN=driver".to_owned(),
        operation: Operation::ConnectionCreate,
        object,
        unit: Some(Unit::Volume(id(3))),
        made: true,
        generation: 6,
        accepted: 1_800_000_001,
        failed: Some(Box::new(
            Problem::new(ProblemCode::InUse, "still used").about(object),
        )),
        work: None,
    };
    let work = RequestRecord {
        operation: Operation::VolumeExtend,
        unit: None,
        failed: None,
        work: Some(WorkRecord {
            phase: WorkPhase::Ended,
            progress: Progress {
                done: 1 << 20,
                total: Some(2 << 20),
            },
            result: Some(JobResult {
                written: Some(1 << 20),
                zeroed: Some(0),
                sha256: Some([0xa5; 32].into()),
                ..JobResult::default()
            }),
        }),
        ..request.clone()
    };
    let rotation = RequestRecord {
        operation: Operation::HostRotate,
        object: Unit::Host(id(2)).object(),
        unit: Some(Unit::Host(id(2))),
        failed: None,
        ..request.clone()
    };
    let answer = Outcome::Volume {
        volume: Volume {
            id: id(3),
            name: "data".parse().unwrap(),
            owner: None,
            group: None,
            pool: id(1),
            size: 10 << 30,
            state: VolumeState::Available,
            connections: 0,
            snapshots: 1,
            parent: Some(Parent::Volume(id(6))),
            labels: labels(),
            qos: Some(qos()),
            provisioning: Provisioning::Thick,
            created: 1_800_000_000,
            generation: 5,
        },
        created: true,
    };
    let ports = [("[::]:4420".parse().unwrap(), PortId::try_from(1).unwrap())];
    let site = BoxRecord {
        id: id(0xb0),
        nvme_ports: ports.into(),
        rdma_ports: Default::default(),
        fc_ports: Default::default(),
        frozen: None,
        firmware: None,
        managed: Default::default(),
        shut: Default::default(),
    };
    let managed = BoxRecord {
        managed: [Transport::Iscsi, Transport::NvmeTcp].into(),
        ..site.clone()
    };
    let frozen = BoxRecord {
        frozen: Some(Frozen {
            since: 1_800_000_002,
            reason: Some("a move".parse().unwrap()),
        }),
        ..site.clone()
    };
    let event = EventRecord {
        time: 1_800_000_003,
        kind: EventKind::new(ObjectKind::Volume, "created"),
        object,
        request: Some(id(5)),
        detail: Some("data".to_owned()),
    };
    vec![
        (Record::Box(site), include_str!("../golden/v1/box.hex")),
        (
            Record::Box(managed),
            include_str!("../golden/v1/box-managed.hex"),
        ),
        (
            Record::Box(frozen),
            include_str!("../golden/v1/box-frozen.hex"),
        ),
        (Record::Clock(77), include_str!("../golden/v1/clock.hex")),
        (
            Record::Pool(id(1), pool),
            include_str!("../golden/v1/pool.hex"),
        ),
        (
            Record::Pool(id(2), promised),
            include_str!("../golden/v1/pool-promised.hex"),
        ),
        (
            Record::Pool(id(3), larger),
            include_str!("../golden/v1/pool-growing.hex"),
        ),
        (
            Record::Pool(id(4), deleting),
            include_str!("../golden/v1/pool-deleting.hex"),
        ),
        (
            Record::Pool(id(5), exchanging),
            include_str!("../golden/v1/pool-replacing.hex"),
        ),
        (
            Record::Pool(id(5), spared),
            include_str!("../golden/v1/pool-spares.hex"),
        ),
        (
            Record::Pool(id(5), filling),
            include_str!("../golden/v1/pool-filling.hex"),
        ),
        (
            Record::ThinCounter(id(1), ThinCounter { next: 10 }),
            include_str!("../golden/v1/thin-counter.hex"),
        ),
        (
            Record::Portal(id(14), portal()),
            include_str!("../golden/v1/portal.hex"),
        ),
        (
            Record::Host(id(2), host),
            include_str!("../golden/v1/host.hex"),
        ),
        (
            Record::Host(id(3), mutual),
            include_str!("../golden/v1/host-mutual.hex"),
        ),
        (
            Record::Group(id(9), group()),
            include_str!("../golden/v1/group.hex"),
        ),
        (
            Record::GroupSnapshot(id(10), group_snapshot()),
            include_str!("../golden/v1/group-snapshot.hex"),
        ),
        (
            Record::Volume(id(3), volume),
            include_str!("../golden/v1/volume.hex"),
        ),
        (
            Record::Volume(id(6), clone),
            include_str!("../golden/v1/volume-reverting.hex"),
        ),
        (
            Record::Volume(id(7), limited),
            include_str!("../golden/v1/volume-limited.hex"),
        ),
        (
            Record::Volume(id(8), growing),
            include_str!("../golden/v1/volume-growing.hex"),
        ),
        (
            Record::Volume(id(9), owned),
            include_str!("../golden/v1/volume-owned.hex"),
        ),
        (
            Record::Volume(id(10), scratch),
            include_str!("../golden/v1/volume-scratch.hex"),
        ),
        (
            Record::Volume(id(11), adopting),
            include_str!("../golden/v1/volume-adopting.hex"),
        ),
        (
            Record::Volume(id(12), releasing),
            include_str!("../golden/v1/volume-releasing.hex"),
        ),
        (
            Record::Volume(id(13), replacing),
            include_str!("../golden/v1/volume-replacing.hex"),
        ),
        (
            Record::Volume(id(14), moving),
            include_str!("../golden/v1/volume-moving.hex"),
        ),
        (
            Record::Volume(id(15), clearing),
            include_str!("../golden/v1/volume-clearing.hex"),
        ),
        (
            Record::Snapshot(id(7), snapshot),
            include_str!("../golden/v1/snapshot.hex"),
        ),
        (
            Record::Snapshot(id(8), thick),
            include_str!("../golden/v1/snapshot-thick.hex"),
        ),
        (
            Record::Snapshot(id(9), adopting_snapshot),
            include_str!("../golden/v1/snapshot-adopting.hex"),
        ),
        (
            Record::Snapshot(id(10), releasing_snapshot),
            include_str!("../golden/v1/snapshot-releasing.hex"),
        ),
        (
            Record::Connection(id(4), connection),
            include_str!("../golden/v1/connection.hex"),
        ),
        (
            Record::Connection(id(9), withdrawn),
            include_str!("../golden/v1/connection-withdrawn.hex"),
        ),
        (
            Record::Connection(id(10), reading),
            include_str!("../golden/v1/connection-read-only.hex"),
        ),
        (
            Record::Connection(id(11), of_snapshot),
            include_str!("../golden/v1/connection-of-snapshot.hex"),
        ),
        (
            Record::Request(id(5), request),
            include_str!("../golden/v1/request.hex"),
        ),
        (
            Record::Request(id(6), work),
            include_str!("../golden/v1/request-work.hex"),
        ),
        (
            Record::Request(id(7), rotation),
            include_str!("../golden/v1/request-rotation.hex"),
        ),
        (
            Record::Answer(id(5), answer),
            include_str!("../golden/v1/answer-limited.hex"),
        ),
        (
            Record::Event(258, event),
            include_str!("../golden/v1/event.hex"),
        ),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.map(byte).collect()
}

#[test]
fn every_kind_is_written_as_schema_1_has_it() {
    for (record, golden) in samples() {
        let written = format!(
            "{}\n{}\n",
            hex(&record.key().bytes()),
            hex(&record.value().unwrap())
        );
        assert_eq!(written, golden, "{:?}", record.key());
    }
}

#[test]
fn every_kind_of_schema_1_is_read() {
    for (record, golden) in samples() {
        let (key, value) = golden.split_once('\n').unwrap();
        let read = Record::parse(&unhex(key), &unhex(value.trim_end())).unwrap();
        assert_eq!(read, record);
    }
}

/// Written before volumes had snapshots, parents and labels.
#[test]
fn an_answer_of_an_older_version_is_read() {
    let golden = include_str!("../golden/v1/answer.hex");
    let (key, value) = golden.split_once('\n').unwrap();
    let read = Record::parse(&unhex(key), &unhex(value.trim_end())).unwrap();
    let Record::Answer(_, Outcome::Volume { volume, created }) = read else {
        panic!("{read:?}")
    };
    assert!(created);
    assert_eq!(
        (volume.id, volume.snapshots, volume.parent),
        (id(3), 0, None)
    );
    assert!(volume.labels.is_empty());
}

/// Written before volumes were limited or thick.
#[test]
fn an_answer_with_a_parent_is_read() {
    let golden = include_str!("../golden/v1/answer-clone.hex");
    let (key, value) = golden.split_once('\n').unwrap();
    let read = Record::parse(&unhex(key), &unhex(value.trim_end())).unwrap();
    let Record::Answer(_, Outcome::Volume { volume, .. }) = read else {
        panic!("{read:?}")
    };
    assert_eq!(volume.parent, Some(Parent::Volume(id(6))));
    assert_eq!(volume.qos, None);
    assert_eq!(volume.provisioning, Provisioning::Thin);
}

#[test]
fn keys_sort_an_object_after_all_it_refers_to() {
    let keys: Vec<_> = samples()
        .iter()
        .map(|(record, _)| record.key().bytes())
        .collect();
    assert!(keys.is_sorted());
}

#[test]
fn a_newer_schema_is_told_from_damage() {
    let key = Key::Clock;
    let newer = ashlar_codec::to_vec(&Versioned {
        v: SCHEMA + 1,
        r: "unheard of",
    })
    .unwrap();
    let error = Record::parse(&key.bytes(), &newer).unwrap_err();
    assert!(
        matches!(error, RecordError::Schema { found: 2, .. }),
        "{error}"
    );
    let error = Record::parse(&key.bytes(), b"\xff").unwrap_err();
    assert!(matches!(error, RecordError::Value { .. }), "{error}");
}

#[test]
fn keys_of_nobody_are_refused() {
    for bad in [
        &b""[..],
        b"\x03",
        b"\x01\x00",
        b"\x10",
        b"\x99aaaaaaaaaaaaaaaa",
        b"\x10short",
    ] {
        assert!(
            matches!(Key::parse(bad), Err(RecordError::Key(_))),
            "{bad:?}"
        );
    }
}

#[test]
fn ports_of_rdma_and_fibre_channel_are_kept() {
    let port = |number: u64| PortId::try_from(number).unwrap();
    let site = BoxRecord {
        id: id(0xb0),
        nvme_ports: [("[::]:4420".parse().unwrap(), port(1))].into(),
        rdma_ports: [("[::]:4420".parse().unwrap(), port(2))].into(),
        fc_ports: [(
            "nn-0x10000025b5aa0c1f:pn-0x20000025b5aa0c1f"
                .parse()
                .unwrap(),
            port(3),
        )]
        .into(),
        frozen: None,
        firmware: None,
        managed: Default::default(),
        shut: Default::default(),
    };
    let record = Record::Box(site);
    let read = Record::parse(&record.key().bytes(), &record.value().unwrap()).unwrap();
    assert_eq!(read, record);
}

#[test]
fn what_a_host_has_over_fibre_channel_is_kept() {
    let connection = ConnectionRecord {
        of: Connected::Volume(id(3)),
        host: id(2),
        transport: Transport::Fc,
        phase: ConnectionPhase::Wanted,
        generation: 6,
        access: Access::ReadWrite,
        fc: Some(FcPlace {
            unit: Lun::try_from(300).unwrap(),
            lun: Lun::try_from(2).unwrap(),
        }),
    };
    let host = HostRecord {
        name: "web".parse().unwrap(),
        iqn: None,
        nqn: None,
        wwpns: ["2100000000000001".parse().unwrap()].into(),
        authentication: Authentication::Required,
        secrets: HostSecrets::default(),
        generation: 5,
        dhchap: DhchapExchange::default(),
    };
    for record in [
        Record::Connection(id(4), connection),
        Record::Host(id(2), host),
    ] {
        let read = Record::parse(&record.key().bytes(), &record.value().unwrap()).unwrap();
        assert_eq!(read, record);
    }
}
