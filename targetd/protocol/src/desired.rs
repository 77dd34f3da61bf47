//! Desired state: what the agent wants the kernel to have, one object at a time.
//!
//! A desired state is complete for its object. Exports that are not in it are removed;
//! **data is never destroyed by absence**: it takes [`DataState::Tombstone`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::names::{DiskId, Iqn, Nqn, PortalAddr};
use crate::raid::Redundancy;
use crate::report::ServedAt;
use crate::secret::{ChapCredentials, DhchapKey};
use crate::units::{Lun, PortId, Sectors, ThinId};
use crate::wwn::{FcPort, Wwn};

/// A pool on its disks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredPool {
    /// The pool's id; also in every label on its disks.
    pub id: Uuid,
    /// The intent's generation, echoed in the report.
    pub generation: u64,
    /// The disks in order. Data and metadata are laid out over them in this order.
    pub disks: Vec<PoolDisk>,
    /// How they stand in for each other; nothing when they do not.
    pub redundancy: Option<Redundancy>,
    /// Size of the thin metadata device.
    pub metadata: Sectors,
    /// Allocation unit: a multiple of 128 sectors (64 KiB), 128 to 2,097,152.
    pub block: Sectors,
    /// Free blocks at which the kernel raises a low-water event.
    pub low_water_blocks: u64,
    /// Whether labels and metadata may be written where there are none.
    pub format: PoolFormat,
    /// True when the pool is to go away from the kernel. Its disks keep their content.
    pub absent: bool,
    /// With `absent`: its disks are to be blank afterwards, and what it holds is gone.
    pub destroy: Option<PoolDestruction>,
    /// What the pool was before it grows, until it has grown. Then `format` says what may be
    /// written to the disks that come, and only to them; the pool itself is kept in any case.
    pub grows_from: Option<PoolBefore>,
    /// The box. A pool that another one has by what its disks say, or that was let go of, is not
    /// touched.
    pub holder: Uuid,
    /// It is to be this box's, whoever has it.
    pub takes: bool,
}

impl DesiredPool {
    /// Whether it has a catalog.
    pub fn has_catalog(&self) -> bool {
        self.disks.iter().any(|disk| disk.catalog.0 > 0)
    }
}

/// One disk of a pool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolDisk {
    /// Stable identity.
    pub id: DiskId,
    /// Room for metadata on it, a whole number of MiB. Metadata fill it on one disk after the
    /// other; data come after it. With redundancy, the room on the set whose first disk it is, and
    /// none on the others.
    pub metadata_room: Sectors,
    /// How much of that room, at its end, is the pool's catalog instead: a whole number of MiB, and
    /// none on all disks but one, or all sets but one.
    pub catalog: Sectors,
    /// How many disks had its place before it. More than none only with redundancy.
    pub turn: u32,
    /// While it takes the place of another disk of a pool that stands: what may be written to it.
    /// Once it carries the pool's label that is nothing any more.
    pub takes_place: Option<PoolFormat>,
    /// What it holds is known to be older than what the others of its set have. It does not
    /// count as one that has its data until it was rebuilt.
    pub stale: bool,
}

impl PoolDisk {
    /// A disk that has its place since the pool was made, or since it came to it.
    pub fn new(id: DiskId, metadata_room: Sectors) -> Self {
        PoolDisk {
            id,
            metadata_room,
            catalog: Sectors(0),
            turn: 0,
            takes_place: None,
            stale: false,
        }
    }
}

/// How a pool is destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolDestruction {
    /// Even if thin devices in it hold data, if nobody can tell, or if disks are missing or cannot
    /// be read or written.
    pub force: bool,
}

/// What a pool was before it grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolBefore {
    /// How many disks it had: the first ones of those that are desired, and with redundancy
    /// whole sets.
    pub disks: u32,
    /// Size of its thin metadata.
    pub metadata: Sectors,
}

/// What may be written to disks that do not carry this pool's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolFormat {
    /// Nothing: a disk without the label is an error. The only value once a pool was made.
    Never,
    /// Blank disks are labelled and the metadata is made.
    BlankOnly,
    /// Whatever the disks hold is overwritten; the caller said so explicitly.
    /// A disk of another Ashlar pool that is active, or any disk in use, is still refused; and so
    /// are disks that hold a pool of this very id with data in it.
    Wipe,
}

