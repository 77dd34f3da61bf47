//! Decoding into a type, once the structure is known to be sound.

use serde::de::DeserializeOwned;

use crate::{DecodeError, Limits, check};

/// Characters of a field's path, and of a field's name, that a message tells at most.
const MAX_FIELD: usize = 200;
const MAX_NAME: usize = 80;

/// Decodes one value that must fill `bytes` entirely.
///
/// # Errors
/// Anything [`check`] refuses, and [`DecodeError::Content`] naming the field when
/// the value is sound CBOR but not a `T`.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8], limits: &Limits) -> Result<T, DecodeError> {
    check(bytes, limits)?;
    let mut decoder = serde_cbor::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut decoder).map_err(|error| DecodeError::Content {
        field: bounded(&error.path().to_string(), MAX_FIELD),
        offset: error.inner().offset(),
        reason: with_bounded_name(without_value(error.inner().to_string())),
    })
}

/// The peer's text as it goes into messages: cut, and without control characters.
fn bounded(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text[..end].escape_debug()),
        None => text.escape_debug().to_string(),
    }
}

/// Cuts the name of a field that there is not, which is the peer's to choose.
fn with_bounded_name(message: String) -> String {
    const BEGIN: &str = "unknown field `";
    let Some(begin) = message.find(BEGIN).map(|at| at + BEGIN.len()) else {
        return message;
    };
    let ends = ["`, expected", "`, there are no fields"];
    let end = ends.iter().filter_map(|end| message.rfind(end)).max();
    match end.filter(|end| *end >= begin) {
        Some(end) => {
            let name = bounded(&message[begin..end], MAX_NAME);
            format!("{}{name}{}", &message[..begin], &message[end..])
        }
        None => bounded(&message, MAX_FIELD),
    }
}

/// Takes the offending string or number out of serde's message.
///
/// A client that puts a CHAP secret where something else belongs, or writes one of digits
/// without quotes, gets it quoted by serde, and the message ends up in our log.
fn without_value(message: String) -> String {
    const KINDS: [(&str, char); 4] = [
        ("unknown variant", '`'),
        ("string", '"'),
        ("integer", '`'),
        ("floating point", '`'),
    ];
    // The first is serde's own; others may stand in the value.
    let found = |(what, quote)| Some((message.find(&format!("{what} {quote}"))?, what, quote));
    let Some((start, what, quote)) = KINDS.into_iter().filter_map(found).min() else {
        return message;
    };
    let end = start + what.len();
    match message.rfind(&format!("{quote}, expected")) {
        Some(close) if close > end => format!("{}{}", &message[..end], &message[close + 1..]),
        _ => message[..end].to_owned(),
    }
}
