//! Desired states, built in a few words.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_kernel_iface::dm::DmName;
use ashlar_targetd::ours;
use ashlar_targetd_protocol::{
    Accesses, ChapCredentials, ChapName, ChapSecret, DataState, DesiredMove, DesiredPool,
    DesiredSnapshot, DesiredSnapshots, DesiredVolume, DhGroup, DhHash, DhchapExchange, DhchapKey,
    Exports, FcAccess, FcExport, FcPort, Iqn, IscsiAcl, IscsiExport, Nqn, NvmeExport, NvmeHost,
    NvmePort, PoolBefore, PoolDestruction, PoolDisk, PoolFormat, PortId, PortalAddr, Qos,
    RaidLevel, Rate, Redundancy, Sectors, SnapshotsKind, ThinId, ThinRef, ThinSource, Wwn,
};
use uuid::Uuid;

/// 1 MiB.
pub const MIB: u64 = 2048;
pub const PORTALS: [&str; 2] = ["192.0.2.1:3260", "[2001:db8::1]:3260"];
pub const PORTS: [&str; 2] = ["192.0.2.1:4420", "[2001:db8::1]:4420"];

pub fn pool_id(n: u128) -> Uuid {
    Uuid::from_u128(0x0a00_0000_0000_4000_8000_0000_0000_0000 + n)
}

pub fn volume_id(n: u32) -> Uuid {
    Uuid::from_u128(0x0b00_0000_0000_4000_8000_0000_0000_0000 + u128::from(n))
}

pub fn snapshot_id(n: u32) -> Uuid {
    Uuid::from_u128(0x0c00_0000_0000_4000_8000_0000_0000_0000 + u128::from(n))
}

pub fn snapshot_device(n: u32) -> DmName {
    ours::snapshot_device(snapshot_id(n))
}

pub fn volume_device(n: u32) -> DmName {
    ours::volume_device(volume_id(n))
}

pub fn target(n: u32) -> Iqn {
    let name = format!("iqn.2026-11.io.ashlar:box:{}", volume_id(n));
    name.parse().unwrap()
}

pub fn subsystem(n: u32) -> Nqn {
    let name = format!("nqn.2026-11.io.ashlar:box:{}", volume_id(n));
    name.parse().unwrap()
}

pub fn initiator(host: &str) -> Iqn {
    format!("iqn.2026-11.org.example:{host}").parse().unwrap()
}

pub fn nvme_host(host: &str) -> Nqn {
    format!("nqn.2026-11.org.example:{host}").parse().unwrap()
}

pub fn chap(host: &str, version: u32) -> ChapCredentials {
    ChapCredentials {
        name: ChapName::try_from(host.to_owned()).unwrap(),
        secret: ChapSecret::try_from(format!("Secret{version:06}")).unwrap(),
    }
}

pub fn key(version: u32) -> DhchapKey {
    let letter = char::from(b'A' + (version % 26) as u8);
    DhchapKey::try_from(format!("DHHC-1:00:{}:", letter.to_string().repeat(48))).unwrap()
}

pub fn portal(index: usize) -> PortalAddr {
    PORTALS[index].parse().unwrap()
}

pub fn port(index: usize) -> PortalAddr {
    PORTS[index].parse().unwrap()
}

/// A volume in pool 1, present, of 8 MiB, without exports.
#[derive(Clone)]
pub struct Wanted(pub DesiredVolume);

pub fn volume(n: u32) -> Wanted {
    Wanted(DesiredVolume {
        id: volume_id(n),
        generation: 0,
        pool: pool_id(1),
        thin_id: ThinId::try_from(u64::from(n)).unwrap(),
        size: Sectors(8 * MIB),
        data: DataState::Present,
        source: None,
        retired: BTreeSet::new(),
        moving: None,
        exports: Exports::default(),
        qos: Qos::default(),
        held: false,
        cut: Accesses::default(),
    })
}

impl Wanted {
    pub fn new_data(mut self) -> Self {
        self.0.data = DataState::Provision;
        self
    }

