//! The CBOR codec itself, below every type.

use ashlar_codec::{Limits, Value};

use crate::seed;

/// Checks and decodes with the default limits and with tight ones.
///
/// # Panics
/// When what passes the check does not decode, or decodes to something that encodes otherwise.
pub fn run(data: &[u8]) {
    let tight = Limits {
        bytes: 64,
        depth: 2,
    };
    if ashlar_codec::check(data, &tight).is_ok() {
        assert!(data.len() <= tight.bytes);
        assert_eq!(ashlar_codec::check(data, &Limits::default()), Ok(()));
    }
    let checked = ashlar_codec::check(data, &Limits::default());
    let decoded = ashlar_codec::from_slice::<Value>(data, &Limits::default());
    assert_eq!(checked.is_ok(), decoded.is_ok(), "{checked:?} {decoded:?}");
    let Ok(value) = decoded else {
        return;
    };
    // Compared as bytes: a NaN is not equal to itself.
    let ours = ashlar_codec::to_vec(&value).expect("what was decoded encodes");
    let again: Value =
        ashlar_codec::from_slice(&ours, &Limits::default()).expect("what we encode decodes");
    assert_eq!(ashlar_codec::to_vec(&again).ok(), Some(ours));
    assert_eq!(pairs(&value), pairs(&again), "a pair of a map was lost");
}

fn pairs(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(pairs).sum(),
        Value::Map(map) => map.len() + map.values().map(pairs).sum::<usize>(),
        _ => 0,
    }
}

/// One of each kind of item, and real messages.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = [
        b"\x00".as_slice(),
        b"\x18\x18",
        b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x43abc",
        b"\x63abc",
        b"\x83\x01\x02\x81\x03",
        b"\xa2\x01\x02\x61a\xa1\x41b\x80",
        b"\xf4\xf5",
        b"\xf6",
        b"\xf9\x7e\x00",
        b"\xfa\x3f\x80\x00\x00",
        b"\xfb\x3f\xf0\x00\x00\x00\x00\x00\x00",
        b"\xc1\x01",
        b"\x9f\x01\xff",
        b"\xf8\xff",
    ]
    .map(<[u8]>::to_vec)
    .into();
    seeds.push(seed::cbor(&seed::host()));
    seeds.push(seed::cbor(&seed::desired_volume()));
    seeds
}
