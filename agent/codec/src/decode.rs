//! Decoding into a type, once the structure is known to be sound.

use serde::de::DeserializeOwned;

use crate::{DecodeError, Limits, check};

/// Decodes one value that must fill `bytes` entirely.
///
/// # Errors
/// Anything [`check`] refuses, and [`DecodeError::Content`] naming the field when
/// the value is sound CBOR but not a `T`.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8], limits: &Limits) -> Result<T, DecodeError> {
    check(bytes, limits)?;
    let mut decoder = serde_cbor::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut decoder).map_err(|error| DecodeError::Content {
        field: error.path().to_string(),
        offset: error.inner().offset(),
        reason: without_value(error.inner().to_string()),
    })
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
