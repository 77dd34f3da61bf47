//! `golden/v1` holds a key and a value of each kind in hexadecimal. What a released version
//! wrote must be read for ever; when one of these fails, the schema changed.

use ashlar_protocol::{ObjectKind, ProblemCode, Volume, VolumeState};

use super::stored::Versioned;
use super::*;
use crate::domain::outcome::Outcome;

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn samples() -> Vec<(Record, &'static str)> {
    let iqn = "iqn.1993-08.org.debian:01:abc".parse().unwrap();
    let key = "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:".to_owned();
    let pool = PoolRecord {
        spec: PoolSpec {
            name: "fast".parse().unwrap(),
            disks: vec!["wwn-0x5000c500a1b2c3d4".parse().unwrap()],
            block_size: None,
            metadata_size: Some(64 << 20),
            wipe: true,
        },
        block_size: 64 << 10,
        metadata_size: 64 << 20,
        low_water_blocks: 700,
        phase: PoolPhase::Present,
        capacity: Some(900 << 20),
        generation: 3,
    };
    let host = HostRecord {
        name: "db 1".parse().unwrap(),
        iqn: Some(iqn),
        nqn: None,
        authentication: Authentication::Required,
        secrets: HostSecrets {
            dhchap: Some(key.try_into().unwrap()),
            ..HostSecrets::default()
        },
        generation: 4,
    };
    let volume = VolumeRecord {
        name: "data".parse().unwrap(),
        pool: id(1),
        thin_id: ThinId::try_from(9).unwrap(),
        size: 10 << 30,
        phase: VolumePhase::Creating,
        created: 1_800_000_000,
        generation: 5,
    };
    let connection = ConnectionRecord {
        volume: id(3),
        host: id(2),
        transport: Transport::NvmeTcp,
        phase: ConnectionPhase::Detaching,
        generation: 6,
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
    };
    let answer = Outcome::Volume {
        volume: Volume {
            id: id(3),
            name: "data".parse().unwrap(),
            pool: id(1),
            size: 10 << 30,
            state: VolumeState::Available,
            connections: 0,
            created: 1_800_000_000,
            generation: 5,
        },
        created: true,
    };
    let ports = [("[::]:4420".parse().unwrap(), PortId::try_from(1).unwrap())];
    let site = BoxRecord {
        id: id(0xb0),
        nvme_ports: ports.into(),
    };
    vec![
        (Record::Box(site), include_str!("../golden/v1/box.hex")),
        (Record::Clock(77), include_str!("../golden/v1/clock.hex")),
        (
            Record::Pool(id(1), pool),
            include_str!("../golden/v1/pool.hex"),
        ),
        (
            Record::ThinCounter(id(1), ThinCounter { next: 10 }),
            include_str!("../golden/v1/thin-counter.hex"),
        ),
        (
            Record::Host(id(2), host),
            include_str!("../golden/v1/host.hex"),
        ),
        (
            Record::Volume(id(3), volume),
            include_str!("../golden/v1/volume.hex"),
        ),
        (
            Record::Connection(id(4), connection),
            include_str!("../golden/v1/connection.hex"),
        ),
        (
            Record::Request(id(5), request),
            include_str!("../golden/v1/request.hex"),
        ),
        (
            Record::Answer(id(5), answer),
            include_str!("../golden/v1/answer.hex"),
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
