//! Bodies: JSON in the file, CBOR on the wire.

use std::collections::BTreeMap;

use ashlar_codec::Value as Cbor;
use serde_json::{Map, Number, Value as Json};
use uuid::Uuid;

use super::{placeholder, whole_placeholder};

/// JSON to CBOR; a text that is one placeholder, or a UUID, becomes 16 bytes. Placeholders within a
/// longer text, such as a path, are replaced in it.
pub fn to_cbor(json: &Json) -> Cbor {
    match json {
        Json::Null => Cbor::Null,
        Json::Bool(b) => Cbor::Bool(*b),
        Json::Number(n) => number(n),
        Json::String(s) => text(s),
        Json::Array(items) => Cbor::Array(items.iter().map(to_cbor).collect()),
        Json::Object(map) => {
            let entries = map.iter().map(|(k, v)| (Cbor::Text(k.clone()), to_cbor(v)));
            Cbor::Map(entries.collect::<BTreeMap<_, _>>())
        }
    }
}

fn number(n: &Number) -> Cbor {
    match (n.as_u64(), n.as_i64()) {
        (Some(unsigned), _) => Cbor::Integer(unsigned.into()),
        (None, Some(signed)) => Cbor::Integer(signed.into()),
        (None, None) => Cbor::Float(n.as_f64().unwrap_or(f64::NAN)),
    }
}

fn text(s: &str) -> Cbor {
    match whole_placeholder(s) {
        Some((name, "")) => Cbor::Bytes(placeholder(name).as_bytes().to_vec()),
        _ => match Uuid::try_parse(s) {
            Ok(id) => Cbor::Bytes(id.as_bytes().to_vec()),
            Err(_) => Cbor::Text(super::fill(s)),
        },
    }
}

/// CBOR to JSON; 16 bytes become a UUID in text, other bytes hexadecimal, integer keys text.
pub fn from_cbor(cbor: &Cbor) -> Json {
    match cbor {
        Cbor::Bool(b) => Json::Bool(*b),
        Cbor::Integer(i) => integer(*i),
        Cbor::Float(f) => Number::from_f64(*f).map_or(Json::Null, Json::Number),
        Cbor::Bytes(bytes) => Json::String(bytes_text(bytes)),
        Cbor::Text(s) => Json::String(s.clone()),
        Cbor::Array(items) => Json::Array(items.iter().map(from_cbor).collect()),
        Cbor::Map(map) => Json::Object(
            map.iter()
                .map(|(k, v)| (key(k), from_cbor(v)))
                .collect::<Map<_, _>>(),
        ),
        Cbor::Tag(_, inner) => from_cbor(inner),
        _ => Json::Null,
    }
}

fn integer(i: i128) -> Json {
    match (u64::try_from(i), i64::try_from(i)) {
        (Ok(unsigned), _) => Json::from(unsigned),
        (Err(_), Ok(signed)) => Json::from(signed),
        (Err(_), Err(_)) => Json::String(i.to_string()),
    }
}

fn bytes_text(bytes: &[u8]) -> String {
    match Uuid::from_slice(bytes) {
        Ok(id) => id.to_string(),
        Err(_) => bytes.iter().map(|b| format!("{b:02x}")).collect(),
    }
}

fn key(cbor: &Cbor) -> String {
    match from_cbor(cbor) {
        Json::String(s) => s,
        other => other.to_string(),
    }
}

/// Where an answer differs from what was expected.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{path}: expected {expected}, got {actual}")]
pub struct Mismatch {
    path: String,
    expected: Json,
    actual: Json,
}

/// Whether `actual` has everything `expected` names. Objects may have more fields; arrays may
/// not have more items, unless `"..."` comes first: then each item must be among those there.
/// `"*"` stands for anything present.
pub fn expect_subset(expected: &Json, actual: &Json) -> Result<(), Mismatch> {
    subset(expected, actual, "answer")
}

fn subset(expected: &Json, actual: &Json, path: &str) -> Result<(), Mismatch> {
    let mismatch = || Mismatch {
        path: path.to_owned(),
        expected: expected.clone(),
        actual: actual.clone(),
    };
    match (expected, actual) {
        (Json::String(any), _) if any == "*" && !actual.is_null() => Ok(()),
        (Json::String(text), Json::String(got)) => match whole_placeholder(text) {
            Some((name, "")) if placeholder(name).to_string() == *got => Ok(()),
            _ if super::fill(text) == *got => Ok(()),
            _ => Err(mismatch()),
        },
        (Json::Object(fields), Json::Object(got)) => fields.iter().try_for_each(|(name, value)| {
            let path = format!("{path}.{name}");
            match (value, got.get(name)) {
                // "field": null demands that the field is absent.
                (Json::Null, None) => Ok(()),
                (_, found) => subset(value, found.unwrap_or(&Json::Null), &path),
            }
        }),
        (Json::Array(items), Json::Array(got)) if items.first() == Some(&Json::from("...")) => {
            items
                .iter()
                .skip(1)
                .all(|item| got.iter().any(|found| subset(item, found, path).is_ok()))
                .then_some(())
                .ok_or_else(mismatch)
        }
        (Json::Array(items), Json::Array(got)) if items.len() == got.len() => items
            .iter()
            .zip(got)
            .enumerate()
            .try_for_each(|(i, (item, found))| subset(item, found, &format!("{path}[{i}]"))),
        _ if expected == actual => Ok(()),
        _ => Err(mismatch()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_placeholder_is_sixteen_bytes_on_the_wire() {
        let cbor = to_cbor(&json!({"pool": "{p1}", "size": 7, "name": "{not one} x"}));
        let back = from_cbor(&cbor);
        assert_eq!(
            back,
            json!({"pool": placeholder("p1").to_string(), "size": 7, "name": "{not one} x"})
        );
    }

    #[test]
    fn a_subset_names_the_field_that_differs() {
        let actual = json!({"a": {"b": [1, 2]}, "c": 3});
        assert!(expect_subset(&json!({"a": {"b": [1, 2]}}), &actual).is_ok());
        assert!(expect_subset(&json!({"c": "*", "d": null}), &actual).is_ok());
        let error = expect_subset(&json!({"a": {"b": [1, 3]}}), &actual).unwrap_err();
        assert_eq!(error.to_string(), "answer.a.b[1]: expected 3, got 2");
        assert!(expect_subset(&json!({"d": "*"}), &actual).is_err());
        assert!(expect_subset(&json!({"a": {"b": [1]}}), &actual).is_err());
        assert!(expect_subset(&json!({"a": {"b": ["...", 2]}}), &actual).is_ok());
        assert!(expect_subset(&json!({"a": {"b": ["...", 3]}}), &actual).is_err());
    }
}
