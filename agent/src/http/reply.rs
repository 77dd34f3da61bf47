//! Answers on their way out.

use std::pin::Pin;
use std::task::{Context, Poll};

use ashlar_protocol::{
    Job, MEDIA_TYPE, PROBLEM_MEDIA_TYPE, Problem, ProblemCode, REQUEST_ID_HEADER,
    SEQUENCE_MEDIA_TYPE,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, SizeHint};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;
use uuid::Uuid;

use super::connection::Streaming;
use super::data::Content;
use super::sequence::Sequence;
use crate::engine::Broken;

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Body {
    /// All of it, there already.
    Whole(Full<Bytes>),
    /// One without an end, and what says that the connection is still at it.
    Sequence(Sequence, Option<Streaming>),
    /// What a volume holds, likewise.
    Content(Content, Option<Streaming>),
}

impl Body {
    /// Has a stream hold on to `streaming` until it ends.
    pub(super) fn hold(&mut self, streaming: impl FnOnce() -> Streaming) {
        if let Body::Sequence(_, held) | Body::Content(_, held) = self {
            *held = Some(streaming());
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Body::Whole(body) => {
                let frame = Pin::new(body).poll_frame(context);
                frame.map_err(|never| match never {})
            }
            Body::Content(body, _) => Pin::new(body).poll_frame(context),
            Body::Sequence(body, _) => {
                let frame = Pin::new(body).poll_frame(context);
                frame.map(|frame| frame.map(Ok))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Whole(body) => body.is_end_stream(),
            Body::Sequence(..) | Body::Content(..) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(body) => body.size_hint(),
            Body::Sequence(..) => SizeHint::default(),
            Body::Content(body, _) => body.length().map(SizeHint::with_exact).unwrap_or_default(),
        }
    }
}

/// An answer before it is an HTTP response.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    media_type: Option<&'static str>,
    body: Body,
    location: Option<String>,
    retryable: bool,
}

impl Reply {
    /// A value with status 200.
    pub(super) fn ok(value: &impl Serialize) -> Result<Reply, Problem> {
        Reply::value(StatusCode::OK, value)
    }

    /// A value with status 201 when it is new, 200 when it was there.
    pub(super) fn created(value: &impl Serialize, created: bool) -> Result<Reply, Problem> {
        let status = if created {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        };
        Reply::value(status, value)
    }

    /// Nothing, with status 204.
    pub(super) fn gone() -> Reply {
        Reply {
            status: StatusCode::NO_CONTENT,
            media_type: None,
            body: whole(Vec::new()),
            location: None,
            retryable: false,
        }
    }

    /// A job to watch, with status 202.
    pub(super) fn accepted(job: &Job) -> Result<Reply, Problem> {
        let reply = Reply::value(StatusCode::ACCEPTED, job)?;
        Ok(Reply {
            location: Some(format!("/v1/jobs/{}", job.id)),
            ..reply
        })
    }

    /// A problem with its status.
    pub(super) fn problem(problem: &Problem) -> Reply {
        let status = StatusCode::from_u16(problem.code.status())
            .expect("the table of codes has statuses from 400 to 599");
        Reply {
            status,
            media_type: Some(PROBLEM_MEDIA_TYPE),
            // An empty body is still the right status.
            body: whole(ashlar_codec::to_vec(problem).unwrap_or_default()),
            location: None,
            retryable: problem.retryable,
        }
    }

    /// A stream, with status 200.
    pub(super) fn sequence(sequence: Sequence) -> Reply {
        Reply {
            status: StatusCode::OK,
            media_type: Some(SEQUENCE_MEDIA_TYPE),
            body: Body::Sequence(sequence, None),
            location: None,
            retryable: false,
        }
    }

    /// What a volume holds, with status 200.
    pub(super) fn content(content: Content, media_type: &'static str) -> Reply {
        Reply {
            status: StatusCode::OK,
            media_type: Some(media_type),
            body: Body::Content(content, None),
            location: None,
            retryable: false,
        }
    }

    fn value(status: StatusCode, value: &impl Serialize) -> Result<Reply, Problem> {
        let body = ashlar_codec::to_vec(value)
            .map_err(|error| Problem::new(ProblemCode::Internal, error.to_string()))?;
        Ok(Reply {
            status,
            media_type: Some(MEDIA_TYPE),
            body: whole(body),
            location: None,
            retryable: false,
        })
    }

    /// The status and the whole body.
    pub(super) async fn into_parts(self) -> (u16, Bytes) {
        let body = self.body.collect().await;
        let body = body.map(|body| body.to_bytes());
        (self.status.as_u16(), body.unwrap_or_default())
    }

    /// The response to request `id`.
    pub(super) fn into_response(self, id: Uuid) -> Response<Body> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let mut insert = |name: HeaderName, text: &str| {
            let value =
                HeaderValue::from_str(text).expect("media types, UUIDs and paths are plain");
            headers.insert(name, value);
        };
        insert(HeaderName::from_static(REQUEST_ID_HEADER), &id.to_string());
        // Answers can hold secrets and are out of date at once.
        insert(CACHE_CONTROL, "no-store");
        if let Some(media_type) = self.media_type {
            insert(CONTENT_TYPE, media_type);
        }
        if let Some(location) = &self.location {
            insert(LOCATION, location);
        }
        if self.retryable && matches!(self.status.as_u16(), 429 | 503) {
            insert(RETRY_AFTER, "1");
        }
        response
    }
}

fn whole(bytes: Vec<u8>) -> Body {
    Body::Whole(Full::from(bytes))
}
