//! Small valid inputs to begin from.

use ashlar_protocol::{
    Authentication, ConnectionSpec, ExtendSpec, HostSecrets, HostSpec, ObjectKind, ObjectRef,
    PoolSpec, Transport, VolumeSpec,
};
use ashlar_targetd_protocol::{
    ChapCredentials, ChapName, ChapSecret, DataState, DesiredPool, DesiredVolume, DhchapKey,
    Exports, IscsiAcl, IscsiExport, NvmeExport, NvmeHost, PoolDisk, PoolFormat, PortId, Sectors,
    ThinId,
};
use serde::Serialize;
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
        name: word("fast"),
        disks: vec![word("serial-A1"), word("wwn-eui.0025385b21")],
        block_size: Some(65_536),
        metadata_size: None,
        wipe: true,
    }
}

/// A request to make a volume.
pub fn volume() -> VolumeSpec {
    VolumeSpec {
        name: word("Größe 1"),
        pool: id(1),
        size: 10 << 30,
    }
}

/// A request to grow one.
pub fn extend() -> ExtendSpec {
    ExtendSpec { size: 20 << 30 }
}

/// A request to make a host with every secret.
pub fn host() -> HostSpec {
    HostSpec {
        name: word("web"),
        iqn: Some(word("iqn.1993-08.org.debian:01:abcdef")),
        nqn: Some(word("nqn.2014-08.org.nvmexpress:uuid:f81d4fae")),
        authentication: Authentication::Required,
        secrets: HostSecrets {
            chap: Some(chap()),
            chap_mutual: Some(chap()),
            dhchap: Some(dhchap()),
            dhchap_controller: Some(dhchap()),
        },
    }
}

/// A request to attach.
pub fn connection() -> ConnectionSpec {
    ConnectionSpec {
        volume: id(7),
        host: id(3),
        transport: Transport::NvmeTcp,
    }
}

/// A pool as targetd is told it.
pub fn desired_pool() -> DesiredPool {
    DesiredPool {
        id: id(1),
        generation: 9,
        disks: vec![PoolDisk {
            id: word("serial-A1"),
        }],
        metadata: Sectors(32_768),
        block: Sectors(128),
        low_water_blocks: 1024,
        format: PoolFormat::BlankOnly,
        absent: false,
    }
}

/// A volume as targetd is told it, exported both ways.
pub fn desired_volume() -> DesiredVolume {
    let initiator = IscsiAcl {
        chap: Some(chap()),
        mutual: None,
    };
    let host = NvmeHost {
        key: Some(dhchap()),
        controller_key: None,
    };
    let iscsi = IscsiExport {
        target: word("iqn.2026-11.io.ashlar:box:7"),
        portals: [word("0.0.0.0:3260"), word("[::1]:3260")].into(),
        initiators: [(word("iqn.1993-08.org.debian:01:abcdef"), initiator)].into(),
    };
    let nvme = NvmeExport {
        subsystem: word("nqn.2026-11.io.ashlar:box:7"),
        ports: [(PortId::try_from(1).expect(SOUND), word("0.0.0.0:4420"))].into(),
        hosts: [(word("nqn.2014-08.org.nvmexpress:uuid:f81d4fae"), host)].into(),
    };
    DesiredVolume {
        id: id(7),
        generation: 10,
        pool: id(1),
        thin_id: ThinId::try_from(5).expect(SOUND),
        size: Sectors(20_971_520),
        data: DataState::Provision,
        exports: Exports {
            iscsi: Some(iscsi),
            nvme: Some(nvme),
        },
        force: false,
    }
}
