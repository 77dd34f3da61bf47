//! What a request's headers say.

use std::time::Duration;

use ashlar_protocol::{
    MEDIA_TYPE, Method, Operation, Problem, ProblemCode, REQUEST_ID_HEADER, SEQUENCE_MEDIA_TYPE,
    support,
};
use hyper::HeaderMap;
use hyper::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE};
use uuid::Uuid;

use super::data::moves;
use crate::data::Shape;

/// What a change gets when the client does not say.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);

/// What a client may ask for at most.
pub(super) const MAX_WAIT: u64 = 60;

/// The request id, made up when the client gave none.
pub(super) fn request_id(headers: &HeaderMap) -> Result<Uuid, Problem> {
    let refused = |why: &str| malformed(format!("header {REQUEST_ID_HEADER} {why}"));
    let mut values = headers.get_all(REQUEST_ID_HEADER).iter();
    let Some(value) = values.next() else {
        return Ok(Uuid::new_v4());
    };
    if values.next().is_some() {
        return Err(refused("is there more than once"));
    }
    let id = value.to_str().ok().and_then(hyphenated);
    id.ok_or_else(|| refused("is not a UUID like 6ba7b810-9dad-41d1-80b4-00c04fd430c8"))
}

/// A UUID with its hyphens, in upper or lower case as RFC 9562 has it for readers.
pub(super) fn hyphenated(text: &str) -> Option<Uuid> {
    let id = (text.len() == 36).then(|| Uuid::try_parse(text).ok())?;
    id.filter(|id| !id.is_nil())
}

/// How long to wait for the kernel: `Prefer: wait=SECONDS` (RFC 7240). Other preferences are
/// passed over, as the RFC has it; more than the most is taken as the most.
pub(super) fn wait(headers: &HeaderMap) -> Result<Duration, Problem> {
    let values = headers.get_all("prefer").iter();
    let preferences = values.filter_map(|value| value.to_str().ok());
    for preference in preferences.flat_map(|value| value.split([',', ';'])) {
        let Some((name, value)) = preference.split_once('=') else {
            continue;
        };
        if !name.trim().eq_ignore_ascii_case("wait") {
            continue;
        }
        let value = value.trim().trim_matches('"');
        let seconds: u64 = value.parse().map_err(|_| {
            malformed(format!(
                "header prefer: wait is {:?}, not whole seconds from 0 to {MAX_WAIT}",
                cut(value)
            ))
        })?;
        return Ok(Duration::from_secs(seconds.min(MAX_WAIT)));
    }
    Ok(DEFAULT_WAIT)
}

/// What an answer is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One CBOR item.
    Item,
    /// CBOR items without an end.
    Sequence,
    /// What a volume holds.
    Content,
}

/// What to answer with; refuses clients that cannot read what we write. Events and audit records
/// come as a sequence to those that ask for just that.
pub(super) fn answers(headers: &HeaderMap, operation: Operation) -> Result<Form, Problem> {
    let content = operation.route().method == Method::Get && moves(operation);
    if content {
        let [raw, extents, image] = Shape::MEDIA_TYPES;
        return match headers.get(ACCEPT).is_none()
            || accepts(headers, &[raw, extents, image, "application/*", "*/*"])
        {
            true => Ok(Form::Content),
            false => {
                let detail = format!("header accept takes neither {raw} nor {extents} nor {image}");
                Err(Problem::new(ProblemCode::NotAcceptable, detail))
            }
        };
    }
    if operation == Operation::SupportBundle {
        let bundle = support::MEDIA_TYPE;
        return match headers.get(ACCEPT).is_none()
            || accepts(headers, &[bundle, "application/*", "*/*"])
        {
            true => Ok(Form::Content),
            false => {
                let detail = format!("header accept does not take {bundle}");
                Err(Problem::new(ProblemCode::NotAcceptable, detail))
            }
        };
    }
    if headers.get(ACCEPT).is_none() {
        return Ok(Form::Item);
    }
    if accepts(headers, &[MEDIA_TYPE, "application/*", "*/*"]) {
        return Ok(Form::Item);
    }
    let streamed = matches!(operation, Operation::EventList | Operation::AuditList);
    if streamed && accepts(headers, &[SEQUENCE_MEDIA_TYPE]) {
        return Ok(Form::Sequence);
    }
    let detail = format!("header accept does not take {MEDIA_TYPE}");
    Err(Problem::new(ProblemCode::NotAcceptable, detail))
}