    /// What it was before stays for now.
    pub fn replacing(mut self) -> Self {
        self.0.data = DataState::Replace;
        self
    }

    pub fn tombstone(mut self) -> Self {
        self.0.data = DataState::Tombstone;
        self
    }

    /// With its first content from another object's thin device.
    pub fn made_from(mut self, n: u32, thin_id: u64) -> Self {
        self.0.source = Some(ThinSource {
            object: volume_id(n),
            thin_id: ThinId::try_from(thin_id).unwrap(),
        });
        self
    }

    pub fn on_thin(mut self, thin_id: u64) -> Self {
        self.0.thin_id = ThinId::try_from(thin_id).unwrap();
        self
    }

    pub fn in_pool(mut self, n: u128) -> Self {
        self.0.pool = pool_id(n);
        self
    }

    /// And a thin device that was the volume's before.
    pub fn retiring(mut self, pool: u128, thin_id: u64) -> Self {
        self.0.retired.insert(ThinRef {
            pool: pool_id(pool),
            thin_id: ThinId::try_from(thin_id).unwrap(),
        });
        self
    }

    /// On its way to a thin device of pool 2.
    pub fn moving_to(mut self, thin_id: u64) -> Self {
        let to = ThinRef {
            pool: pool_id(2),
            thin_id: ThinId::try_from(thin_id).unwrap(),
        };
        self.0.moving = Some(DesiredMove {
            to,
            copy: None,
            still: false,
        });
        self
    }

    /// With a copy of what it holds.
    pub fn copied_as(mut self, thin_id: u64) -> Self {
        let moving = self.0.moving.as_mut().unwrap();
        moving.copy = Some(ThinId::try_from(thin_id).unwrap());
        self
    }

    /// And nothing more than that.
    pub fn still(mut self) -> Self {
        self.0.moving.as_mut().unwrap().still = true;
        self
    }

    pub fn held(mut self) -> Self {
        self.0.held = true;
        self
    }

    pub fn sized(mut self, mib: u64) -> Self {
        self.0.size = Sectors(mib * MIB);
        self
    }

    /// Whoever of these hosts loses access may be cut off.
    pub fn cutting(mut self, hosts: &[&str]) -> Self {
        self.0.cut = Accesses {
            iscsi: hosts.iter().map(|host| initiator(host)).collect(),
            nvme: hosts.iter().map(|host| nvme_host(host)).collect(),
        };
        self
    }

    pub fn at_generation(mut self, generation: u64) -> Self {
        self.0.generation = generation;
        self
    }

    /// Reads and writes a second at most, 0 for no limit.
    pub fn iops(mut self, read: u64, write: u64) -> Self {
        let limit = |limit| (limit > 0).then_some(limit);
        self.0.qos.operations = Rate::Each {
            read: limit(read),
            write: limit(write),
        };
        self
    }

    /// Bytes read and written a second at most, together.
    pub fn total_bytes(mut self, total: u64) -> Self {
        self.0.qos.bytes = Rate::Total(total);
        self
    }

    /// Over iSCSI at the first portal, to these hosts with their first secrets.
    pub fn iscsi(self, hosts: &[&str]) -> Self {
        let hosts = hosts.iter().map(|host| (*host, Some(1)));
        self.iscsi_at(&[0], hosts)
    }

    /// Over iSCSI at these portals, to hosts with this version of their secrets, or none.
    pub fn iscsi_at<'h>(
        mut self,
        portals: &[usize],
        hosts: impl IntoIterator<Item = (&'h str, Option<u32>)>,
    ) -> Self {
        let acl = |(host, version): (&str, Option<u32>)| {
            let chap = version.map(|version| chap(host, version));
            let acl = IscsiAcl {
                chap,
                mutual: None,
                read_only: false,
            };
            (initiator(host), acl)
        };
        let name = format!("iqn.2026-11.io.ashlar:box:{}", self.0.id);
        self.0.exports.iscsi = Some(IscsiExport {
            target: name.parse().unwrap(),
            portals: portals
                .iter()
                .map(|index| portal(*index))
                .collect::<BTreeSet<_>>(),
            iser: BTreeSet::new(),
            initiators: hosts.into_iter().map(acl).collect(),
        });
        self
    }

