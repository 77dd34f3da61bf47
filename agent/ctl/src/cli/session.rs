//! One run of the command line against one appliance.

use std::time::Duration;

use anyhow::{Context, bail};
use ashlar_ctl::{CallError, Change, Client};
use ashlar_protocol::Job;
use serde::Serialize;
use uuid::Uuid;

use super::access::{Access, Format};
use super::output::{self, Facts};
use super::progress::Progress;

pub struct Session {
    pub client: Client,
    pub format: Format,
    request_id: Option<Uuid>,
    no_wait: bool,
    timeout: Option<Duration>,
}

/// An object of a kind that has names.
pub trait Named {
    /// The kind, in a word.
    const KIND: &'static str;

    fn id(&self) -> Uuid;
    fn name(&self) -> &str;
}

impl Session {
    pub fn open(access: Access) -> anyhow::Result<Session> {
        let mut client = Client::new(access.endpoint()?, &access.identity()?);
        if access.no_wait {
            client = client.waiting(Duration::ZERO);
        }
        if let Some(id) = access.request_id {
            client = client.under(id);
        }
        Ok(Session {
            client,
            format: access.output,
            request_id: access.request_id,
            no_wait: access.no_wait,
            timeout: access.timeout.map(Duration::from_secs),
        })
    }

    /// The id of an object that is to be made: the one given, else one that follows from the
    /// request's, so that a repeated request is about the same object, else a new one.
    pub fn new_id(&self, given: Option<Uuid>) -> Uuid {
        given.or(self.request_id).unwrap_or_else(Uuid::new_v4)
    }

    /// The id of something that is made along with another, for which `of` stands; likewise.
    pub fn part_id(&self, of: Uuid) -> Uuid {
        match self.request_id {
            Some(request) => Uuid::from_u128(request.as_u128() ^ of.as_u128()),
            None => Uuid::new_v4(),
        }
    }

    /// Makes a change and shows what it leaves: `shown` asks for the object when the change
    /// was not done in the first answer.
    pub async fn change<T, U, E>(
        &self,
        change: impl Future<Output = Result<Change<T>, CallError>>,
        shown: impl AsyncFnOnce() -> Result<U, E>,
    ) -> anyhow::Result<()>
    where
        T: Facts + Serialize,
        U: Facts + Serialize,
        E: Into<anyhow::Error>,
    {
        match self.settle(change).await? {
            Settled::Done(value) => output::one(self.format, &value),
            Settled::Later => output::one(
                self.format,
                &shown().await.map_err(Into::<anyhow::Error>::into)?,
            ),
            Settled::Running(job) => output::one(self.format, &job),
        }
    }

    /// Makes a change that leaves nothing to show but `text`.
    pub async fn removal(
        &self,
        change: impl Future<Output = Result<Change<()>, CallError>>,
        text: &str,
    ) -> anyhow::Result<()> {
        match self.settle(change).await? {
            Settled::Done(()) | Settled::Later => output::done(self.format, text),
            Settled::Running(job) => output::one(self.format, &job),
        }
    }

    /// Waits for a job, telling about it on a terminal.
    pub async fn wait(&self, job: Job) -> anyhow::Result<Job> {
        let progress = Progress::start("waiting");
        self.watch(job, &progress).await
    }

    /// What a job has come to, or is at if it is not waited for.
    pub async fn outcome(&self, job: Job) -> anyhow::Result<Job> {
        if self.no_wait {
            return Ok(job);
        }
        let id = job.id;
        match self.wait(job).await {
            Err(error) if failure(&error) => Ok(self.client.under_new_ids().job_show(id).await?),
            outcome => outcome,
        }
    }

    async fn settle<T>(
        &self,
        change: impl Future<Output = Result<Change<T>, CallError>>,
    ) -> anyhow::Result<Settled<T>> {
        let progress = Progress::start("working");
        Ok(match change.await? {
            Change::Done { value, .. } => Settled::Done(value),
            Change::Accepted(job) if self.no_wait => Settled::Running(job),
            Change::Accepted(job) => {
                self.watch(job, &progress).await?;
                Settled::Later
            }
        })
    }

    async fn watch(&self, job: Job, progress: &Progress) -> anyhow::Result<Job> {
        let id = job.id;
        // Looking is no part of the change: it gets request ids of its own.
        let looking = self.client.under_new_ids();
        let wait = looking.job_wait(job, |job| progress.job(job));
        let Some(limit) = self.timeout else {
            return Ok(wait.await?);
        };
        match tokio::time::timeout(limit, wait).await {
            Ok(job) => Ok(job?),
            Err(_) => bail!(
                "job {id} is still running after {} s; it goes on, see `ashlarctl job show {id}`",
                limit.as_secs()
            ),
        }
    }
}

/// Whether it is the job itself that failed.
fn failure(error: &anyhow::Error) -> bool {
    let call = error.downcast_ref::<CallError>();
    call.is_some_and(|call| call.problem().is_some())
}

/// What became of a change.
enum Settled<T> {
    Done(T),
    /// Done, but after the first answer.
    Later,
    /// Not waited for.
    Running(Job),
}

/// The id that `text` is, or the id of the one object with that name.
pub async fn resolve<T: Named>(
    text: &str,
    list: impl AsyncFnOnce() -> Result<Vec<T>, CallError>,
) -> anyhow::Result<Uuid> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let kind = T::KIND;
    let all = list()
        .await
        .with_context(|| format!("failed to look for the {kind} {text:?}"))?;
    let mut found = all.iter().filter(|object| object.name() == text);
    match (found.next(), found.count()) {
        (Some(object), 0) => Ok(object.id()),
        (Some(_), more) => bail!("{} {kind}s are called {text:?}; use the id", more + 1),
        (None, _) => bail!("no {kind} is called {text:?}"),
    }
}
