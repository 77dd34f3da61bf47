//! A store whose files have sound checksums and any content: it opens the same every time, or
//! says why not.

use std::fs;

use arbitrary::{Result, Unstructured};

use crate::journal::{opened, scratch, with_mark};

const MOST_FILES: usize = 4;
const MOST_FRAMES: usize = 6;
/// From here on a store may forget.
const NEVER_REACHED: u64 = 1 << 62;

/// Takes the bytes for journal segments and checkpoints of frames with right checksums.
///
/// # Panics
/// When what opened once does not open the same again.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let dir = scratch();
    for _ in 0..MOST_FILES {
        let Ok((name, bytes)) = file(&mut input) else {
            break;
        };
        fs::write(dir.path().join(name), bytes).expect("there is room");
    }
    if let Some((generation, entries)) = opened(dir.path())
        && generation < NEVER_REACHED
    {
        assert_eq!(
            opened(dir.path()),
            Some((generation + 1, with_mark(entries)))
        );
    }
}

fn file(input: &mut Unstructured<'_>) -> Result<(String, Vec<u8>)> {
    if input.is_empty() {
        return Err(arbitrary::Error::NotEnoughData);
    }
    let (prefix, magic) =
        *input.choose(&[("journal", b"ASHLARJN"), ("checkpoint", b"ASHLARCP")])?;
    let name = format!("{prefix}-{:020}", number(input)?);
    let mut bytes = magic.to_vec();
    let version = u32::from(input.ratio(15, 16)?);
    bytes.extend(version.to_be_bytes());
    bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
    for _ in 0..input.int_in_range(0..=MOST_FRAMES)? {
        frame(input, &mut bytes)?;
    }
    let rest = usize::from(input.arbitrary::<u8>()?).min(input.len()) / 2;
    bytes.extend(input.bytes(rest)?);
    Ok((name, bytes))
}

/// As `agent/src/store/frame.rs` has it.
fn frame(input: &mut Unstructured<'_>, out: &mut Vec<u8>) -> Result<()> {
    let (kind, generation, mark) = (
        input.int_in_range(1..=4_u32)?,
        number(input)?,
        number(input)?,
    );
    let payload = payload(input)?;
    let mut checked = (payload.len() as u32).to_be_bytes().to_vec();
    checked.extend(kind.to_be_bytes());
    checked.extend(generation.to_be_bytes());
    checked.extend(mark.to_be_bytes());
    checked.extend(payload);
    out.extend(b"AFRM");
    out.extend(crc32fast::hash(&checked).to_be_bytes());
    out.extend(checked);
    Ok(())
}

/// Mostly small, so that generations follow each other; sometimes at the very end.
fn number(input: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match input.arbitrary::<u8>()? {
        small @ 0..=199 => u64::from(small % 8),
        large @ 200..=249 => u64::MAX - u64::from(large - 200),
        _ => input.arbitrary()?,
    })
}

/// Puts and deletes of short keys and values, or any bytes.
fn payload(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut payload = Vec::new();
    if input.ratio(1, 8)? {
        let length = usize::from(input.arbitrary::<u8>()?).min(input.len());
        return Ok(input.bytes(length)?.to_vec());
    }
    for _ in 0..input.int_in_range(0..=3)? {
        let put: bool = input.arbitrary()?;
        payload.push(u8::from(put));
        for _ in 0..=u8::from(put) {
            let length = input.int_in_range(0..=4_usize)?.min(input.len());
            payload.extend((length as u32).to_be_bytes());
            payload.extend(input.bytes(length)?);
        }
    }
    Ok(payload)
}

/// Nothing, one record, records in a row, a gap, the last generation there can be.
pub fn seeds() -> Vec<Vec<u8>> {
    let segment = |first: u8| vec![0, first, 0];
    let record = |generation: u8| vec![0, generation, 0, 9, 1, 1, 2, b'a', b'b', 2, b'c', b'd'];
    let file = |first: u8, frames: &[u8]| {
        let mut bytes = segment(first);
        bytes.push(frames.len() as u8);
        bytes.extend(frames.iter().flat_map(|generation| record(*generation)));
        bytes.push(0);
        bytes
    };
    vec![
        Vec::new(),
        file(1, &[1]),
        file(1, &[1, 2, 3]),
        file(1, &[1, 3]),
        [file(1, &[1, 2]), file(3, &[3])].concat(),
        file(201, &[201, 200]),
        file(200, &[200]),
    ]
}