    /// Over NVMe/TCP at the first port, to these hosts with their first keys.
    pub fn nvme(self, hosts: &[&str]) -> Self {
        let hosts = hosts.iter().map(|host| (*host, Some(1)));
        self.nvme_at(&[0], hosts)
    }

    /// Over NVMe/TCP at these ports, to hosts with this version of their keys, or none.
    pub fn nvme_at<'h>(
        mut self,
        ports: &[usize],
        hosts: impl IntoIterator<Item = (&'h str, Option<u32>)>,
    ) -> Self {
        let host = |(host, version): (&str, Option<u32>)| {
            let keys = NvmeHost {
                key: version.map(key),
                controller_key: None,
                exchange: DhchapExchange::default(),
            };
            (nvme_host(host), keys)
        };
        let name = format!("nqn.2026-11.io.ashlar:box:{}", self.0.id);
        let ports = ports.iter().map(|index| {
            let id = PortId::try_from(*index as u64 + 1).unwrap();
            (id, NvmePort::Tcp(port(*index)))
        });
        self.0.exports.nvme = Some(NvmeExport {
            subsystem: name.parse().unwrap(),
            ports: ports.collect::<BTreeMap<_, _>>(),
            hosts: hosts.into_iter().map(host).collect(),
        });
        self
    }
}

/// A port of the box on Fibre Channel.
pub fn fc_port() -> FcPort {
    let text = "nn-0x10000025b5aa0c1f:pn-0x20000025b5aa0c1f";
    text.parse().unwrap()
}

/// Another one.
pub fn other_fc_port() -> FcPort {
    let text = "nn-0x10000025b5aa0c1f:pn-0x20000025b5aa0c2f";
    text.parse().unwrap()
}

impl Wanted {
    /// Also over iSER, at this portal.
    pub fn and_iser(mut self, index: usize) -> Self {
        let export = self.0.exports.iscsi.as_mut().unwrap();
        export.iser.insert(portal(index));
        self
    }

    /// Also over RDMA, at the address of the first port.
    pub fn and_rdma(mut self) -> Self {
        let export = self.0.exports.nvme.as_mut().unwrap();
        let id = PortId::try_from(9).unwrap();
        export.ports.insert(id, NvmePort::Rdma(port(0)));
        self
    }

    /// Not to be written by an initiator it has so far.
    pub fn read_only_for(mut self, host: &str) -> Self {
        let iscsi = self.0.exports.iscsi.iter_mut();
        for (name, acl) in iscsi.flat_map(|export| &mut export.initiators) {
            acl.read_only |= *name == initiator(host);
        }
        self
    }

    /// As a disk over Fibre Channel, at these ports, by this number, to initiators by theirs.
    pub fn fc(mut self, ports: &[Wwn], unit: u64, initiators: &[(Wwn, u64, bool)]) -> Self {
        let lun = |number: u64| number.try_into().unwrap();
        let access = |&(initiator, number, read_only): &(Wwn, u64, bool)| {
            let lun = lun(number);
            (initiator, FcAccess { lun, read_only })
        };
        self.0.exports.fc = Some(FcExport {
            ports: ports.iter().copied().collect(),
            unit: lun(unit),
            initiators: initiators.iter().map(access).collect(),
        });
        self
    }

    /// NVMe also over Fibre Channel.
    pub fn and_fc(self) -> Self {
        self.and_fc_by(10)
    }

    /// The same at a port of nvmet's with that number.
    pub fn and_fc_by(mut self, number: u64) -> Self {
        let export = self.0.exports.nvme.as_mut().unwrap();
        let id = PortId::try_from(number).unwrap();
        export.ports.insert(id, NvmePort::Fc(fc_port()));
        self
    }

