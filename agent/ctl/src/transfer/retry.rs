use std::time::Duration;

use ashlar_protocol::{Job, JobState, ProblemCode};
use uuid::Uuid;

use crate::client::{CallError, Client, Failure};

/// Breaks in a row, with nothing moved between them, until there is no hope.
const MOST: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// What is left of it.
pub(crate) struct Patience {
    breaks: u32,
    pause: Duration,
}

impl Patience {
    pub(crate) fn new() -> Patience {
        Patience {
            breaks: 0,
            pause: FIRST_PAUSE,
        }
    }

    /// Something was moved since the last break.
    pub(super) fn renew(&mut self) {
        *self = Patience::new();
    }

    /// Waits a little, if going on may help.
    ///
    /// # Errors
    /// That which it does not help against.
    pub(crate) async fn bear(&mut self, error: CallError) -> Result<(), CallError> {
        self.breaks += 1;
        if !error.retryable() || self.breaks > MOST {
            return Err(error);
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LAST_PAUSE);
        Ok(())
    }
}

/// Whether somebody else is at work on it, rather than what is left of ourselves.
pub(super) fn busy(error: &CallError) -> bool {
    error.problem().map(|problem| problem.code) == Some(ProblemCode::Busy)
}

/// Whether it is we who have cancelled a job.
#[derive(Default)]
pub(super) struct Cancelled(bool);

/// The job that a broken transfer has left, once it has ended; `None` if it never began.
///
/// # Errors
/// Its own problem when it did not end for being broken: there is nothing to go on with then.
/// Otherwise why it cannot be looked at or ended.
pub(super) async fn ended(
    client: &Client,
    job: Uuid,
    ours: &mut Cancelled,
) -> Result<Option<Job>, CallError> {
    let looking = client.under_new_ids();
    let job = match looking.job_show(job).await {
        Ok(job) => job,
        Err(error) if not_found(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    if job.state != JobState::Running {
        return match job.problem {
            Some(problem) if !problem.retryable && !ours.0 => Err(CallError {
                operation: job.operation,
                failure: Failure::Problem(problem),
            }),
            _ => Ok(Some(job)),
        };
    }
    // Nobody gives to it or takes from it any more. It may end by itself meanwhile.
    ours.0 = true;
    let cancelled = looking.job_cancel(job.id).await;
    let job = looking.job_show(job.id).await?;
    match (job.state, cancelled) {
        (JobState::Running, Err(error)) => Err(error),
        _ => Ok(Some(job)),
    }
}

/// The job of a transfer that has nothing more to give or take, as it ends by itself, whatever
/// breaks meanwhile; `None` if it never began.
///
/// # Errors
/// The job's own problem when it failed; otherwise why it cannot be looked at.
pub(super) async fn concluded(client: &Client, job: Uuid) -> Result<Option<Job>, CallError> {
    let looking = client.under_new_ids();
    let mut patience = Patience::new();
    loop {
        let looked = match looking.job_show(job).await {
            Ok(job) => {
                patience.renew();
                looking.job_wait(job, |_| ()).await.map(Some)
            }
            Err(error) if not_found(&error) => Ok(None),
            Err(error) => Err(error),
        };
        match looked {
            Err(error) if error.problem().is_none() => patience.bear(error).await?,
            looked => return looked,
        }
    }
}

fn not_found(error: &CallError) -> bool {
    error.problem().map(|problem| problem.code) == Some(ProblemCode::NotFound)
}
