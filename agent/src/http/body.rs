//! Reading and decoding a request's body.

use std::time::Duration;

use ashlar_codec::{DecodeError, Limits};
use ashlar_protocol::{MAX_BODY, MAX_DEPTH, Problem, ProblemCode};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

const LIMITS: Limits = Limits {
    bytes: MAX_BODY,
    depth: MAX_DEPTH,
};

/// What is read and thrown away of a body that is too large, so that an HTTP/1.1 client has
/// written it and looks for our answer. A larger one finds its connection closed.
const MAX_WASTE: usize = 16 * MAX_BODY;

/// Reads a body to its end, within its size and time.
pub(super) async fn read(body: Incoming, limit: Duration) -> Result<Bytes, Problem> {
    match tokio::time::timeout(limit, collect(body)).await {
        Ok(Ok(Some(body))) => Ok(body),
        Ok(Ok(None)) => Err(too_large()),
        Ok(Err(_)) => Err(malformed("the body broke off".to_owned())),
        Err(_) => Err(malformed(format!(
            "the body did not arrive within {} s",
            limit.as_secs()
        ))),
    }
}

/// The body, or `None` when it is too large.
async fn collect(mut body: Incoming) -> hyper::Result<Option<Bytes>> {
    let mut kept = BytesMut::new();
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        seen += data.len();
        if seen > MAX_WASTE {
            break;
        }
        if seen <= MAX_BODY {
            kept.extend_from_slice(&data);
        }
    }
    Ok((seen <= MAX_BODY).then(|| kept.freeze()))
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

fn malformed(detail: String) -> Problem {
    Problem::new(ProblemCode::MalformedRequest, detail)
}
