//! What a change is answered with.

use ashlar_protocol::{Job, Operation, Problem};
use uuid::Uuid;

use super::Engine;
use crate::domain::view::Look;
use crate::domain::{Outcome, Reply, outcome};

/// The answer to a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Done(Outcome),
    /// Durable, and under way; the job's id is the request's.
    Accepted(Job),
}

impl Engine {
    /// The answer to a request the kernel has all of: the object as it is now, or why the
    /// request was given up.
    pub(super) async fn done(&self, request: Uuid, reply: Reply) -> Result<Outcome, Problem> {
        self.given_up(request).await?;
        let look = match reply.operation {
            Operation::PoolCreate
            | Operation::PoolUpdate
            | Operation::PoolGrow
            | Operation::PoolImport
            | Operation::PoolReplace => self.look_at_pool(reply.object.id).await,
            _ => Look::Gone,
        };
        let intent = self.shared.intent.read().await;
        outcome(&intent, &self.shared.site.as_of(&intent), reply, &look)
    }

    /// The answer to a request past its deadline.
    pub(super) async fn accepted(&self, request: Uuid) -> Result<Answer, Problem> {
        self.given_up(request).await?;
        self.job(request).await.map(Answer::Accepted)
    }

    async fn given_up(&self, request: Uuid) -> Result<(), Problem> {
        let intent = self.shared.intent.read().await;
        match intent
            .request(request)
            .and_then(|record| record.failed.as_deref())
        {
            Some(problem) => Err(problem.clone()),
            None => Ok(()),
        }
    }
}