/// A volume: its thin device and all its exports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredVolume {
    /// The volume's id. Device names, serial numbers, NGUID and UUID derive from it.
    pub id: Uuid,
    /// The intent's generation, echoed in the report.
    pub generation: u64,
    /// The pool it lives in, which must be active.
    pub pool: Uuid,
    /// Its thin device.
    pub thin_id: ThinId,
    /// Its size. Growing is applied; shrinking is refused.
    pub size: Sectors,
    /// Whether its data exists.
    pub data: DataState,
    /// What a volume that is provisioned begins as; nothing means all zeros.
    pub source: Option<ThinSource>,
    /// Thin devices that were this volume's before; one, while the present one is made to take
    /// its place. Until that is known to exist, the volume stays on it ([`DataState::Provision`]).
    /// Then an active device on any of them is given the present one, beneath whatever is
    /// exported ([`DataState::Replace`]), and there is no way back: hosts write to it. At last
    /// they are destroyed ([`DataState::Present`], [`DataState::Tombstone`]).
    pub retired: BTreeSet<ThinRef>,
    /// Its way to another pool, while it is on it.
    pub moving: Option<DesiredMove>,
    /// Who may reach it, and how.
    pub exports: Exports,
    /// How much it may do while it is active.
    pub qos: Qos,
    /// Whether its device is active although nobody may reach it, for the agent to open.
    /// Otherwise it is active only while something is exported.
    pub held: bool,
    /// Those whom the caller agreed to cut off. That anyone else loses access while using it is
    /// refused.
    pub cut: Accesses,
}

/// Hosts, by the name each has on its transport.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accesses {
    /// iSCSI initiators.
    pub iscsi: BTreeSet<Iqn>,
    /// NVMe hosts.
    pub nvme: BTreeSet<Nqn>,
}

impl Accesses {
    /// Whether it is nobody.
    pub fn is_empty(&self) -> bool {
        self.iscsi.is_empty() && self.nvme.is_empty()
    }
}

/// What a volume may do in a second at most, whoever asks it to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qos {
    /// Operations, of one pool block at most; a larger one counts as several.
    pub operations: Rate,
    /// Bytes.
    pub bytes: Rate,
}

impl Qos {
    /// Whether nothing is limited.
    pub fn is_unlimited(&self) -> bool {
        *self == Qos::default()
    }
}

/// A limit of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Rate {
    /// Of reads and of writes, each for itself. Nothing means no limit.
    Each {
        /// Of reads.
        read: Option<u64>,
        /// Of writes.
        write: Option<u64>,
    },
    /// Of both together; at least 2.
    Total(u64),
}

impl Default for Rate {
    fn default() -> Rate {
        Rate::Each {
            read: None,
            write: None,
        }
    }
}

/// A thin device of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThinRef {
    /// The pool.
    pub pool: Uuid,
    /// The thin device in it.
    pub thin_id: ThinId,
}

/// What the agent needs to bring a volume's content to another pool while the volume is in use.
/// Whatever of it is not asked for any more is to be among the `retired`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredMove {
    /// Where to: made, holding nothing, and active for the agent to write.
    pub to: ThinRef,
    /// A thin device of the volume's present pool: made with what the volume holds then, and
    /// active for the agent to read.
    pub copy: Option<ThinId>,
    /// Whether the volume does no I/O from that moment on, so that the copy is all there is.
    /// That lasts until a desired state says otherwise, or puts the volume elsewhere.
    pub still: bool,
}

/// What a new thin device shares its first content with; always of the same pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThinSource {
    /// The volume or snapshot. If its device is active, its I/O is held back for that moment.
    pub object: Uuid,
    /// Its thin device.
    pub thin_id: ThinId,
}

/// Snapshots that are taken at one instant: one of a volume, or those of all members of a
/// group. Either all of them exist or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredSnapshots {
    /// What they are together.
    pub kind: SnapshotsKind,
    /// The id of the one snapshot, of the group whose members are made, or of the group snapshot.
    /// Ids of different kinds may be the same.
    pub id: Uuid,
    /// The intent's generation, echoed in the report.
    pub generation: u64,
    /// The snapshots, at least one, each of another thin device.
    pub members: Vec<DesiredSnapshot>,
    /// Whether their data exists.
    pub data: DataState,
}

