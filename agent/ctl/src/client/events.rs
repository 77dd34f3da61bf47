//! Events, and audit records, as they are told.

use std::marker::PhantomData;
use std::time::Duration;

use ashlar_codec::{DecodeError, Limits, check, from_slice};
use ashlar_protocol::{AuditRecord, Event, Operation, Page, Problem, SEQUENCE_MEDIA_TYPE};
use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, HeaderValue};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::error::{CallError, Failure};
use super::exchange::{Exchange, send};
use super::links::Link;
use super::{Client, PageQuery};

/// One event, record or problem.
const LIMITS: Limits = Limits {
    bytes: 64 << 10,
    depth: 8,
};

/// A sign of life comes every 15 s; without any for so long, the appliance is gone.
const SILENCE: Duration = Duration::from_secs(45);

/// CBOR's null, the sign of life.
const NULL: u8 = 0xf6;

/// What has a number and is told as a stream.
pub trait Told: DeserializeOwned {
    /// What lists and streams it.
    const OPERATION: Operation;

    /// Its number.
    fn id(&self) -> u64;
}

impl Told for Event {
    const OPERATION: Operation = Operation::EventList;

    fn id(&self) -> u64 {
        self.id
    }
}

impl Told for AuditRecord {
    const OPERATION: Operation = Operation::AuditList;

    fn id(&self) -> u64 {
        self.id
    }
}

/// Events or audit records, as they come.
pub struct Stream<T> {
    client: Client,
    body: Incoming,
    /// Come, but not told yet.
    pending: BytesMut,
    /// Ends with it.
    _link: Link,
    of: PhantomData<fn() -> T>,
}

/// Events as they happen.
pub type EventStream = Stream<Event>;

impl Client {
    /// Lists what is kept after one, or all.
    ///
    /// # Errors
    /// When what is asked for is not kept any more, or a call fails.
    pub async fn told_since<T: Told>(&self, after: Option<u64>) -> Result<Vec<T>, CallError> {
        let mut query = PageQuery {
            after: after.map(|id| id.to_string()),
            limit: None,
        };
        let mut told = Vec::new();
        loop {
            let page: Page<T> = self.look(T::OPERATION, None, query.to_query()).await?;
            told.extend(page.items);
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(told),
            }
        }
    }

    /// Lists the events kept after one, or all.
    ///
    /// # Errors
    /// When the ones asked for are not kept any more, or a call fails.
    pub async fn events_since(&self, after: Option<u64>) -> Result<Vec<Event>, CallError> {
        self.told_since(after).await
    }

    /// Events as they happen: after one, or from now on.
    ///
    /// # Errors
    /// When the ones asked for are not kept any more, or the call fails.
    pub async fn event_stream(&self, after: Option<u64>) -> Result<EventStream, CallError> {
        self.stream(after).await
    }

    /// What is told, as it comes: after one, or from now on.
    ///
    /// # Errors
    /// When what is asked for is not kept any more, or the call fails.
    pub async fn stream<T: Told>(&self, after: Option<u64>) -> Result<Stream<T>, CallError> {
        let after = after.map_or_else(|| "newest".to_owned(), |id| id.to_string());
        let exchange = Exchange {
            operation: T::OPERATION,
            id: None,
            query: format!("after={after}"),
            body: None,
        };
        self.open(&exchange).await.map_err(failed::<T>)
    }

    async fn open<T: Told>(&self, exchange: &Exchange) -> Result<Stream<T>, Failure> {
        let mut link = self.links.acquire().await?;
        if link.kept {
            // One that has gone stale would end the stream before it begins.
            link = self.links.fresh().await?;
        }
        let mut request = self.request(exchange, Uuid::new_v4(), &link)?;
        let accept = HeaderValue::from_static(SEQUENCE_MEDIA_TYPE);
        request.headers_mut().insert(ACCEPT, accept);
        let answer = tokio::time::timeout(SILENCE, send(&mut link, request)).await;
        let answer = answer.map_err(|_| self.silent(SILENCE))?;
        let answer = answer.map_err(|error| self.links.failed("talk to", error))?;
        let status = answer.status().as_u16();
        let mut stream = Stream {
            client: self.clone(),
            body: answer.into_body(),
            pending: BytesMut::new(),
            _link: link,
            of: PhantomData,
        };
        match status {
            200 => Ok(stream),
            _ => Err(stream.refusal(status).await),
        }
    }
}

impl<T: Told> Stream<T> {
    /// The next one. What was given is not given again, so it may be cancelled.
    ///
    /// # Errors
    /// When the stream has ended, and why.
    pub async fn next(&mut self) -> Result<T, CallError> {
        loop {
            match self.item().map_err(failed::<T>)? {
                Some(item) if item[..] == [NULL] => {}
                Some(item) => return self.read(&item).map_err(failed::<T>),
                None => self.more().await.map_err(failed::<T>)?,
            }
        }
    }

    /// The next whole item that has come.
    fn item(&mut self) -> Result<Option<BytesMut>, Failure> {
        if self.pending.is_empty() {
            return Ok(None);
        }
        let most = self.pending.len().min(LIMITS.bytes);
        match check(&self.pending[..most], &LIMITS) {
            Ok(()) => Ok(Some(self.pending.split_to(most))),
            Err(DecodeError::Trailing { offset }) => Ok(Some(self.pending.split_to(offset))),
            Err(DecodeError::Truncated { .. } | DecodeError::LengthBeyondInput { .. })
                if most < LIMITS.bytes =>
            {
                Ok(None)
            }
            Err(error) => Err(self.nonsense(&error)),
        }
    }

    fn read(&self, item: &[u8]) -> Result<T, Failure> {
        from_slice(item, &LIMITS).map_err(|error| match from_slice::<Problem>(item, &LIMITS) {
            Ok(problem) => Failure::Problem(problem),
            Err(_) => self.nonsense(&error),
        })
    }

    async fn more(&mut self) -> Result<(), Failure> {
        let frame = tokio::time::timeout(SILENCE, self.body.frame()).await;
        match frame.map_err(|_| self.client.silent(SILENCE))? {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.pending.extend_from_slice(&data);
                }
                Ok(())
            }
            Some(Err(error)) => Err(self.client.links.failed("hear from", error)),
            None => Err(self.client.links.failed("hear more from", Ended)),
        }
    }

    /// What was said instead of a stream.
    async fn refusal(&mut self, status: u16) -> Failure {
        while self.pending.len() <= LIMITS.bytes {
            if let Err(_end) = self.more().await {
                break;
            }
        }
        match from_slice(&self.pending, &LIMITS) {
            Ok(problem) => Failure::Problem(problem),
            Err(error) => Failure::Protocol {
                endpoint: self.client.endpoint().to_string(),
                status,
                reason: format!("which is neither a stream nor a problem: {error}"),
            },
        }
    }

    fn nonsense(&self, error: &DecodeError) -> Failure {
        Failure::Protocol {
            endpoint: self.client.endpoint().to_string(),
            status: 200,
            reason: format!("whose stream has something else than it should: {error}"),
        }
    }
}

/// The appliance closed the stream, as it does when it stops or our certificate expires.
#[derive(Debug, thiserror::Error)]
#[error("the stream was closed")]
struct Ended;

fn failed<T: Told>(failure: Failure) -> CallError {
    CallError {
        operation: T::OPERATION,
        failure,
    }
}
