//! Events as a stream.

use std::time::Duration;

use ashlar_codec::{DecodeError, Limits, check, from_slice};
use ashlar_protocol::{Event, Operation, Problem, SEQUENCE_MEDIA_TYPE};
use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, HeaderValue};
use uuid::Uuid;

use super::error::{CallError, Failure};
use super::exchange::{Exchange, send};
use super::links::Link;
use super::{Client, PageQuery};

/// One event or problem.
const LIMITS: Limits = Limits {
    bytes: 64 << 10,
    depth: 8,
};

/// A sign of life comes every 15 s; without any for so long, the appliance is gone.
const SILENCE: Duration = Duration::from_secs(45);

/// CBOR's null, the sign of life.
const NULL: u8 = 0xf6;

/// Events as they happen.
pub struct EventStream {
    client: Client,
    body: Incoming,
    /// Come, but not told yet.
    pending: BytesMut,
    /// Ends with it.
    _link: Link,
}

impl Client {
    /// Lists the events kept after one, or all.
    ///
    /// # Errors
    /// When the ones asked for are not kept any more, or a call fails.
    pub async fn events_since(&self, after: Option<u64>) -> Result<Vec<Event>, CallError> {
        let mut query = PageQuery {
            after: after.map(|id| id.to_string()),
            limit: None,
        };
        let mut events = Vec::new();
        loop {
            let page = self.event_page(&query).await?;
            events.extend(page.items);
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(events),
            }
        }
    }

    /// Events as they happen: after one, or from now on.
    ///
    /// # Errors
    /// When the ones asked for are not kept any more, or the call fails.
    pub async fn event_stream(&self, after: Option<u64>) -> Result<EventStream, CallError> {
        let after = after.map_or_else(|| "newest".to_owned(), |id| id.to_string());
        let exchange = Exchange {
            operation: Operation::EventList,
            id: None,
            query: format!("after={after}"),
            body: None,
        };
        self.open(&exchange).await.map_err(failed)
    }

    async fn open(&self, exchange: &Exchange) -> Result<EventStream, Failure> {
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
        let mut stream = EventStream {
            client: self.clone(),
            body: answer.into_body(),
            pending: BytesMut::new(),
            _link: link,
        };
        match status {
            200 => Ok(stream),
            _ => Err(stream.refusal(status).await),
        }
    }
}

impl EventStream {
    /// The next event. What was given is not given again, so it may be cancelled.
    ///
    /// # Errors
    /// When the stream has ended, and why.
    pub async fn next(&mut self) -> Result<Event, CallError> {
        loop {
            match self.item().map_err(failed)? {
                Some(item) if item[..] == [NULL] => {}
                Some(item) => return self.event(&item).map_err(failed),
                None => self.more().await.map_err(failed)?,
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

    fn event(&self, item: &[u8]) -> Result<Event, Failure> {
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
            Some(Err(error)) => Err(self.client.links.failed("hear events from", error)),
            None => Err(self.client.links.failed("hear more events from", Ended)),
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
            reason: format!("whose stream has something else than events: {error}"),
        }
    }
}

/// The appliance closed the stream, as it does when it stops or our certificate expires.
#[derive(Debug, thiserror::Error)]
#[error("the stream was closed")]
struct Ended;

fn failed(failure: Failure) -> CallError {
    CallError {
        operation: Operation::EventList,
        failure,
    }
}