/// What snapshots that are taken at one instant are together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotsKind {
    /// One snapshot.
    Snapshot,
    /// The members of a group that begins as a copy.
    Group,
    /// The snapshots of all members of a group.
    GroupSnapshot,
}

/// One snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredSnapshot {
    /// Its id. The name of its device derives from it.
    pub id: Uuid,
    /// The pool it lives in, which must be active.
    pub pool: Uuid,
    /// Its thin device.
    pub thin_id: ThinId,
    /// Its size.
    pub size: Sectors,
    /// What it is a snapshot of.
    pub source: ThinSource,
    /// Who may reach it, and how; only ever to read it. Its device is active, read-only, while it
    /// is exported.
    pub exports: Exports,
    /// Whether its device is active, read-only, for the agent to open.
    pub held: bool,
    /// Those whom the caller agreed to cut off, as of a volume.
    pub cut: Accesses,
}

/// Whether a volume's data should exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataState {
    /// The thin device may be created if the pool lacks it: the volume is new, or is to be
    /// something else than it is.
    Provision,
    /// As [`DataState::Present`], but what the volume was before is not destroyed yet.
    Replace,
    /// The thin device exists. If it does not, that is an error and nothing is created.
    Present,
    /// The data is to be destroyed. Exports must be empty.
    Tombstone,
}

/// All exports of a volume, at most one per kernel target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exports {
    /// LUNs on Fibre Channel, or none.
    pub fc: Option<FcExport>,
    /// The iSCSI target, or none.
    pub iscsi: Option<IscsiExport>,
    /// The NVMe subsystem, or none.
    pub nvme: Option<NvmeExport>,
}

impl Exports {
    /// Whether nothing is exported.
    pub fn is_empty(&self) -> bool {
        self.fc.is_none() && self.iscsi.is_none() && self.nvme.is_none()
    }

    /// Whether it is a SCSI disk to somebody.
    pub fn is_disk(&self) -> bool {
        self.fc.is_some() || self.iscsi.is_some()
    }

    /// Whether somebody is to read a SCSI disk and not to write it.
    pub fn is_read_only_disk(&self) -> bool {
        let fc = self.fc.iter().flat_map(|export| export.initiators.values());
        let iscsi = self
            .iscsi
            .iter()
            .flat_map(|export| export.initiators.values());
        fc.map(|access| access.read_only)
            .chain(iscsi.map(|acl| acl.read_only))
            .any(|read_only| read_only)
    }

    /// How many hosts have access, once for each transport.
    pub fn accesses(&self) -> usize {
        let iscsi = self.iscsi.iter().map(|export| export.initiators.len());
        let nvme = self.nvme.iter().map(|export| export.hosts.len());
        let fc = self.fc.iter().map(|export| export.initiators.len());
        fc.chain(iscsi).chain(nvme).sum()
    }
}

/// A LUN of the targets that ports of the box are, which volumes share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FcExport {
    /// The box's own ports; at least one.
    pub ports: BTreeSet<Wwn>,
    /// Its number among all that these serve. No initiator sees it.
    pub unit: Lun,
    /// Who sees it, by the name of their port. Empty means nobody.
    pub initiators: BTreeMap<Wwn, FcAccess>,
}

/// What one initiator has of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FcAccess {
    /// The LUN it sees; each of an initiator's is another.
    pub lun: Lun,
    /// Whether its writes fail.
    pub read_only: bool,
}

/// One iSCSI target with portal group 1 and LUN 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IscsiExport {
    /// The target's name.
    pub target: Iqn,
    /// Where it listens over TCP.
    pub portals: BTreeSet<PortalAddr>,
    /// Where it listens over RDMA. The kernel does so over TCP there as well. At least one of both.
    pub iser: BTreeSet<PortalAddr>,
    /// Who may log in. Empty means nobody.
    pub initiators: BTreeMap<Iqn, IscsiAcl>,
}

