//! The structural walk: what it refuses, where it says so, and that it agrees with the decoder.

use std::collections::BTreeMap;

use ashlar_codec::{DecodeError, Limits, Unused, Value, check, from_slice, to_vec};
use proptest::prelude::*;

const LIMITS: Limits = Limits {
    bytes: 4096,
    depth: 8,
};

fn refused(bytes: &[u8]) -> DecodeError {
    check(bytes, &LIMITS).expect_err("must be refused")
}

#[test]
fn size_over_the_limit_is_refused() {
    let bytes = to_vec(&"x".repeat(5000)).unwrap();
    assert_eq!(
        refused(&bytes),
        DecodeError::TooLarge {
            bytes: 5003,
            limit: 4096
        }
    );
}

#[test]
fn depth_is_limited_at_the_first_item_too_deep() {
    let mut bytes = vec![0x81; 8];
    bytes.push(0x00);
    assert_eq!(check(&bytes, &LIMITS), Ok(()));
    bytes.insert(0, 0x81);
    assert_eq!(
        refused(&bytes),
        DecodeError::TooDeep {
            offset: 8,
            limit: 8
        }
    );
}

#[test]
fn depth_does_not_count_siblings() {
    assert_eq!(check(&[0x83, 0x80, 0x81, 0x00, 0xa0], &LIMITS), Ok(()));
}

#[test]
fn a_key_twice_is_refused_wherever_it_stands() {
    // {"a": 1, "b": 2, "a": 3}
    let flat = [0xa3, 0x61, b'a', 1, 0x61, b'b', 2, 0x61, b'a', 3];
    assert_eq!(refused(&flat), DecodeError::DuplicateKey { offset: 7 });
    // {"a": {1: [], 1: []}}
    let nested = [0xa1, 0x61, b'a', 0xa2, 1, 0x80, 1, 0x80];
    assert_eq!(refused(&nested), DecodeError::DuplicateKey { offset: 6 });
    // {"a": {"a": "a"}} repeats nothing within one map
    let apart = [0xa1, 0x61, b'a', 0xa1, 0x61, b'a', 0x61, b'a'];
    assert_eq!(check(&apart, &LIMITS), Ok(()));
}

#[test]
fn text_and_bytes_with_equal_content_are_different_keys() {
    assert_eq!(
        check(&[0xa2, 0x61, b'a', 0, 0x41, b'a', 0], &LIMITS),
        Ok(())
    );
}

#[test]
fn indefinite_lengths_are_refused() {
    for first in [0x5f, 0x7f, 0x9f, 0xbf] {
        assert_eq!(
            refused(&[0x81, first, 0xff]),
            DecodeError::Indefinite { offset: 1 }
        );
    }
}

#[test]
fn trailing_bytes_are_refused() {
    assert_eq!(refused(&[0x00, 0x00]), DecodeError::Trailing { offset: 1 });
}

#[test]
fn every_proper_prefix_is_refused() {
    let bytes = to_vec(&BTreeMap::from([
        ("key", vec![1_u64, 1 << 40]),
        ("b", vec![]),
    ]))
    .unwrap();
    assert_eq!(check(&bytes, &LIMITS), Ok(()));
    for end in 0..bytes.len() {
        let error = refused(&bytes[..end]);
        assert!(
            matches!(
                error,
                DecodeError::Truncated { .. } | DecodeError::LengthBeyondInput { .. }
            ),
            "{end}: {error}"
        );
    }
}

#[test]
fn lengths_beyond_the_input_are_refused_before_anything_is_reserved() {
    for major in [0x5b, 0x7b, 0x9b, 0xbb] {
        let mut bytes = vec![major];
        bytes.extend([0xff; 8]);
        assert_eq!(
            refused(&bytes),
            DecodeError::LengthBeyondInput {
                offset: 0,
                claimed: u64::MAX,
                left: 0
            }
        );
    }
    // A map of two pairs needs four bytes.
    assert_eq!(
        refused(&[0xa2, 0, 0, 1]),
        DecodeError::LengthBeyondInput {
            offset: 0,
            claimed: 2,
            left: 3
        }
    );
}

