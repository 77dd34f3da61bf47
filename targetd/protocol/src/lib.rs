//! What the agent and targetd say to each other, and the words they share.
//!
//! The agent holds the intent, targetd holds the privilege. Between them runs one
//! AF_UNIX stream of framed messages. Every call carries an id chosen by the agent; replies come
//! back in any order.
//!
//! The whole privileged vocabulary is the enum [`Request`]. It speaks of *objects*
//! (one volume with its exports, one pool on its disks) and of their **desired**
//! state; targetd observes, plans, checks, applies and answers with a [`Report`].
//! There is no request that names a path, a device node or a configfs file.
//!
//! Volume data does not pass through targetd. It opens a device and hands the agent the
//! descriptor: one, by `SCM_RIGHTS`, with the first byte of the reply that says so
//! ([`Response::Opened`], [`Response::Metadata`]) and with no other.
//!
//! | module      | what |
//! |-------------|------|
//! | [`names`]   | checked names: [`Iqn`], [`Nqn`], [`PortalAddr`], [`DiskId`], … |
//! | [`wwn`]     | names of Fibre Channel: [`Wwn`], [`FcPort`] |
//! | [`units`]   | checked numbers: [`Sectors`], [`ThinId`], [`Lun`], [`Nsid`], … |
//! | [`secret`]  | secrets that cannot be printed |
//! | [`desired`] | what should be |
//! | [`raid`]    | disks that stand in for each other |
//! | [`report`]  | what was seen and done, and what went wrong |
//! | [`frame`]   | length-prefixed messages on a byte stream |
//!
//! Every value is checked where it is decoded: a message that decodes is well-formed.

pub mod desired;
pub mod frame;
pub mod names;
pub mod raid;
pub mod report;
pub mod secret;
pub mod units;
pub mod wwn;

mod call;

pub use call::{
    AddressState, Call, Counted, OpenObject, PROTOCOL_VERSION, Reply, Request, Response, Scrub,
};
pub use desired::{
    Accesses, DataState, DesiredMove, DesiredPool, DesiredSnapshot, DesiredSnapshots,
    DesiredVolume, DhGroup, DhHash, DhchapExchange, Exports, FcAccess, FcExport, IscsiAcl,
    IscsiExport, NvmeExport, NvmeFabric, NvmeHost, NvmePort, PoolBefore, PoolDestruction, PoolDisk,
    PoolFormat, Qos, Rate, SnapshotsKind, ThinRef, ThinSource,
};
pub use names::{DiskId, Iqn, NameError, Nqn, PortalAddr, Transport};
pub use raid::{RaidLevel, Redundancy};
pub use report::{
    DiskReport, Failure, FailureKind, FeatureReport, IoCounters, IoTotals, MemberReport,
    MemberState, PoolReport, PoolUsage, Report, ServedAt, SetAction, SetMemberReport, SetReport,
    Unserved, VolumeReport,
};
pub use secret::{ChapCredentials, ChapName, ChapSecret, DhchapKey, SecretError};
pub use units::{Bytes, Lun, Nsid, PortId, RangeError, SECTOR, Sectors, ThinId, TpgTag};
pub use wwn::{FcPort, Wwn};
