//! What answers the requests.

use std::path::Path;
use std::sync::Arc;

use ashlar_kernel_iface::tree::TreeError;
use ashlar_targetd_protocol::{
    Counted, Failure, FailureKind, PROTOCOL_VERSION, Report, Request, Response,
};
use uuid::Uuid;

use crate::changes::Changes;
use crate::features::features;
use crate::kernel::{Kernel, KernelError};
use crate::locks::KeyLocks;
use crate::pool::{Metadata, Pools};
use crate::prepare::{PrepareError, prepare};
use crate::qos::Limiter;
use crate::server::{Answer, Caller, Service};
use crate::snapshots::Snapshots;
use crate::transport::Transports;
use crate::volume::Volumes;
use crate::watch::Watch;
use crate::{counters, disks, objects, thin};

/// Everything this daemon does for a kernel, without the socket.
pub struct Targetd {
    kernel: Kernel,
    transports: Arc<Transports>,
    pools: Pools,
    metadata: Metadata,
    volumes: Volumes,
    snapshots: Snapshots,
    limiter: Limiter,
    changes: Arc<Changes>,
    /// Counts the changes for as long as this is there.
    _watch: Watch,
}

/// Why it could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The kernel could not be prepared.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// What is there could not be listed.
    #[error("failed to list the exports that exist")]
    Survey(#[source] KernelError),
    /// What a killed process left could not be looked for.
    #[error("failed to list the devices that exist")]
    Leftovers(#[source] KernelError),
    /// The limits that exist could not be listed.
    #[error("failed to list the limits that exist")]
    Limits(#[source] TreeError),
    /// The thread that watches the kernel did not start.
    #[error("failed to start to watch the kernel")]
    Watch(#[source] std::io::Error),
}

impl Targetd {
    /// Prepares the kernel and learns what is there. Nothing that exists is changed, but for
    /// devices that a killed process made for a moment of its own.
    pub fn start(kernel: Kernel, dbroot: &Path) -> Result<Self, StartError> {
        prepare(&kernel, dbroot)?;
        thin::remove_probes(&kernel).map_err(StartError::Leftovers)?;
        let transports = Arc::new(Transports::default());
        transports
            .survey(kernel.tree())
            .map_err(|error| StartError::Survey(error.into()))?;
        let objects = Arc::new(KeyLocks::default());
        let limiter = Limiter::learn(kernel.clone()).map_err(StartError::Limits)?;
        let changes = Arc::new(Changes::default());
        let watch = Watch::start(&kernel, Arc::clone(&changes)).map_err(StartError::Watch)?;
        Ok(Targetd {
            changes,
            _watch: watch,
            pools: Pools::new(kernel.clone()),
            volumes: Volumes::new(
                kernel.clone(),
                Arc::clone(&transports),
                limiter.clone(),
                Arc::clone(&objects),
            ),
            snapshots: Snapshots::new(kernel.clone(), Arc::clone(&transports), objects),
            limiter,
            metadata: Metadata::new(kernel.clone()),
            transports,
            kernel,
        })
    }

    /// Takes an orphan out of the kernel, a volume or a snapshot.
    fn unexport(&self, id: Uuid) -> Result<Report, Failure> {
        // A snapshot's device rests beneath its exports no longer, so that these can go.
        let mut steps = self.snapshots.unexport(id)?;
        let report = self.volumes.unexport(id)?;
        steps.extend(report.steps);
        Ok(Report { steps, ..report })
    }

    /// The limits of volumes.
    pub fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    fn hello(&self) -> Response {
        Response::Hello {
            version: PROTOCOL_VERSION,
            kernel: self.kernel.modules.release(),
            features: features(&self.kernel),
        }
    }
}

impl Service for Targetd {
    fn answer(&self, caller: Caller, request: Request) -> Result<Answer, Failure> {
        self.carry_out(caller, request)
            .inspect_err(|failure| tracing::warn!(kind = ?failure.kind, "{failure}"))
    }

    fn changes(&self) -> &Changes {
        &self.changes
    }

    fn gone(&self, caller: Caller) {
        self.metadata.let_go(caller);
    }
}

impl Targetd {
    fn carry_out(&self, caller: Caller, request: Request) -> Result<Answer, Failure> {
        let response = match request {
            Request::Hello { .. } => Ok(self.hello()),
            Request::ApplyPool(desired) => self.pools.apply(&desired).map(Response::Applied),
            Request::ApplyVolume(desired) => self.volumes.apply(&desired).map(Response::Applied),
            Request::ApplySnapshots(desired) => {
                self.snapshots.apply(&desired).map(Response::Applied)
            }
            Request::ObservePool { id } => self.pools.report(id).map(Response::Pool),
            Request::ScrubPool { id, scrub } => self.pools.scrub(id, scrub).map(Response::Applied),
            Request::ObserveVolume { id, .. } => self.volumes.report(id).map(Response::Volume),
            Request::ReadCounters(counted) => counters::read(&self.kernel, counted)
                .map(Response::Counters)
                .map_err(|error| uncounted(counted, &error)),
            Request::ListDisks => disks::list(&self.kernel)
                .map(Response::Disks)
                .map_err(|error| unlisted("disks", &error)),
            Request::ListObjects => objects::list(&self.kernel, &self.transports)
                .map(Response::from)
                .map_err(|error| unlisted("objects", &error)),
            Request::Unexport { id } => self.unexport(id).map(Response::Applied),
            Request::OpenDevice { object, write } => return self.volumes.open(object, write),
            Request::OpenMetadata { pool } => return self.metadata.open(caller, pool),
            Request::ReleaseMetadata { pool } => {
                self.metadata.release(pool).map(|()| Response::Released)
            }
            Request::ApplyCatalog(desired) => {
                self.pools.apply_catalog(&desired).map(Response::Applied)
            }
            Request::OpenCatalog { pool, write } => return self.pools.open_catalog(pool, write),
            Request::FindAddresses(addresses) => self
                .kernel
                .network
                .absent(&addresses)
                .map(Response::Absent)
                .map_err(|errno| unlisted("addresses", &errno.into())),
            Request::TryAddress { transport, address } => self
                .transports
                .try_address(&self.kernel, transport, address)
                .map(Response::Address)
                .map_err(|error| unlisted("who listens", &error)),
            Request::ReleaseAddress { address } => self
                .transports
                .release(&self.kernel, address)
                .map(|()| Response::Released)
                .map_err(|error| {
                    let detail = format!("failed to let go of {address}: {error}");
                    Failure::new(FailureKind::Kernel, detail)
                }),
            Request::AwaitChange { .. } => Err(Failure::new(
                FailureKind::Refused,
                "only a connection can wait for changes",
            )),
        };
        response.map(Answer::from)
    }
}

fn uncounted(counted: Counted, error: &KernelError) -> Failure {
    Failure::new(
        FailureKind::Kernel,
        format!("failed to read the counters of {counted:?}: {error}"),
    )
}

fn unlisted(what: &str, error: &KernelError) -> Failure {
    Failure::new(
        FailureKind::Kernel,
        format!("failed to list {what}: {error}"),
    )
}
