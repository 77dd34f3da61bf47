//! What answers the requests.

use std::path::Path;
use std::sync::Arc;

use ashlar_targetd_protocol::{Failure, FailureKind, PROTOCOL_VERSION, Request, Response};

use crate::features::features;
use crate::kernel::{Kernel, KernelError};
use crate::pool::Pools;
use crate::prepare::{PrepareError, prepare};
use crate::server::Service;
use crate::transport::Transports;
use crate::volume::Volumes;
use crate::{disks, objects};

/// Everything this daemon does for a kernel, without the socket.
pub struct Targetd {
    kernel: Kernel,
    transports: Arc<Transports>,
    pools: Pools,
    volumes: Volumes,
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
}

impl Targetd {
    /// Prepares the kernel and learns what is there. Nothing that exists is changed.
    pub fn start(kernel: Kernel, dbroot: &Path) -> Result<Self, StartError> {
        prepare(&kernel, dbroot)?;
        let transports = Arc::new(Transports::default());
        transports
            .survey(kernel.tree())
            .map_err(|error| StartError::Survey(error.into()))?;
        Ok(Targetd {
            pools: Pools::new(kernel.clone()),
            volumes: Volumes::new(kernel.clone(), Arc::clone(&transports)),
            transports,
            kernel,
        })
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
    fn answer(&self, request: Request) -> Result<Response, Failure> {
        let result = match request {
            Request::Hello { .. } => Ok(self.hello()),
            Request::ApplyPool(desired) => self.pools.apply(&desired).map(Response::Applied),
            Request::ApplyVolume(desired) => self.volumes.apply(&desired).map(Response::Applied),
            Request::ObservePool { id } => self.pools.report(id).map(Response::Pool),
            Request::ObserveVolume { id, pool, .. } => {
                self.volumes.report(id, pool).map(Response::Volume)
            }
            Request::ListDisks => disks::list(&self.kernel)
                .map(Response::Disks)
                .map_err(|error| unlisted("disks", &error)),
            Request::ListObjects => objects::list(&self.kernel, &self.transports)
                .map(Response::from)
                .map_err(|error| unlisted("objects", &error)),
            Request::Unexport { id } => self.volumes.unexport(id).map(Response::Applied),
        };
        result.inspect_err(|failure| tracing::warn!(kind = ?failure.kind, "{failure}"))
    }
}

fn unlisted(what: &str, error: &KernelError) -> Failure {
    Failure {
        kind: FailureKind::Kernel,
        message: format!("failed to list {what}: {error}"),
    }
}
