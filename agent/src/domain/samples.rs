//! Small builders for tests.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_protocol::{
    Access, AdoptSnapshotSpec, AdoptSpec, Connected, ConnectionSpec, ExtendSpec, HostSpec, Labels,
    Parent, PoolGrowth, PoolSpec, PoolUpdate, PortalAddr, Problem, Provisioning, Redundancy,
    ReplaceSpec, RevertSpec, SnapshotSpec, TransferSpec, Transport, VolumeSpec, VolumeUpdate,
};
use ashlar_targetd_protocol::{
    AddressState, Bytes, DiskReport, MemberState, PoolReport, PoolUsage, Sectors, SetAction,
    SetReport, ThinId,
};
use uuid::Uuid;

use crate::domain::record::Unit;
use crate::domain::secrets::Random;
use crate::domain::settle::{goes_on, settle};
use crate::domain::{Command, Decision, Facts, Intent, Listen, RequestContext, Site, decide};

pub(crate) const POOL: Uuid = Uuid::from_u128(0xa0);
pub(crate) const HOST: Uuid = Uuid::from_u128(0xb0);
pub(crate) const OTHER_HOST: Uuid = Uuid::from_u128(0xb1);
pub(crate) const VOLUME: Uuid = Uuid::from_u128(0xc0);
pub(crate) const CONNECTION: Uuid = Uuid::from_u128(0xd0);
pub(crate) const MIB: u64 = 1 << 20;
/// What [`World::settle`] says pools have.
pub(crate) const CAPACITY: u64 = 900 * MIB;

pub(crate) fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

/// Bytes that follow from a counter, which begins elsewhere for each request.
pub(crate) struct Counter(pub(crate) u8);

impl Random for Counter {
    fn fill(&mut self, buffer: &mut [u8]) {
        for byte in buffer {
            *byte = self.0;
            self.0 = self.0.wrapping_add(1);
        }
    }
}

/// The box as it is configured: iSCSI as usual, NVMe/TCP at an address of its own.
pub(crate) fn site() -> Site {
    let listen = |at: &str, usual| Listen {
        portals: [at.parse().unwrap()].into(),
        advertised: Vec::new(),
        usual,
    };
    Site {
        id: Uuid::from_u128(1),
        name: "box".parse().unwrap(),
        iscsi: listen("[::]:3260", true),
        iser: Listen::default(),
        fc: BTreeSet::new(),
        nvme: listen("10.0.0.1:4420", false),
        nvme_rdma: Listen::default(),
        nvme_fc: BTreeSet::new(),
        nvme_ports: BTreeMap::new(),
        managed: BTreeSet::new(),
        shut: BTreeSet::new(),
    }
}

/// An intent with the facts to change it by.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) intent: Intent,
    pub(crate) kernel: bool,
    pub(crate) transports: BTreeSet<Transport>,
    pub(crate) behind: BTreeSet<Unit>,
    pub(crate) troubled: BTreeMap<Unit, Problem>,
    pub(crate) uncounted: BTreeMap<Uuid, Problem>,
    pub(crate) missing: BTreeMap<&'static str, String>,
    pub(crate) requests: u128,
    pub(crate) disks: Vec<DiskReport>,
    pub(crate) usage: Option<PoolUsage>,
    pub(crate) sets: Vec<SetReport>,
    /// As pools were seen last.
    pub(crate) seen: Option<PoolUsage>,
    pub(crate) thin_end: Option<Result<u64, Problem>>,
    pub(crate) site: Site,
    pub(crate) address: Option<AddressState>,
    /// Where no portal serves.
    pub(crate) lacking: BTreeSet<PortalAddr>,
}

impl World {
    pub(crate) fn empty() -> World {
        World {
            intent: Intent::default(),
            kernel: true,
            transports: [Transport::Iscsi, Transport::NvmeTcp].into(),
            behind: BTreeSet::new(),
            troubled: BTreeMap::new(),
            uncounted: BTreeMap::new(),
            missing: BTreeMap::new(),
            requests: 0xf000,
            disks: disks(),
            usage: None,
            sets: Vec::new(),
            seen: None,
            thin_end: None,
            site: site(),
            address: None,
            lacking: BTreeSet::new(),
        }
    }

    /// A pool, two hosts, and a volume attached to the first by iSCSI; all of it settled.
    pub(crate) fn furnished() -> World {
        let mut world = World::empty();
        for command in [
            pool(POOL, &["serial-DISK0"]),
            host(HOST, 0),
            host(OTHER_HOST, 1),
            volume(VOLUME, 10 * MIB),
            attach(CONNECTION, VOLUME, HOST, Transport::Iscsi),
        ] {
            world.does(command);
            world.settle(Unit::Pool(POOL));
            world.settle(Unit::Volume(VOLUME));
        }
        world
    }

    /// A pool on so many disks that stand in for each other, and in sync as far as is told.
    pub(crate) fn redundant(redundancy: Redundancy, disks: usize) -> World {
        let mut world = World::empty();
        world.does(mirrored(redundancy, disks));
        world.settle(Unit::Pool(POOL));
        let members = vec![MemberState::InSync; disks];
        world.sets = report(&[&members]).sets;
        world
    }