    /// And at another port of the box.
    pub fn and_other_fc(mut self) -> Self {
        let export = self.0.exports.nvme.as_mut().unwrap();
        let id = PortId::try_from(11).unwrap();
        export.ports.insert(id, NvmePort::Fc(other_fc_port()));
        self
    }

    /// The box proves itself to the hosts it has so far, too, each time with version 9.
    pub fn both_ways(mut self) -> Self {
        let iscsi = self.0.exports.iscsi.iter_mut();
        for (_, acl) in iscsi.flat_map(|export| &mut export.initiators) {
            acl.mutual = Some(chap("box", 9));
        }
        let nvme = self.0.exports.nvme.iter_mut();
        for (_, host) in nvme.flat_map(|export| &mut export.hosts) {
            host.controller_key = Some(key(9));
            host.exchange = DhchapExchange {
                hash: DhHash::Sha512,
                group: DhGroup::Ffdhe3072,
            };
        }
        self
    }
}

/// Snapshots of volumes in pool 1, taken at one instant: snapshot `n + 100` of volume `n`, on
/// thin device `n + 100`.
pub struct Shots(pub DesiredSnapshots);

pub fn shots_of(volumes: &[u32]) -> Shots {
    let shot = |n: &u32| DesiredSnapshot {
        id: snapshot_id(n + 100),
        pool: pool_id(1),
        thin_id: ThinId::try_from(u64::from(n + 100)).unwrap(),
        size: Sectors(8 * MIB),
        source: ThinSource {
            object: volume_id(*n),
            thin_id: ThinId::try_from(u64::from(*n)).unwrap(),
        },
        exports: Exports::default(),
        held: false,
        cut: Accesses::default(),
    };
    let (kind, id) = match volumes {
        [one] => (SnapshotsKind::Snapshot, snapshot_id(one + 100)),
        _ => (SnapshotsKind::GroupSnapshot, snapshot_id(0)),
    };
    Shots(DesiredSnapshots {
        kind,
        id,
        generation: 0,
        members: volumes.iter().map(shot).collect(),
        data: DataState::Provision,
    })
}

/// The iSCSI target of a snapshot.
pub fn snapshot_target(id: Uuid) -> Iqn {
    format!("iqn.2026-11.io.ashlar:box:{id}").parse().unwrap()
}

impl Shots {
    pub fn present(mut self) -> Self {
        self.0.data = DataState::Present;
        self
    }

    pub fn tombstone(mut self) -> Self {
        self.0.data = DataState::Tombstone;
        self
    }

    pub fn held(self) -> Self {
        self.holding(|_| true)
    }

    /// All are read by these initiators over iSCSI.
    pub fn read_by(mut self, hosts: &[&str]) -> Self {
        for member in &mut self.0.members {
            let acl = |host: &&str| {
                let acl = IscsiAcl {
                    chap: Some(chap(host, 1)),
                    mutual: None,
                    read_only: true,
                };
                (initiator(host), acl)
            };
            member.exports.iscsi = Some(IscsiExport {
                target: snapshot_target(member.id),
                portals: [portal(0)].into(),
                iser: BTreeSet::new(),
                initiators: hosts.iter().map(acl).collect(),
            });
        }
        self
    }

    /// Also over iSER, at this portal.
    pub fn and_iser(mut self, index: usize) -> Self {
        for export in self
            .0
            .members
            .iter_mut()
            .flat_map(|one| &mut one.exports.iscsi)
        {
            export.iser.insert(portal(index));
        }
        self
    }

    /// The caller agreed to cut these initiators off.
    pub fn cutting(mut self, hosts: &[&str]) -> Self {
        for member in &mut self.0.members {
            member.cut.iscsi = hosts.iter().map(|host| initiator(host)).collect();
        }
        self
    }

    /// Those whose place among them is chosen are held.
    pub fn holding(mut self, chosen: impl Fn(usize) -> bool) -> Self {
        for (index, member) in self.0.members.iter_mut().enumerate() {
            member.held = chosen(index);
        }
        self
    }
}

