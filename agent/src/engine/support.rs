//! What a support bundle has that no client is shown otherwise.

use ashlar_protocol::{Problem, ProblemCode};
use ashlar_targetd_protocol::PoolReport;
use uuid::Uuid;

use super::Engine;
use crate::domain::view::Look;
use crate::support::SupportOptions;
use crate::targetd::Greeting;

impl Engine {
    /// What a bundle has besides.
    pub(crate) fn support(&self) -> &SupportOptions {
        &self.shared.support
    }

    /// What targetd is, and what its kernel can do.
    ///
    /// # Errors
    /// When it is away; likewise below.
    pub(crate) fn greeting(&self) -> Result<Greeting, Problem> {
        self.shared.targetd.greeting().ok_or_else(away)
    }

    /// All pools.
    pub(crate) async fn pool_ids(&self) -> Vec<Uuid> {
        let intent = self.shared.intent.read().await;
        intent.pools().keys().copied().collect()
    }

    /// A pool as the kernel has it.
    pub(crate) async fn pool_report(&self, id: Uuid) -> Result<PoolReport, Problem> {
        match self.look_at_pool(id).await {
            Look::Report(report) => Ok(report),
            Look::Busy | Look::Gone => Err(away()),
        }
    }
}

fn away() -> Problem {
    let detail = "targetd does not tell, or not in time";
    Problem::new(ProblemCode::TargetdUnavailable, detail)
}