#[test]
fn longer_spellings_of_numbers_are_refused() {
    let longer: [&[u8]; 5] = [
        &[0x18, 23],
        &[0x19, 0, 255],
        &[0x3a, 0, 0, 255, 255],
        &[0x1b, 0, 0, 0, 0, 255, 255, 255, 255],
        &[0x58, 1, 0],
    ];
    for bytes in longer {
        assert_eq!(refused(bytes), DecodeError::NotShortest { offset: 0 });
    }
}

#[test]
fn tags_and_odd_simple_values_are_refused() {
    let unused = |what| DecodeError::Unused { offset: 0, what };
    assert_eq!(refused(&[0xc1, 0x00]), unused(Unused::Tag(1)));
    assert_eq!(refused(&[0xf7]), unused(Unused::Simple(23)));
    assert_eq!(refused(&[0xe0]), unused(Unused::Simple(0)));
    assert_eq!(refused(&[0xf8, 32]), unused(Unused::Simple(32)));
    for reserved in [&[0xf8, 31][..], &[0x1c], &[0x5d], &[0xfc], &[0xff]] {
        assert_eq!(refused(reserved), DecodeError::Malformed { offset: 0 });
    }
}

#[test]
fn keys_are_numbers_text_or_bytes() {
    for key in [&[0x80][..], &[0xa0], &[0xf5], &[0xf9, 0, 0]] {
        let bytes = [&[0xa1][..], key, &[0x00]].concat();
        assert_eq!(refused(&bytes), DecodeError::KeyType { offset: 1 });
    }
}

#[test]
fn text_that_is_not_utf8_is_refused_at_its_first_wrong_byte() {
    assert_eq!(
        refused(&[0x63, b'a', 0xc3, 0x28]),
        DecodeError::Utf8 { offset: 2 }
    );
}

#[test]
fn the_widest_numbers_come_back() {
    for major in [0x1b, 0x3b] {
        let mut bytes = vec![major];
        bytes.extend([0xff; 8]);
        let value: Value = from_slice(&bytes, &LIMITS).unwrap();
        assert_eq!(to_vec(&value).unwrap(), bytes);
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let number = (i128::from(i64::MIN)..=i128::from(u64::MAX)).prop_map(Value::Integer);
    let text = ".{0,40}".prop_map(Value::Text);
    let bytes = prop::collection::vec(any::<u8>(), 0..300).prop_map(Value::Bytes);
    let key = prop_oneof![number.clone(), text.clone(), bytes.clone()];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-1e300..1e300).prop_map(Value::Float),
        number,
        text,
        bytes,
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
            prop::collection::btree_map(key.clone(), inner, 0..8).prop_map(Value::Map),
        ]
    })
}

/// Bytes that are nearly CBOR: an encoding with a few bytes changed.
fn nearly_valid() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>());
    (any_value(), prop::collection::vec(change, 0..4)).prop_map(|(value, changes)| {
        let mut bytes = to_vec(&value).expect("a value encodes");
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

const WIDE: Limits = Limits {
    bytes: 1 << 20,
    depth: 64,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_we_encode_passes_and_comes_back(value in any_value()) {
        let bytes = to_vec(&value).unwrap();
        prop_assert_eq!(check(&bytes, &WIDE), Ok(()));
        prop_assert_eq!(from_slice::<Value>(&bytes, &WIDE).unwrap(), value);
    }

    #[test]
    fn no_bytes_make_the_walk_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = check(&bytes, &LIMITS);
    }

    /// Whatever passes decodes, and its one encoding differs only in key order and float width.
    #[test]
    fn what_passes_the_walk_decodes(bytes in nearly_valid()) {
        if check(&bytes, &WIDE).is_ok() {
            let value: Value = from_slice(&bytes, &WIDE).unwrap();
            prop_assert!(to_vec(&value).unwrap().len() <= bytes.len());
        }
    }

    /// Whatever the decoder refuses as CBOR, the walk refuses too.
    #[test]
    fn what_the_decoder_refuses_fails_the_walk(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
        if serde_cbor::from_slice::<Value>(&bytes).is_err() {
            prop_assert!(check(&bytes, &WIDE).is_err());
        }
    }
}
