//! Small valid inputs to begin from.

use ashlar_protocol::{
    Access, AdoptSpec, Authentication, Connected, ConnectionSpec, ExtendSpec, GroupSnapshotSpec,
    GroupSource, GroupSpec, GroupUpdate, HostRotation, HostSecrets, HostSpec, Labels, MemberCopy,
    MemberSnapshot, MoveSpec, ObjectKind, ObjectRef, Parent, PoolGrowth, PoolSpec, PoolUpdate,
    PortalSpec, Provisioning, Qos, Redundancy, ReplaceSpec, RevertSpec, SnapshotSpec,
    SnapshotUpdate, TransferSpec, Transport, VolumeSpec, VolumeUpdate, Watermarks,
};
use ashlar_targetd_protocol as targetd;
use ashlar_targetd_protocol::{
    Accesses, ChapCredentials, ChapName, ChapSecret, DataState, DesiredPool, DesiredSnapshot,
    DesiredSnapshots, DesiredVolume, DhGroup, DhHash, DhchapExchange, DhchapKey, Exports, FcAccess,
    FcExport, IscsiAcl, IscsiExport, NvmeExport, NvmeHost, NvmePort, PoolDisk, PoolFormat, PortId,
    Rate, Sectors, SnapshotsKind, ThinId, ThinSource,
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

const SOUND: &str = "a seed is sound";

/// The bytes of a value.
pub fn cbor(value: &impl Serialize) -> Vec<u8> {
    ashlar_codec::to_vec(value).expect(SOUND)
}

/// One id out of many.
pub fn id(number: u128) -> Uuid {
    Uuid::from_u128(0x6ba7_b810_9dad_41d1_80b4_00c0_4fd4_3000 + number)
}

/// A checked word.
pub fn word<T: TryFrom<String, Error: std::fmt::Debug>>(text: &str) -> T {
    T::try_from(text.to_owned()).expect(SOUND)
}

/// An object to speak of.
pub fn object() -> ObjectRef {
    ObjectRef {
        kind: ObjectKind::Volume,
        id: id(7),
    }
}

/// CHAP credentials.
pub fn chap() -> ChapCredentials {
    ChapCredentials {
        name: word::<ChapName>("web_1@example"),
        secret: word::<ChapSecret>("fuzz-secret-01"),
    }
}

/// A DH-HMAC-CHAP key.
pub fn dhchap() -> DhchapKey {
    word(&format!("DHHC-1:00:{}:", "A".repeat(48)))
}

/// A request to make a pool.
pub fn pool() -> PoolSpec {
    PoolSpec {
        block_size: Some(65_536),
        wipe: true,
        redundancy: Redundancy::Raid10,
        ..PoolSpec::on(
            word("fast"),
            vec![word("serial-A1"), word("wwn-eui.0025385b21")],
        )
    }
}

/// A request to make a volume.
pub fn volume() -> VolumeSpec {
    VolumeSpec {
        source: Some(Parent::Snapshot(id(6))),
        labels: labels(),
        qos: Some(Qos {
            read_iops: Some(500),
            total_bytes: Some(100 << 20),
            per_gib: true,
            ..Qos::default()
        }),
        provisioning: Provisioning::Thick,
        ..VolumeSpec::blank(word("Größe 1"), id(1), 10 << 30)
    }
}

/// Two labels.
pub fn labels() -> Labels {
    let labels = [("owner", "db team"), ("größe", "")];
    let owned = labels.map(|(name, text)| (name.to_owned(), text.to_owned()));
    Labels::try_from(BTreeMap::from(owned)).expect(SOUND)
}

/// A request to take a snapshot.
pub fn snapshot() -> SnapshotSpec {
    SnapshotSpec {
        name: word("before"),
        volume: id(7),
        labels: labels(),
    }
}

/// A request to go back to one.
pub fn revert() -> RevertSpec {
    RevertSpec {
        snapshot: id(6),
        interrupt: true,
    }
}

/// A request to give it to someone else.
pub fn transfer() -> TransferSpec {
    TransferSpec {
        owner: word("billing"),
        interrupt: true,
    }
}

/// A request to make one of a thin device.
pub fn adopt() -> AdoptSpec {
    let VolumeSpec {
        name,
        pool,
        size,
        labels,
        qos,
        provisioning,
        ..
    } = volume();
    AdoptSpec {
        name,
        pool,
        thin_id: ThinId::try_from(0xff_ffff).expect(SOUND),
        size,
        labels,
        qos,
        provisioning,
    }
}

/// A request to bring it to another pool.
pub fn moving() -> MoveSpec {
    MoveSpec {
        pool: id(2),
        bandwidth: Some(100 << 20),
    }
}

/// A request to change one.
pub fn volume_update() -> VolumeUpdate {
    let VolumeSpec {
        name,
        labels,
        qos,
        provisioning,
        ..
    } = volume();
    VolumeUpdate {
        name: Some(name),
        labels: Some(labels),
        qos,
        provisioning: Some(provisioning),
    }
}

/// A request to change a snapshot. One to change a group snapshot has less of the same.
pub fn snapshot_update() -> SnapshotUpdate {
    SnapshotUpdate {
        name: Some(word("after")),
        labels: Some(volume().labels),
    }
}

/// A request to change a pool.
pub fn pool_update() -> PoolUpdate {
    PoolUpdate {
        watermarks: Some(Watermarks::default()),
        scrub_days: Some(7),
        spares: Some(vec![word("serial-A2")]),
        name: Some(word("slow")),
        over_subscription: Some(2_000),
        reserved: Some(10),
    }
}

/// A request to add a disk to a pool.
pub fn pool_growth() -> PoolGrowth {
    PoolGrowth {
        disks: vec![word("serial-A2")],
        metadata_size: Some(64 << 20),
        wipe: true,
    }
}

/// A request to give a disk's place to another one.
pub fn replacement() -> ReplaceSpec {
    ReplaceSpec {
        disk: word("serial-A1"),
        by: word("serial-A2"),
        wipe: true,
    }
}

/// A request to grow a volume.
pub fn extend() -> ExtendSpec {
    ExtendSpec { size: 20 << 30 }
}

/// A request to make a group of copies.
pub fn group() -> GroupSpec {
    GroupSpec {
        name: word("app"),
        volumes: Vec::new(),
        source: Some(GroupSource {
            group: None,
            group_snapshot: Some(id(20)),
            volumes: vec![MemberCopy {
                source: id(21),
                volume: id(22),
            }],
        }),
    }
}

/// A request to change one.
pub fn group_update() -> GroupUpdate {
    GroupUpdate {
        name: Some(word("app 2")),
        add: vec![id(7), id(8)],
        remove: vec![id(9)],
    }
}

/// A request for a snapshot of every member.
pub fn group_snapshot() -> GroupSnapshotSpec {
    GroupSnapshotSpec {
        name: word("nightly"),
        group: id(23),
        snapshots: vec![MemberSnapshot {
            volume: id(7),
            snapshot: id(24),
        }],
    }
}

/// A request to serve at an address.
pub fn portal() -> PortalSpec {
    PortalSpec {
        address: "[2001:db8::7]:4420".parse().expect("an address"),
        transport: Transport::NvmeTcp,
    }
}

/// A request to make a host with every secret.
pub fn host() -> HostSpec {
    HostSpec {
        name: word("web"),
        iqn: Some(word("iqn.1993-08.org.debian:01:abcdef")),
        nqn: Some(word("nqn.2014-08.org.nvmexpress:uuid:f81d4fae")),
        wwpns: [word("20000025b5aa0c2f")].into(),
        authentication: Authentication::Mutual,
        dhchap: exchange(),
        secrets: secrets(),
    }
}

/// A request to give a host new secrets.
pub fn rotation() -> HostRotation {
    HostRotation {
        authentication: Some(Authentication::Required),
        dhchap: Some(exchange()),
        secrets: secrets(),
    }
}

fn exchange() -> DhchapExchange {
    DhchapExchange {
        hash: DhHash::Sha512,
        group: DhGroup::Ffdhe4096,
    }
}

fn secrets() -> HostSecrets {
    HostSecrets {
        chap: Some(chap()),
        chap_mutual: Some(chap()),
        dhchap: Some(dhchap()),
        dhchap_controller: Some(dhchap()),
    }
}

/// A request to attach.
pub fn connection() -> ConnectionSpec {
    ConnectionSpec {
        of: Connected::Volume(id(7)),
        host: id(3),
        transport: Transport::Iscsi,
        access: Access::ReadOnly,
    }
}

/// A request to have a host read a snapshot.
pub fn snapshot_connection() -> ConnectionSpec {
    ConnectionSpec {
        of: Connected::Snapshot(id(8)),
        ..connection()
    }
}

/// A pool as targetd is told it.
pub fn desired_pool() -> DesiredPool {
    DesiredPool {
        id: id(1),
        generation: 9,
        disks: vec![PoolDisk::new(word("serial-A1"), Sectors(32_768))],
        redundancy: None,
        metadata: Sectors(32_768),
        block: Sectors(128),
        low_water_blocks: 1024,
        format: PoolFormat::BlankOnly,
        absent: false,
        destroy: None,
        grows_from: None,
        holder: id(9),
        takes: true,
    }
}

/// Access over iSCSI that only reads.
fn reading(of: u8) -> IscsiExport {
    let initiator = IscsiAcl {
        chap: Some(chap()),
        mutual: None,
        read_only: true,
    };
    IscsiExport {
        target: word(&format!("iqn.2026-11.io.ashlar:box:{of}")),
        portals: [word("0.0.0.0:3260"), word("[::1]:3260")].into(),
        iser: [word("0.0.0.0:3260")].into(),
        initiators: [(word("iqn.1993-08.org.debian:01:abcdef"), initiator)].into(),
    }
}

/// A snapshot as targetd is told it, read by a host.
pub fn desired_snapshots() -> DesiredSnapshots {
    let member = DesiredSnapshot {
        id: id(8),
        pool: id(1),
        thin_id: ThinId::try_from(6).expect(SOUND),
        size: Sectors(20_971_520),
        source: ThinSource {
            object: id(7),
            thin_id: ThinId::try_from(5).expect(SOUND),
        },
        exports: Exports {
            fc: None,
            iscsi: Some(reading(8)),
            nvme: None,
        },
        held: true,
        cut: accesses(),
    };
    DesiredSnapshots {
        kind: SnapshotsKind::Snapshot,
        id: id(8),
        generation: 11,
        members: vec![member],
        data: DataState::Present,
    }
}

/// A port of the box on Fibre Channel.
pub const FC_HOST: &str = "20000025b5aa0c1f";

fn over_fc() -> FcExport {
    let access = FcAccess {
        lun: 2.try_into().expect(SOUND),
        read_only: true,
    };
    FcExport {
        ports: [word(FC_HOST)].into(),
        unit: 300.try_into().expect(SOUND),
        initiators: [(word("2100000000000001"), access)].into(),
    }
}

/// A volume as targetd is told it, exported in all ways.
pub fn desired_volume() -> DesiredVolume {
    let host = NvmeHost {
        key: Some(dhchap()),
        controller_key: Some(dhchap()),
        exchange: exchange(),
    };
    let number = |port: u64| PortId::try_from(port).expect(SOUND);
    let nvme = NvmeExport {
        subsystem: word("nqn.2026-11.io.ashlar:box:7"),
        ports: [
            (number(1), NvmePort::Tcp(word("0.0.0.0:4420"))),
            (number(2), NvmePort::Rdma(word("0.0.0.0:4420"))),
            (
                number(3),
                NvmePort::Fc(word("nn-0x10000025b5aa0c1f:pn-0x20000025b5aa0c1f")),
            ),
        ]
        .into(),
        hosts: [(word("nqn.2014-08.org.nvmexpress:uuid:f81d4fae"), host)].into(),
    };
    DesiredVolume {
        id: id(7),
        generation: 10,
        pool: id(1),
        thin_id: ThinId::try_from(5).expect(SOUND),
        size: Sectors(20_971_520),
        data: DataState::Provision,
        source: None,
        retired: BTreeSet::new(),
        moving: None,
        exports: Exports {
            fc: Some(over_fc()),
            iscsi: Some(reading(7)),
            nvme: Some(nvme),
        },
        qos: targetd::Qos {
            operations: Rate::Each {
                read: Some(500),
                write: None,
            },
            bytes: Rate::Total(100 << 20),
        },
        held: false,
        cut: accesses(),
    }
}

/// A host of each transport.
pub fn accesses() -> Accesses {
    Accesses {
        iscsi: [word("iqn.1993-08.org.debian:01:abcdef")].into(),
        nvme: [word("nqn.2014-08.org.nvmexpress:uuid:f81d4fae")].into(),
    }
}
