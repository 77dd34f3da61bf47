//! Waiting for what was accepted.

use std::time::Duration;

use ashlar_protocol::{Job, JobState, Problem, ProblemCode};

use super::{CallError, Change, Client, Failure};

/// The first look comes soon, later ones at most this far apart.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LAST_LOOK: Duration = Duration::from_secs(1);

impl Client {
    /// Looks at a job until it is done, telling `watch` each time.
    ///
    /// # Errors
    /// The job's own problem when it failed; otherwise why a look failed.
    pub async fn job_wait(&self, job: Job, mut watch: impl FnMut(&Job)) -> Result<Job, CallError> {
        let mut job = job;
        let mut pause = FIRST_LOOK;
        loop {
            watch(&job);
            match job.state {
                JobState::Succeeded => return Ok(job),
                JobState::Failed | JobState::Cancelled => return Err(failed(job)),
                JobState::Running => {}
            }
            // The protocol has no event for it; a look costs the appliance one map access.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_LOOK);
            job = self.job_show(job.id).await?;
        }
    }

    /// Waits until a change is in the kernel.
    ///
    /// # Errors
    /// As [`Client::job_wait`].
    pub async fn settle<T>(&self, change: &Change<T>) -> Result<(), CallError> {
        match change {
            Change::Done { .. } => Ok(()),
            Change::Accepted(job) => self.job_wait(job.clone(), |_| ()).await.map(drop),
        }
    }
}

fn failed(job: Job) -> CallError {
    let problem = job.problem.unwrap_or_else(|| {
        Problem::new(ProblemCode::Internal, "the job failed without saying why").about(job.object)
    });
    CallError {
        operation: job.operation,
        failure: Failure::Problem(problem),
    }
}
