//! The content of a volume as a client sends it.

use ashlar_extents::{ALIGNMENT, Decoder, Encoder, ExtentsError, Piece};

/// What the volume has.
const SIZE: u64 = 1 << 20;

/// Takes the bytes apart in pieces as long as the first one says.
///
/// # Panics
/// When anything is outside of the volume or comes twice, or the end is believed too early.
pub fn run(data: &[u8]) {
    let Some((step, bytes)) = data.split_first() else {
        return;
    };
    let mut decoder = Decoder::new(SIZE);
    let mut seen = Seen::default();
    for part in bytes.chunks(usize::from(*step) + 1) {
        if take(&mut decoder, part, &mut seen).is_err() {
            return;
        }
    }
    assert_eq!(decoder.finish().is_ok(), seen.ended);
}

/// What was taken so far.
#[derive(Default)]
struct Seen {
    reached: u64,
    ended: bool,
}

fn take(decoder: &mut Decoder, mut part: &[u8], seen: &mut Seen) -> Result<(), ExtentsError> {
    while let Some(piece) = decoder.next(&mut part)? {
        let (offset, length) = match piece {
            Piece::Data { offset, bytes } => (offset, bytes.len() as u64),
            Piece::Zero { offset, length } | Piece::Hole { offset, length } => (offset, length),
            Piece::End { size, .. } => {
                assert!((seen.reached..=SIZE).contains(&size));
                seen.ended = true;
                continue;
            }
        };
        assert!(offset >= seen.reached && length > 0);
        seen.reached = offset + length;
        assert!(seen.reached <= SIZE && !seen.ended);
    }
    Ok(())
}

/// Streams of every kind of extent.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new();
    let mut stream = vec![31];
    let data = [7; ALIGNMENT as usize];
    stream.extend(encoder.data(0, &data));
    stream.extend(data);
    stream.extend(encoder.zero(ALIGNMENT, 3 * ALIGNMENT));
    stream.extend(encoder.hole(9 * ALIGNMENT, ALIGNMENT));
    stream.extend(encoder.end(SIZE).bytes);
    let mut empty = vec![255];
    empty.extend(Encoder::new().end(SIZE).bytes);
    vec![stream, empty]
}
