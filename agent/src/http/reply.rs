//! Answers on their way out.

use ashlar_protocol::{
    Job, MEDIA_TYPE, PROBLEM_MEDIA_TYPE, Problem, ProblemCode, REQUEST_ID_HEADER,
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;
use uuid::Uuid;

pub(super) type Body = Full<Bytes>;

/// An answer before it is an HTTP response.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    media_type: Option<&'static str>,
    body: Vec<u8>,
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
            body: Vec::new(),
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
            body: ashlar_codec::to_vec(problem).unwrap_or_default(),
            location: None,
            retryable: problem.retryable,
        }
    }

    fn value(status: StatusCode, value: &impl Serialize) -> Result<Reply, Problem> {
        let body = ashlar_codec::to_vec(value)
            .map_err(|error| Problem::new(ProblemCode::Internal, error.to_string()))?;
        Ok(Reply {
            status,
            media_type: Some(MEDIA_TYPE),
            body,
            location: None,
            retryable: false,
        })
    }

    /// The response to request `id`.
    pub(super) fn into_response(self, id: Uuid) -> Response<Body> {
        let mut response = Response::new(Full::from(self.body));
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