fn accepts(headers: &HeaderMap, any: &[&str]) -> bool {
    let values = headers.get_all(ACCEPT).iter();
    let ranges = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let mut media = ranges.map(|range| range.split(';').next().unwrap_or_default().trim());
    media.any(|media| any.iter().any(|ours| media.eq_ignore_ascii_case(ours)))
}

/// Refuses bodies that say they are something else.
pub(super) fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let refused = |detail: String| Err(Problem::new(ProblemCode::UnsupportedMediaType, detail));
    if headers.contains_key(CONTENT_ENCODING) {
        return refused("header content-encoding: bodies are taken as they are".to_owned());
    }
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return refused(format!(
            "header content-type is missing, {MEDIA_TYPE} is taken"
        ));
    };
    let text = value.to_str().unwrap_or_default();
    let media = text.split(';').next().unwrap_or_default().trim();
    if media.eq_ignore_ascii_case(MEDIA_TYPE) {
        return Ok(());
    }
    refused(format!(
        "header content-type is {:?}, {MEDIA_TYPE} is taken",
        cut(text)
    ))
}

/// Enough of a client's text to recognise it by.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

fn malformed(detail: String) -> Problem {
    Problem::new(ProblemCode::MalformedRequest, detail)
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn a_wait_is_whole_seconds_and_has_a_most() {
        let wait = |value| wait(&headers(&[("prefer", value)])).map(|w| w.as_secs());
        assert_eq!(wait("wait=0"), Ok(0));
        assert_eq!(wait("respond-async, Wait=5"), Ok(5));
        assert_eq!(wait("handling=lenient; wait=\"7\""), Ok(7));
        assert_eq!(wait("wait=100000"), Ok(MAX_WAIT));
        assert_eq!(wait("return=minimal"), Ok(30));
        for bad in ["wait=", "wait=-1", "wait=soon", "wait=1.5"] {
            assert_eq!(
                wait(bad).unwrap_err().code,
                ProblemCode::MalformedRequest,
                "{bad}"
            );
        }
    }

    #[test]
    fn only_clients_that_take_cbor_are_answered() {
        let list = Operation::VolumeList;
        let accept = |value| answers(&headers(&[("accept", value)]), list).is_ok();
        for good in [
            "application/cbor",
            "text/html, */*;q=0.1",
            "application/*",
            "Application/CBOR; q=1",
        ] {
            assert!(accept(good), "{good}");
        }
        for bad in ["application/json", "text/*", "", "application/cbor-seq"] {
            assert!(!accept(bad), "{bad}");
        }
        assert!(answers(&HeaderMap::new(), list).is_ok());
    }

    #[test]
    fn events_are_a_stream_for_those_who_ask_for_one() {
        let form = |value| answers(&headers(&[("accept", value)]), Operation::EventList).unwrap();
        assert_eq!(form("application/cbor-seq"), Form::Sequence);
        assert_eq!(form("application/cbor, application/cbor-seq"), Form::Item);
        assert_eq!(form("*/*"), Form::Item);
    }

    #[test]
    fn an_id_has_hyphens_and_either_case() {
        let id = hyphenated("6ba7b810-9dad-41d1-80b4-00c04fd430c8");
        assert!(id.is_some());
        assert_eq!(hyphenated("6BA7B810-9DAD-41D1-80B4-00C04FD430C8"), id);
        for bad in [
            "6ba7b8109dad41d180b400c04fd430c8",
            "{6ba7b810-9dad-41d1-80b4-00c04fd430c8}",
            "00000000-0000-0000-0000-000000000000",
            "6ba7b810-9dad-41d1-80b4-00c04fd430cg",
            "",
        ] {
            assert_eq!(hyphenated(bad), None, "{bad}");
        }
    }
}
