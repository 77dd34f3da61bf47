//! Calls and replies: the whole privileged vocabulary.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::desired::{DesiredPool, DesiredVolume};
use crate::report::{DiskReport, Failure, FeatureReport, PoolReport, Report, VolumeReport};
use crate::units::ThinId;

/// The version both ends must agree on in [`Request::Hello`].
pub const PROTOCOL_VERSION: u32 = 1;

/// One call on the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// Chosen by the caller, unique among the calls it has in flight.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// One answer on the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// The call's id.
    pub id: u64,
    /// The answer, or why there is none.
    pub result: Result<Response, Failure>,
}

/// Everything targetd can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// First call on a connection. Answered by [`Response::Hello`] or refused.
    Hello {
        /// The caller's [`PROTOCOL_VERSION`].
        version: u32,
    },
    /// Bring a pool to its desired state.
    ApplyPool(Box<DesiredPool>),
    /// Bring a volume to its desired state.
    ApplyVolume(Box<DesiredVolume>),
    /// Look at a pool.
    ObservePool {
        /// The pool.
        id: Uuid,
    },
    /// Look at a volume.
    ObserveVolume {
        /// The volume.
        id: Uuid,
        /// Its pool.
        pool: Uuid,
        /// Its thin device.
        thin_id: ThinId,
    },
    /// List the disks of the box.
    ListDisks,
    /// List kernel objects that carry our names, for finding orphans: ids of volumes and pools.
    ListObjects,
    /// Take an orphan, a volume that the intent does not know, out of the kernel: its exports
    /// and its active device. Its data stays. Answered by [`Response::Applied`] with
    /// generation 0.
    Unexport {
        /// The volume, as listed.
        id: Uuid,
    },
}

/// Everything targetd answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Response {
    /// Greetings.
    Hello {
        /// targetd's [`PROTOCOL_VERSION`].
        version: u32,
        /// The kernel's release.
        kernel: String,
        /// What the kernel can do.
        features: Vec<FeatureReport>,
    },
    /// The object is as desired.
    Applied(Report),
    /// A pool as seen.
    Pool(PoolReport),
    /// A volume as seen.
    Volume(VolumeReport),
    /// The disks.
    Disks(Vec<DiskReport>),
    /// Objects in the kernel.
    Objects {
        /// Pools with any device.
        pools: Vec<Uuid>,
        /// Volumes with a device, a backstore, a target or a subsystem.
        volumes: Vec<Uuid>,
        /// Objects in the same trees which are not ours, in words.
        foreign: Vec<String>,
    },
}
