use ashlar_protocol::{JobResult, JobState, Sha256};
use bytes::Bytes;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::frames::{Frames, Out};
use super::gather::Gather;
use super::retry::{Cancelled, Patience, busy, ended};
use super::source::Source;
use super::{BLOCK, TransferError, Watch, step};
use crate::client::{CallError, Change, Client, Giver, MediaType, Outgoing};

/// Writes a file to a volume, as a driver does that makes a volume of an image. What the file
/// does not speak of stays as it is: of raw bytes, all behind their end. Resolves once all of
/// it is durable, and known to be what was read here.
///
/// # Errors
/// When the volume is too small or in use, the file is not sound, or it breaks too often; what
/// was written until then stays.
pub async fn import(
    client: &Client,
    volume: Uuid,
    source: Source,
    watch: Watch,
) -> Result<JobResult, TransferError> {
    let room = client.under_new_ids().volume_show(volume).await?.size;
    if let Some(size) = source.content().filter(|size| *size > room) {
        let name = source.name().to_owned();
        return Err(TransferError::TooLarge { name, size, room });
    }
    let name = source.name().to_owned();
    let mut sending = Sending {
        client: client.under(client.request_id().unwrap_or_else(Uuid::new_v4)),
        volume,
        room,
        total: source.content().unwrap_or(room),
        from: 0,
        watch,
    };
    let mut source = Some(source);
    let mut patience = Patience::new();
    let mut first = true;
    loop {
        let job = sending.client.request_id().unwrap_or_default();
        let error = match sending.attempt(&mut source, &name).await {
            Err(TransferError::Call(error)) if !(first && busy(&error)) => error,
            Err(error) if !matches!(error, TransferError::Call(_)) => {
                // Whoever is told that it failed finds the volume free.
                drop(ended(&sending.client, job, &mut Cancelled::default()).await);
                return Err(error);
            }
            outcome => return outcome,
        };
        first = false;
        if source.is_none() {
            return Err(again(&name, error));
        }
        let mut error = error;
        let mut ours = Cancelled::default();
        loop {
            patience.bear(error).await?;
            match sending.look(job, &mut patience, &mut ours).await {
                Ok(Some(result)) => return Ok(result),
                Ok(None) => break,
                Err(later) => error = later,
            }
        }
        sending.client = client.under(Uuid::new_v4());
    }
}

fn again(name: &str, source: CallError) -> TransferError {
    match source.retryable() {
        true => TransferError::NotAgain {
            why: format!("the transfer broke, and {name} cannot be read again"),
            source,
        },
        false => source.into(),
    }
}

/// What stays the same over attempts, and where the next one begins.
struct Sending {
    client: Client,
    volume: Uuid,
    room: u64,
    total: u64,
    from: u64,
    watch: Watch,
}

impl Sending {
    /// Sends what is left of `source`, which is gone afterwards if it cannot be read again.
    async fn attempt(
        &self,
        source: &mut Option<Source>,
        name: &str,
    ) -> Result<JobResult, TransferError> {
        let Some(mut reading) = source.take() else {
            return Err(thread(name));
        };
        let (giver, body) = Outgoing::new();
        let (from, room, lasts) = (self.from, self.room, reading.lasts());
        let mut gather = Gather::new(Frames::new(giver, from, step(&self.watch, self.total)));
        let given = spawn_blocking(move || {
            let end = reading.give(from, room, &mut gather);
            let digest = end.and_then(|end| gather.sink.end(end));
            if digest.is_ok() {
                gather.sink.out.finish_blocking();
            }
            (reading, digest)
        });
        let sent = self
            .client
            .volume_import(self.volume, MediaType::Extents, 0, body);
        let answer = sent.await;
        if answer.is_err() && !lasts && !given.is_finished() {
            // It waits for what may never come.
            return Err(answer.map(drop).map_or_else(Into::into, |()| thread(name)));
        }
        let (reading, digest) = given.await.map_err(|_| thread(name))?;
        *source = lasts.then_some(reading);
        match (digest, answer) {
            (Err(error), _) if !matches!(error, TransferError::Unwanted) => Err(error),
            (_, Err(error)) => Err(error.into()),
            (digest, Ok(Change::Done { value, .. })) => match digest {
                Ok(digest) => same(digest, value),
                // The same request came before, and its answer needs no body.
                Err(_) => Ok(value),
            },
            (_, Ok(Change::Accepted(job))) => {
                let looking = self.client.under_new_ids();
                let job = looking.job_wait(job, |_| ()).await?;
                Ok(job.result.unwrap_or_default())
            }
        }
    }

    /// Finds out how far a broken attempt has come, and whether that was all.
    async fn look(
        &mut self,
        job: Uuid,
        patience: &mut Patience,
        ours: &mut Cancelled,
    ) -> Result<Option<JobResult>, CallError> {
        let Some(job) = ended(&self.client, job, ours).await? else {
            return Ok(None);
        };
        if job.state == JobState::Succeeded {
            return Ok(Some(job.result.unwrap_or_default()));
        }
        let done = job.progress.map_or(0, |progress| progress.done);
        let done = done - done % BLOCK as u64;
        if done > self.from {
            self.from = done;
            patience.renew();
        }
        Ok(None)
    }
}

pub(super) fn thread(name: &str) -> TransferError {
    let name = name.to_owned();
    TransferError::Thread { name }
}

pub(super) fn same(ours: [u8; 32], result: JobResult) -> Result<JobResult, TransferError> {
    let ours = Sha256::from(ours);
    match result.sha256.clone() {
        Some(theirs) if theirs != ours => Err(TransferError::Mismatch { ours, theirs }),
        _ => Ok(result),
    }
}

impl Out for Giver {
    fn put(&mut self, frame: Bytes) -> Result<(), TransferError> {
        match self.give_blocking(frame) {
            true => Ok(()),
            false => Err(TransferError::Unwanted),
        }
    }
}