/// A pool on these disks.
pub fn pool(n: u128, disks: &[&str], format: PoolFormat) -> DesiredPool {
    let disk = |(index, serial): (usize, &&str)| {
        let room = Sectors(if index == 0 { 4 * MIB } else { 0 });
        PoolDisk::new(format!("serial-{serial}").parse().unwrap(), room)
    };
    DesiredPool {
        id: pool_id(n),
        generation: 1,
        disks: disks.iter().enumerate().map(disk).collect(),
        redundancy: None,
        metadata: Sectors(4 * MIB),
        block: Sectors(128),
        low_water_blocks: 16,
        format,
        absent: false,
        destroy: None,
        grows_from: None,
        holder: holder(),
        takes: false,
    }
}

/// The box.
pub fn holder() -> Uuid {
    Uuid::from_u128(0xb0)
}

/// The same with one more disk, which brings room for as much metadata again.
pub fn growing(before: &DesiredPool, serial: &str, format: PoolFormat) -> DesiredPool {
    let mut pool = before.clone();
    let disk = format!("serial-{serial}").parse().unwrap();
    pool.disks.push(PoolDisk::new(disk, Sectors(4 * MIB)));
    pool.metadata = Sectors(before.metadata.0 + 4 * MIB);
    pool.format = format;
    pool.grows_from = Some(PoolBefore {
        disks: before.disks.len() as u32,
        metadata: before.metadata,
    });
    pool
}

/// Once it has grown.
pub fn grown(growing: &DesiredPool) -> DesiredPool {
    DesiredPool {
        format: PoolFormat::Never,
        grows_from: None,
        ..growing.clone()
    }
}

/// To be destroyed.
pub fn destroyed(pool: DesiredPool, force: bool) -> DesiredPool {
    let destroy = Some(PoolDestruction { force });
    DesiredPool {
        destroy,
        ..absent(pool)
    }
}

pub fn absent(mut pool: DesiredPool) -> DesiredPool {
    pool.absent = true;
    pool
}

/// The same with a catalog of 2 MiB on the first disk.
pub fn cataloged(mut pool: DesiredPool) -> DesiredPool {
    let first = &mut pool.disks[0];
    first.catalog = Sectors(2 * MIB);
    first.metadata_room = Sectors(first.metadata_room.0 + 2 * MIB);
    pool
}

/// A pool on one set of disks that stand in for each other.
pub fn redundant(level: RaidLevel, disks: &[&str], format: PoolFormat) -> DesiredPool {
    DesiredPool {
        redundancy: Some(Redundancy {
            level,
            sets: vec![disks.len() as u32],
        }),
        ..pool(1, disks, format)
    }
}

/// The same with a set of these disks more, which brings room for as much metadata again.
pub fn growing_by_set(before: &DesiredPool, disks: &[&str], format: PoolFormat) -> DesiredPool {
    let mut pool = growing(before, disks[0], format);
    for serial in &disks[1..] {
        let disk = format!("serial-{serial}").parse().unwrap();
        pool.disks.push(PoolDisk::new(disk, Sectors(0)));
    }
    if let Some(redundancy) = &mut pool.redundancy {
        redundancy.sets.push(disks.len() as u32);
    }
    pool
}

/// The same with another disk at a place.
pub fn replacing(
    pool: &DesiredPool,
    place: usize,
    serial: &str,
    format: PoolFormat,
) -> DesiredPool {
    let mut pool = pool.clone();
    let disk = &mut pool.disks[place];
    disk.id = format!("serial-{serial}").parse().unwrap();
    disk.turn += 1;
    disk.takes_place = Some(format);
    pool
}

/// Once it has its place.
pub fn replaced(pool: &DesiredPool) -> DesiredPool {
    let mut pool = pool.clone();
    for disk in &mut pool.disks {
        disk.takes_place = None;
    }
    pool
}
