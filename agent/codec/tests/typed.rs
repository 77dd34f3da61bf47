//! Decoding into types: errors name the field and keep values to themselves.

use std::collections::{BTreeMap, HashMap};

use ashlar_codec::{DecodeError, Limits, check, from_slice, to_vec};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Host {
    name: String,
    port: u16,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Page {
    hosts: Vec<Host>,
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    from_slice(bytes, &Limits::default())
}

fn host(name: &str, port: u16) -> Host {
    let name = name.to_owned();
    Host { name, port }
}

fn content(error: DecodeError) -> (String, String) {
    match error {
        DecodeError::Content { field, reason, .. } => (field, reason),
        other => panic!("expected a content error, got {other}"),
    }
}

#[test]
fn a_wrong_type_names_its_field() {
    let entry = BTreeMap::from([("name", "a"), ("port", "x")]);
    let bytes = to_vec(&BTreeMap::from([("hosts", [entry])])).unwrap();
    let (field, reason) = content(decode::<Page>(&bytes).unwrap_err());
    assert_eq!(field, "hosts[0].port");
    assert!(
        reason.contains("invalid type: string, expected u16"),
        "{reason}"
    );
}

#[test]
fn a_string_in_the_wrong_place_is_not_repeated() {
    for secret in ["hunter2-hunter2", "a\", expected \"b", "\\\""] {
        let bytes = to_vec(&BTreeMap::from([("port", secret)])).unwrap();
        let shown = decode::<Host>(&bytes).unwrap_err().to_string();
        assert!(shown.contains("string, expected u16"), "{shown}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("\"b"),
            "{shown}"
        );
    }
}

#[test]
fn a_number_in_the_wrong_place_is_not_repeated() {
    let whole = to_vec(&BTreeMap::from([("name", -123_456_789_012_i64)])).unwrap();
    let broken = to_vec(&BTreeMap::from([("name", 123_456_789_012.5)])).unwrap();
    for (bytes, kind) in [(whole, "integer"), (broken, "floating point")] {
        let shown = decode::<Host>(&bytes).unwrap_err().to_string();
        assert!(
            shown.contains(&format!("{kind}, expected a string")),
            "{shown}"
        );
        assert!(!shown.contains("123"), "{shown}");
    }
}

#[test]
fn a_string_that_is_no_choice_is_not_repeated() {
    #[derive(Debug, Serialize, Deserialize)]
    enum Choice {
        Left,
        Right,
    }
    for secret in [
        "hunter2",
        "hunter2`, expected `b",
        "a string \"hunter2\", expected",
    ] {
        let bytes = to_vec(&secret).unwrap();
        let shown = decode::<Choice>(&bytes).unwrap_err().to_string();
        assert_eq!(shown, ".: unknown variant, expected `Left` or `Right`");
    }
}

#[test]
fn unknown_and_missing_fields_are_named() {
    let unknown = to_vec(&BTreeMap::from([("nmae", 1)])).unwrap();
    let (_, reason) = content(decode::<Host>(&unknown).unwrap_err());
    assert!(reason.contains("nmae"), "{reason}");
    let missing = to_vec(&BTreeMap::from([("port", 1)])).unwrap();
    let (_, reason) = content(decode::<Host>(&missing).unwrap_err());
    assert!(reason.contains("name"), "{reason}");
}

#[test]
fn a_repeated_field_is_refused_before_decoding() {
    let mut bytes = vec![0xa3];
    for (key, value) in [("port", 1_u16), ("port", 2)] {
        bytes.extend(to_vec(&key).unwrap());
        bytes.extend(to_vec(&value).unwrap());
    }
    bytes.extend([0x64, b'n', b'a', b'm', b'e', 0x61, b'x']);
    assert_eq!(
        decode::<Host>(&bytes),
        Err(DecodeError::DuplicateKey { offset: 7 })
    );
}

#[test]
fn field_order_of_the_sender_does_not_matter() {
    let sorted = to_vec(&host("x", 3)).unwrap();
    let mut reversed = vec![0xa2, 0x64];
    reversed.extend(b"port\x03");
    reversed.extend(b"\x64name\x61x");
    assert_eq!(decode::<Host>(&sorted).unwrap(), host("x", 3));
    assert_eq!(decode::<Host>(&reversed).unwrap(), host("x", 3));
}

#[test]
fn equal_values_have_equal_bytes() {
    let ascending: HashMap<u32, &str> = (0..100).map(|n| (n, "v")).collect();
    let descending: HashMap<u32, &str> = (0..100).rev().map(|n| (n, "v")).collect();
    assert_eq!(to_vec(&ascending).unwrap(), to_vec(&descending).unwrap());
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Outer {
    id: u8,
    #[serde(flatten)]
    host: Host,
}

#[test]
fn flattened_types_have_definite_length() {
    let outer = Outer {
        id: 1,
        host: host("x", 3),
    };
    let bytes = to_vec(&outer).unwrap();
    check(&bytes, &Limits::default()).unwrap();
    assert_eq!(decode::<Outer>(&bytes).unwrap(), outer);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Action {
    Stop,
    Wait(u8),
    Move { to: Option<String> },
}

#[test]
fn enums_and_options_come_back() {
    for action in [
        Action::Stop,
        Action::Wait(9),
        Action::Move { to: None },
        Action::Move {
            to: Some("x".into()),
        },
    ] {
        assert_eq!(decode::<Action>(&to_vec(&action).unwrap()).unwrap(), action);
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only whether it decodes is looked at")]
struct Small {
    labels: Option<BTreeMap<String, u8>>,
}

#[test]
fn names_that_the_peer_chose_are_cut_and_escaped() {
    let long = format!("evil\n\u{1b}[2J{}", "x".repeat(5000));
    let unknown = BTreeMap::from([(long.clone(), 1)]);
    let within = BTreeMap::from([("labels", BTreeMap::from([(long.clone(), "text")]))]);
    for bytes in [to_vec(&unknown).unwrap(), to_vec(&within).unwrap()] {
        let error = from_slice::<Small>(&bytes, &Limits::default()).unwrap_err();
        let told = error.to_string();
        assert!(told.contains("evil\\n\\u{1b}[2J"), "{told}");
        assert!(told.len() < 600, "{}", told.len());
        assert!(!told.chars().any(char::is_control), "{told}");
    }
}