/// One initiator's access.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IscsiAcl {
    /// What the initiator proves. `None` only where the host was created without authentication.
    pub chap: Option<ChapCredentials>,
    /// What the target proves in return.
    pub mutual: Option<ChapCredentials>,
    /// Whether its writes fail.
    pub read_only: bool,
}

/// One NVMe subsystem with namespace 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NvmeExport {
    /// The subsystem's name.
    pub subsystem: Nqn,
    /// Where it is reachable, by port number; at least one.
    pub ports: BTreeMap<PortId, NvmePort>,
    /// Who may connect. Empty means nobody.
    pub hosts: BTreeMap<Nqn, NvmeHost>,
}

/// Where NVMe hosts connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NvmePort {
    /// An address for TCP.
    Tcp(PortalAddr),
    /// An address for RDMA.
    Rdma(PortalAddr),
    /// A port of the box's own on Fibre Channel.
    Fc(FcPort),
}

impl NvmePort {
    /// What carries NVMe to it.
    pub fn fabric(self) -> NvmeFabric {
        match self {
            NvmePort::Tcp(_) => NvmeFabric::Tcp,
            NvmePort::Rdma(_) => NvmeFabric::Rdma,
            NvmePort::Fc(_) => NvmeFabric::Fc,
        }
    }

    /// Where that is.
    pub fn place(self) -> ServedAt {
        match self {
            NvmePort::Tcp(address) | NvmePort::Rdma(address) => ServedAt::Address(address),
            NvmePort::Fc(port) => ServedAt::NvmeFc(port),
        }
    }

    /// The address that it listens at, if it has such.
    pub fn address(self) -> Option<PortalAddr> {
        match self {
            NvmePort::Tcp(address) | NvmePort::Rdma(address) => Some(address),
            NvmePort::Fc(_) => None,
        }
    }
}

impl fmt::Display for NvmePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NvmePort::Tcp(address) => address.fmt(f),
            NvmePort::Rdma(address) => write!(f, "{address} over RDMA"),
            NvmePort::Fc(port) => port.fmt(f),
        }
    }
}

/// What carries NVMe between a host and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NvmeFabric {
    /// TCP.
    Tcp,
    /// RDMA, connected by way of an IP address.
    Rdma,
    /// Fibre Channel.
    Fc,
}

/// One NVMe host's access. The kernel keeps all of it per host, not per subsystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NvmeHost {
    /// What the host proves. `None` only where the host was created without authentication.
    pub key: Option<DhchapKey>,
    /// What the controller proves in return.
    pub controller_key: Option<DhchapKey>,
    /// How they prove it.
    pub exchange: DhchapExchange,
}

/// How DH-HMAC-CHAP is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DhchapExchange {
    /// The hash of challenge and response. A host that does not offer it uses another.
    #[serde(default)]
    pub hash: DhHash,
    /// The Diffie-Hellman group that keeps recorded exchanges from being searched for the key.
    /// Hosts have to know it: Linux challenges with it whatever they offer.
    #[serde(default)]
    pub group: DhGroup,
}

impl fmt::Display for DhchapExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = match self.hash {
            DhHash::Sha256 => "sha256",
            DhHash::Sha384 => "sha384",
            DhHash::Sha512 => "sha512",
        };
        let group = match self.group {
            DhGroup::None => return f.write_str(hash),
            DhGroup::Ffdhe2048 => "ffdhe2048",
            DhGroup::Ffdhe3072 => "ffdhe3072",
            DhGroup::Ffdhe4096 => "ffdhe4096",
            DhGroup::Ffdhe6144 => "ffdhe6144",
            DhGroup::Ffdhe8192 => "ffdhe8192",
        };
        write!(f, "{hash} and {group}")
    }
}

/// A hash for DH-HMAC-CHAP.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum DhHash {
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// A Diffie-Hellman group for DH-HMAC-CHAP.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum DhGroup {
    /// No exchange.
    #[default]
    None,
    /// 2048 bits.
    Ffdhe2048,
    /// 3072 bits.
    Ffdhe3072,
    /// 4096 bits.
    Ffdhe4096,
    /// 6144 bits.
    Ffdhe6144,
    /// 8192 bits.
    Ffdhe8192,
}
