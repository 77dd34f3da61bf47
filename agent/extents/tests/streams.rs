//! What goes out comes in again, and nothing else does.

use ashlar_extents::{ALIGNMENT, Decoder, Encoder, ExtentsError, Frame, HEADER, Kind, Piece};
use proptest::prelude::*;

const SIZE: u64 = 64 * ALIGNMENT;

/// An extent of so many blocks, so many after the one before.
type Extent = (u8, u64, u64, u8);

fn stream(extents: &[Extent]) -> Vec<u8> {
    let (mut encoder, mut bytes, mut at) = (Encoder::new(), Vec::new(), 0);
    for (kind, skip, blocks, byte) in extents {
        let (offset, length) = (at + skip * ALIGNMENT, blocks * ALIGNMENT);
        at = offset + length;
        match kind % 3 {
            0 => {
                let data = vec![*byte; length as usize];
                bytes.extend(encoder.data(offset, &data));
                bytes.extend(data);
            }
            1 => bytes.extend(encoder.zero(offset, length)),
            _ => bytes.extend(encoder.hole(offset, length)),
        }
    }
    bytes.extend(encoder.end(SIZE).bytes);
    bytes
}

/// A stream taken apart in pieces of `step` bytes: each block by what it is, and its bytes.
fn taken_apart(bytes: &[u8], step: usize) -> Result<(Vec<char>, Vec<u8>), ExtentsError> {
    let mut decoder = Decoder::new(SIZE);
    let (mut kinds, mut content) = (vec!['?'; 64], vec![0; SIZE as usize]);
    let mut mark = |offset: u64, length: u64, kind| {
        let blocks = offset / ALIGNMENT..(offset + length).div_ceil(ALIGNMENT);
        blocks.for_each(|block| kinds[block as usize] = kind);
    };
    let mut ended = false;
    for mut part in bytes.chunks(step) {
        while let Some(piece) = decoder.next(&mut part)? {
            match piece {
                Piece::Data { offset, bytes } => {
                    mark(offset, bytes.len() as u64, 'd');
                    content[offset as usize..][..bytes.len()].copy_from_slice(bytes);
                }
                Piece::Zero { offset, length } => mark(offset, length, 'z'),
                Piece::Hole { offset, length } => mark(offset, length, 'h'),
                Piece::End { size, .. } => ended = size == SIZE,
            }
        }
    }
    decoder.finish()?;
    assert!(ended);
    Ok((kinds, content))
}

fn some() -> Vec<u8> {
    stream(&[(0, 1, 2, 7), (1, 0, 3, 0), (2, 5, 1, 0), (0, 0, 1, 9)])
}

fn header(kind: Kind, offset: u64, length: u64) -> [u8; HEADER] {
    Frame {
        kind,
        offset,
        length,
    }
    .bytes()
}

#[test]
fn a_stream_says_what_each_block_is() {
    let (kinds, content) = taken_apart(&some(), 1 << 20).unwrap();
    let told: String = kinds[..14].iter().collect();
    assert_eq!(told, "?ddzzz?????hd?");
    assert_eq!(content[ALIGNMENT as usize], 7);
    assert_eq!(content[12 * ALIGNMENT as usize], 9);
}

#[test]
fn a_stream_that_stops_early_has_not_ended() {
    let whole = some();
    for cut in (0..whole.len()).step_by(97).chain([whole.len() - 1]) {
        let error = taken_apart(&whole[..cut], 4096).unwrap_err();
        assert_eq!(error, ExtentsError::Truncated, "{cut}");
    }
}

#[test]
fn nothing_follows_the_end() {
    let mut longer = some();
    longer.push(0);
    assert_eq!(taken_apart(&longer, 7), Err(ExtentsError::Trailing));
}

#[test]
fn extents_that_make_no_sense_are_refused() {
    let tables = [
        (header(Kind::Hole, 0, 0), "empty"),
        (header(Kind::Hole, 1, ALIGNMENT), "not at a block"),
        (header(Kind::Hole, 0, ALIGNMENT + 1), "not of blocks"),
        (header(Kind::Data, 0, (1 << 20) + ALIGNMENT), "too long"),
        (header(Kind::Hole, 0, SIZE + ALIGNMENT), "too large"),
        (header(Kind::Hole, u64::MAX - 4095, ALIGNMENT), "past 2^64"),
        (header(Kind::End, SIZE + ALIGNMENT, 32), "ends too late"),
        (header(Kind::End, SIZE, 31), "another digest"),
        ([4; HEADER], "another kind"),
        ([0xff; HEADER], "no frame"),
    ];
    for (bytes, what) in tables {
        let mut decoder = Decoder::new(SIZE);
        assert!(decoder.next(&mut &bytes[..]).is_err(), "{what}");
    }
}

#[test]
fn extents_only_ascend() {
    let again = [
        header(Kind::Zero, 0, 2 * ALIGNMENT),
        header(Kind::Hole, ALIGNMENT, ALIGNMENT),
    ];
    let error = taken_apart(&again.concat(), 24).unwrap_err();
    let (offset, end) = (ALIGNMENT, 2 * ALIGNMENT);
    assert_eq!(error, ExtentsError::Backwards { offset, end });
}

proptest! {
    #[test]
    fn it_does_not_matter_in_what_pieces_a_stream_comes(
        extents in prop::collection::vec((0..3_u8, 0..4_u64, 1..5_u64, any::<u8>()), 0..8),
        step in 1..5000_usize,
    ) {
        let bytes = stream(&extents);
        prop_assert_eq!(taken_apart(&bytes, step), taken_apart(&bytes, bytes.len()));
    }

    #[test]
    fn no_change_goes_unnoticed(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut bytes = some();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(taken_apart(&bytes, 4096).is_err());
    }
}