    /// Decides under a request id of its own.
    pub(crate) fn decide(&mut self, command: &Command) -> Result<Decision, Problem> {
        self.requests += 1;
        self.decide_as(id(self.requests), command)
    }

    pub(crate) fn decide_as(&self, request: Uuid, command: &Command) -> Result<Decision, Problem> {
        let [.., seed] = request.into_bytes();
        let request = RequestContext {
            id: request,
            digest: digest(command),
            subject: "tester".to_owned(),
        };
        self.judge(&request, |facts| {
            decide(&self.intent, command, facts, &mut Counter(seed))
        })
    }

    /// Asks a rule, with the facts as they are.
    pub(crate) fn judge<T>(
        &self,
        request: &RequestContext,
        rule: impl FnOnce(&Facts<'_>) -> T,
    ) -> T {
        let settled = |unit| !self.behind.contains(&unit);
        rule(&Facts {
            request,
            now: 1_800_000_000,
            kernel: self.kernel,
            disks: &self.disks,
            usage: self.usage,
            sets: &self.sets,
            seen: &|_| self.seen,
            catalog: None,
            thin_end: self.thin_end.as_ref(),
            transports: &self.transports,
            site: &self.site,
            address: self.address,
            lacking: &|_, at| self.lacking.contains(&at),
            settled: &settled,
            trouble: &|unit| self.troubled.get(&unit).cloned(),
            uncounted: &|pool| self.uncounted.get(&pool).cloned(),
            missing: &|feature| self.missing.get(feature).cloned(),
            ended: &|request| request.unit.is_none_or(settled),
        })
    }

    /// Decides, applies and expects a change; answers with the unit it touches.
    pub(crate) fn does(&mut self, command: Command) -> Option<Unit> {
        match self.decide(&command) {
            Ok(Decision::Change(change, _)) => {
                for edit in &change.edits {
                    self.intent.apply(edit).unwrap();
                }
                change.unit
            }
            other => panic!("{command:?}: {other:?}"),
        }
    }

    /// The kernel has all of a unit.
    pub(crate) fn settle(&mut self, unit: Unit) {
        let generation = self.intent.generation();
        loop {
            for edit in settle(&self.intent, unit, generation, Some(CAPACITY)) {
                self.intent.apply(&edit).unwrap();
            }
            if !goes_on(&self.intent, unit, generation) {
                break;
            }
        }
    }
}

/// The debug text stands for method, path and body; secrets are not in it.
pub(crate) fn digest(command: &Command) -> [u8; 32] {
    let mut digest = [0; 32];
    let text = format!("{command:?}");
    digest[..4].copy_from_slice(&crc32fast::hash(text.as_bytes()).to_be_bytes());
    digest
}

/// Six disks of 1 GiB.
pub(crate) fn disks() -> Vec<DiskReport> {
    let disk = |n| DiskReport {
        id: format!("serial-DISK{n}").parse().unwrap(),
        kernel_name: format!("vd{n}"),
        size: Bytes(1 << 30),
        rotational: false,
        in_use: false,
        content: None,
        pool: None,
        member: None,
    };
    (0..6).map(disk).collect()
}

pub(crate) fn pool_spec(disks: &[&str]) -> PoolSpec {
    PoolSpec::on(
        "pool".parse().unwrap(),
        disks.iter().map(|disk| disk.parse().unwrap()).collect(),
    )
}

pub(crate) fn pool(id: Uuid, disks: &[&str]) -> Command {
    Command::PoolCreate {
        id,
        spec: pool_spec(disks),
    }
}

/// The pool on the first disks, which stand in for each other.
pub(crate) fn mirrored(redundancy: Redundancy, disks: usize) -> Command {
    let names: Vec<String> = (0..disks).map(|n| format!("serial-DISK{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let spec = PoolSpec {
        redundancy,
        ..pool_spec(&names)
    };
    Command::PoolCreate { id: POOL, spec }
}

/// The place of a disk of the pool, which has its first number, is given to another one.
pub(crate) fn replace(place: u32, by: &str) -> Command {
    let spec = ReplaceSpec {
        disk: format!("serial-DISK{place}").parse().unwrap(),
        by: by.parse().unwrap(),
        wipe: false,
    };
    Command::PoolReplace { id: POOL, spec }
}

/// The pool is to have these spares and no others.
pub(crate) fn spare(spares: &[&str]) -> Command {
    let spec = PoolUpdate {
        spares: Some(spares.iter().map(|disk| disk.parse().unwrap()).collect()),
        ..PoolUpdate::default()
    };
    Command::PoolUpdate { id: POOL, spec }
}

/// What is seen of the pool, set by set, while nothing goes on in any.
pub(crate) fn report(sets: &[&[MemberState]]) -> PoolReport {
    let set = |members: &&[MemberState]| SetReport {
        members: members.to_vec(),
        action: SetAction::Idle,
        done: Sectors(0),
        total: Sectors(1000),
        mismatches: Sectors(0),
    };
    PoolReport {
        id: POOL,
        usage: None,
        degraded: false,
        sets: sets.iter().map(set).collect(),
        looked: 0,
    }
}

pub(crate) fn growth(disks: &[&str]) -> PoolGrowth {
    PoolGrowth {
        disks: disks.iter().map(|disk| disk.parse().unwrap()).collect(),
        metadata_size: None,
        wipe: false,
    }
}

/// Of the pool.
pub(crate) fn grow(disks: &[&str]) -> Command {
    let spec = growth(disks);
    Command::PoolGrow { id: POOL, spec }
}

/// Of the pool by the second disk.
pub(crate) fn grown_with(edit: impl FnOnce(&mut PoolGrowth)) -> Command {
    let mut spec = growth(&["serial-DISK1"]);
    edit(&mut spec);
    Command::PoolGrow { id: POOL, spec }
}

pub(crate) fn host_spec(n: u32) -> HostSpec {
    HostSpec {
        name: format!("host {n}").parse().unwrap(),
        iqn: Some(format!("iqn.1993-08.org.debian:{n}").parse().unwrap()),
        nqn: Some(
            format!("nqn.2014-08.org.nvmexpress:uuid:{n}")
                .parse()
                .unwrap(),
        ),
        wwpns: Default::default(),
        authentication: Default::default(),
        dhchap: Default::default(),
        secrets: Default::default(),
    }
}

pub(crate) fn host(id: Uuid, n: u32) -> Command {
    Command::HostCreate {
        id,
        spec: host_spec(n),
    }
}

pub(crate) fn volume(id: Uuid, size: u64) -> Command {
    let spec = VolumeSpec::blank("volume".parse().unwrap(), POOL, size);
    Command::VolumeCreate { id, spec }
}

/// A volume of a thin device of the pool, as large as what that maps unless said.
pub(crate) fn adopt(id: Uuid, thin_id: u64, size: Option<u64>) -> Command {
    let spec = AdoptSpec {
        name: "adopted".parse().unwrap(),
        pool: POOL,
        thin_id: ThinId::try_from(thin_id).unwrap(),
        size,
        labels: Labels::default(),
        qos: None,
        provisioning: Provisioning::Thin,
    };
    let spec = Box::new(spec);
    Command::VolumeAdopt { id, spec }
}

/// A snapshot of a thin device of the pool.
pub(crate) fn adopt_snapshot(id: Uuid, volume: Uuid, thin_id: u64, size: Option<u64>) -> Command {
    let spec = AdoptSnapshotSpec {
        name: "adopted".parse().unwrap(),
        volume,
        thin_id: ThinId::try_from(thin_id).unwrap(),
        size,
        labels: Labels::default(),
    };
    let spec = Box::new(spec);
    Command::SnapshotAdopt { id, spec }
}

pub(crate) fn release(id: Uuid) -> Command {
    Command::VolumeRelease { id }
}

pub(crate) fn snapshot(id: Uuid, volume: Uuid) -> Command {
    let spec = SnapshotSpec {
        name: "snapshot".parse().unwrap(),
        volume,
        labels: Labels::default(),
    };
    Command::SnapshotCreate { id, spec }
}

/// A volume made of another or of a snapshot, as large as that unless said.
pub(crate) fn clone(id: Uuid, parent: Parent, size: Option<u64>) -> Command {
    let spec = VolumeSpec {
        size,
        source: Some(parent),
        ..VolumeSpec::blank("clone".parse().unwrap(), POOL, 0)
    };
    Command::VolumeCreate { id, spec }
}

pub(crate) fn revert(id: Uuid, snapshot: Uuid, interrupt: bool) -> Command {
    let spec = RevertSpec {
        snapshot,
        interrupt,
    };
    Command::VolumeRevert { id, spec }
}

pub(crate) fn transfer(id: Uuid, owner: &str, interrupt: bool) -> Command {
    let spec = TransferSpec {
        owner: owner.parse().unwrap(),
        interrupt,
    };
    Command::VolumeTransfer { id, spec }
}

pub(crate) fn update(id: Uuid, spec: VolumeUpdate) -> Command {
    let spec = Box::new(spec);
    Command::VolumeUpdate { id, spec }
}

pub(crate) fn extend(id: Uuid, size: u64) -> Command {
    Command::VolumeExtend {
        id,
        spec: ExtendSpec { size },
    }
}

/// Without force.
pub(crate) fn detach(id: Uuid) -> Command {
    Command::ConnectionDelete { id, force: false }
}

/// Lets a host read a snapshot.
pub(crate) fn read(id: Uuid, snapshot: Uuid, host: Uuid) -> Command {
    Command::ConnectionCreate {
        id,
        spec: ConnectionSpec {
            of: Connected::Snapshot(snapshot),
            host,
            transport: Transport::Iscsi,
            access: Access::ReadOnly,
        },
    }
}

pub(crate) fn attach(id: Uuid, volume: Uuid, host: Uuid, transport: Transport) -> Command {
    Command::ConnectionCreate {
        id,
        spec: ConnectionSpec {
            of: Connected::Volume(volume),
            host,
            transport,
            access: Access::ReadWrite,
        },
    }
}
