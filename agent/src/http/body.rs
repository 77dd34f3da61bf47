//! Reading and decoding a request's body.

use std::time::Duration;

use ashlar_codec::{DecodeError, Limits};
use ashlar_protocol::{MAX_BODY, MAX_DEPTH, Problem, ProblemCode};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use serde::de::DeserializeOwned;

const LIMITS: Limits = Limits {
    bytes: MAX_BODY,
    depth: MAX_DEPTH,
};

/// Reads a body to its end, within its size and time.
pub(super) async fn read(body: Incoming, limit: Duration) -> Result<Bytes, Problem> {
    // One that says at the start that it is too large is not read at all.
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_large());
    }
    let malformed = |detail| Problem::new(ProblemCode::MalformedRequest, detail);
    match tokio::time::timeout(limit, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(malformed("the body broke off".to_owned())),
        Err(_) => Err(malformed(format!(
            "the body did not arrive within {} s",
            limit.as_secs()
        ))),
    }
}

/// Decodes a body into what the route takes.
pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    ashlar_codec::from_slice(body, &LIMITS).map_err(|error| match error {
        DecodeError::TooLarge { .. } => too_large(),
        DecodeError::Content { .. } => Problem::new(ProblemCode::InvalidField, error.to_string()),
        _ => Problem::new(ProblemCode::MalformedBody, error.to_string()),
    })
}

fn too_large() -> Problem {
    Problem::new(
        ProblemCode::BodyTooLarge,
        format!("the body is over the limit of {MAX_BODY} bytes"),
    )
}
