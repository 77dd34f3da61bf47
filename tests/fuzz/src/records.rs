//! Stored records, and the intent that they make.

use arbitrary::Unstructured;
use ashlar_agent::domain::{Edit, Intent, Record};

/// Takes the bytes for a list of keys and values, reads each as a record and applies it.
///
/// # Panics
/// When a record reads back as another one, or the intent is not the sum of its records.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let mut intent = Intent::default();
    while let Some((key, value)) = entry(&mut input) {
        let Ok(record) = Record::parse(key, value) else {
            continue;
        };
        assert_eq!(record.key().bytes(), key);
        let ours = record.value().expect("what was decoded encodes");
        assert_eq!(Record::parse(key, &ours).ok().as_ref(), Some(&record));
        // What it refers to may be missing; that is an error, and the intent stays sound.
        let _ = intent.apply(&Edit::put(record));
    }
    let mut copy = Intent::default();
    for record in intent.records() {
        let applied = copy.apply(&Edit::put(record));
        assert_eq!(applied, Ok(()), "the order of records is their own");
    }
    assert!(copy.records().eq(intent.records()));
}

/// Keys are a byte, or 17; values have their length in front.
fn entry<'a>(input: &mut Unstructured<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let head = input.peek_bytes(1)?[0];
    let key = input.bytes(if head < 0x10 { 1 } else { 17 }).ok()?;
    let length: u16 = input.arbitrary().ok()?;
    let length = usize::from(length).min(input.len());
    Some((key, input.bytes(length).ok()?))
}

/// One of each kind, alone and all together.
pub fn seeds() -> Vec<Vec<u8>> {
    let golden = [
        include_str!("../../../agent/src/domain/golden/v1/box.hex"),
        include_str!("../../../agent/src/domain/golden/v1/clock.hex"),
        include_str!("../../../agent/src/domain/golden/v1/pool.hex"),
        include_str!("../../../agent/src/domain/golden/v1/thin-counter.hex"),
        include_str!("../../../agent/src/domain/golden/v1/host.hex"),
        include_str!("../../../agent/src/domain/golden/v1/volume.hex"),
        include_str!("../../../agent/src/domain/golden/v1/volume-reverting.hex"),
        include_str!("../../../agent/src/domain/golden/v1/volume-moving.hex"),
        include_str!("../../../agent/src/domain/golden/v1/volume-clearing.hex"),
        include_str!("../../../agent/src/domain/golden/v1/snapshot.hex"),
        include_str!("../../../agent/src/domain/golden/v1/connection.hex"),
        include_str!("../../../agent/src/domain/golden/v1/request.hex"),
    ];
    let mut seeds: Vec<Vec<u8>> = golden.iter().map(|text| seed(text)).collect();
    seeds.push(seeds.concat());
    seeds
}

/// A golden file has the key in its first line and the value in its second.
fn seed(text: &str) -> Vec<u8> {
    let (key, value) = text.split_once('\n').unwrap_or_default();
    let value = bytes(value);
    let length = u16::try_from(value.len()).expect("a record is short");
    [&bytes(key)[..], &length.to_le_bytes(), &value].concat()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.chars().filter_map(|digit| digit.to_digit(16));
    let digits: Vec<u8> = digits.map(|digit| digit as u8).collect();
    digits
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
        .collect()
}
