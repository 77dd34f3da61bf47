//! One request and its answer.

use std::time::Duration;

use ashlar_codec::Limits;
use ashlar_protocol::{
    MEDIA_TYPE, Method, Operation, PROBLEM_MEDIA_TYPE, Problem, REQUEST_ID_HEADER,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Response};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::Client;
use super::body::Body;
use super::error::{CallError, Failure};
use super::links::{Link, Sender};

/// What an appliance may answer at most: a full page of the largest objects is well below.
const REPLY_LIMITS: Limits = Limits {
    bytes: 4 << 20,
    depth: 16,
};

/// What an answer takes beyond the time the appliance was asked to spend.
const ANSWER_GRACE: Duration = Duration::from_secs(30);

/// A request in words.
pub(super) struct Exchange {
    pub(super) operation: Operation,
    pub(super) id: Option<Uuid>,
    /// Without the question mark.
    pub(super) query: String,
    pub(super) body: Option<Vec<u8>>,
}

/// A successful answer.
pub(super) struct Reply {
    pub(super) status: u16,
    body: Bytes,
    endpoint: String,
}

impl Client {
    /// Sends a request and reads its answer, over a new connection when a kept one breaks.
    pub(super) async fn exchange(&self, exchange: Exchange) -> Result<Reply, CallError> {
        let operation = exchange.operation;
        self.attempt_twice(&exchange)
            .await
            .map_err(|failure| CallError { operation, failure })
    }

    async fn attempt_twice(&self, exchange: &Exchange) -> Result<Reply, Failure> {
        let request_id = self.options.request_id.unwrap_or_else(Uuid::new_v4);
        let link = self.links.acquire().await?;
        let kept = link.kept;
        match self.attempt(exchange, request_id, link).await {
            // Safe since the request carries an id: it is not done twice.
            Err(Failure::Transport { .. }) if kept => {
                let link = self.links.fresh().await?;
                self.attempt(exchange, request_id, link).await
            }
            outcome => outcome,
        }
    }

    async fn attempt(
        &self,
        exchange: &Exchange,
        request_id: Uuid,
        mut link: Link,
    ) -> Result<Reply, Failure> {
        let deadline = self.options.wait + ANSWER_GRACE;
        let request = self.request(exchange, request_id, &link)?;
        let outcome = tokio::time::timeout(deadline, converse(&mut link, request)).await;
        let (status, problem, body) = match outcome {
            Err(_) => {
                return Err(self.silent(deadline));
            }
            Ok(Err(error)) => {
                return Err(match link.cause().await {
                    Some(cause) => self.links.failed("talk to", cause),
                    None => self.links.failed("talk to", Lost(error)),
                });
            }
            Ok(Ok(answer)) => answer,
        };
        self.links.release(link).await;
        self.reply((status, problem), body)
    }

    /// A successful answer, or why it is none.
    pub(super) fn reply(
        &self,
        (status, problem): (u16, bool),
        body: Bytes,
    ) -> Result<Reply, Failure> {
        let reply = Reply {
            status,
            body,
            endpoint: self.endpoint().to_string(),
        };
        match (status, problem) {
            (200..300, false) => Ok(reply),
            (400..600, true) => Err(reply.decode().map_or_else(|e| e, Failure::Problem)),
            _ => Err(reply.unexpected("which is neither a result nor a problem")),
        }
    }

    pub(super) fn silent(&self, after: Duration) -> Failure {
        Failure::Timeout {
            endpoint: self.endpoint().to_string(),
            after,
        }
    }

    pub(super) fn request(
        &self,
        exchange: &Exchange,
        request_id: Uuid,
        link: &Link,
    ) -> Result<Request<Body>, Failure> {
        let route = exchange.operation.route();
        let mut path = route.path.to_owned();
        if let Some(id) = exchange.id {
            path = path.replace("{id}", &id.to_string());
        }
        if !exchange.query.is_empty() {
            path = format!("{path}?{}", exchange.query);
        }
        let authority = self.endpoint().to_string();
        let request = Request::builder()
            .method(route.method.as_str())
            .header(ACCEPT, MEDIA_TYPE)
            .header(REQUEST_ID_HEADER, request_id.to_string());
        let request = match link.sender {
            Sender::H1(_) => request.uri(path).header(HOST, authority),
            Sender::H2(_) => request.uri(format!("https://{authority}{path}")),
        };
        let request = match route.method {
            Method::Get => request,
            Method::Put | Method::Post | Method::Delete => {
                let wait = self.options.wait.as_secs();
                request.header("prefer", format!("wait={wait}"))
            }
        };
        let request = match &exchange.body {
            Some(body) => request
                .header(CONTENT_TYPE, MEDIA_TYPE)
                .body(Body::from(body.clone())),
            None => request.body(Body::default()),
        };
        request.map_err(|error| self.links.failed("put a request to", error))
    }
}

impl Reply {
    pub(super) fn decode<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        ashlar_codec::from_slice(&self.body, &REPLY_LIMITS)
            .map_err(|error| self.unexpected(&format!("whose body cannot be read: {error}")))
    }

    pub(super) fn unexpected(&self, reason: &str) -> Failure {
        Failure::Protocol {
            endpoint: self.endpoint.clone(),
            status: self.status,
            reason: reason.to_owned(),
        }
    }
}

/// The connection broke, and this is what the request saw of it.
#[derive(Debug, thiserror::Error)]
#[error("the connection was lost")]
pub(super) struct Lost(#[source] pub(super) Box<dyn std::error::Error + Send + Sync>);

/// The status, whether the body is a problem, and the body.
pub(super) async fn converse(
    link: &mut Link,
    request: Request<Body>,
) -> Result<(u16, bool, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let response = send(link, request).await?;
    let problem = HeaderValue::from_static(PROBLEM_MEDIA_TYPE);
    let is_problem = response.headers().get(CONTENT_TYPE) == Some(&problem);
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), REPLY_LIMITS.bytes);
    let body = body.collect().await?.to_bytes();
    if let Sender::H1(sender) = &mut link.sender {
        // Until the connection has noticed the end of the answer it takes no other request.
        // A server that closes after its answer is no failure of this request.
        let _ = sender.ready().await;
    }
    Ok((status, is_problem, body))
}

pub(super) async fn send(
    link: &mut Link,
    request: Request<Body>,
) -> hyper::Result<Response<Incoming>> {
    match &mut link.sender {
        Sender::H1(sender) => sender.send_request(request).await,
        Sender::H2(sender) => sender.send_request(request).await,
    }
}

/// Sound types of ours always encode; the error says which one did not.
pub(super) fn encode<T: serde::Serialize>(
    operation: Operation,
    value: &T,
) -> Result<Vec<u8>, CallError> {
    ashlar_codec::to_vec(value).map_err(|error| CallError {
        operation,
        failure: Failure::Problem(Problem::new(
            ashlar_protocol::ProblemCode::InvalidField,
            error.to_string(),
        )),
    })
}
