use ashlar_extents::Encoder;
use bytes::{BufMut, Bytes, BytesMut};

use super::gather::Sink;
use super::{GRAIN, Step, TransferError, all_zero};

/// Where frames go.
pub(super) trait Out {
    fn put(&mut self, frame: Bytes) -> Result<(), TransferError>;
}

/// Makes a stream of extents, zeros told apart.
pub(super) struct Frames<O> {
    pub(super) out: O,
    encoder: Encoder,
    /// What is before this is not spoken of.
    from: u64,
    /// Zeros that were seen and not told yet: where, how many, never written.
    zeros: Option<(u64, u64, bool)>,
    step: Step,
}

impl<O: Out> Frames<O> {
    pub(super) fn new(out: O, from: u64, step: Step) -> Frames<O> {
        Frames {
            out,
            encoder: Encoder::new(),
            from,
            zeros: None,
            step,
        }
    }

    /// That was all, of something of `size` bytes; its digest.
    pub(super) fn end(&mut self, size: u64) -> Result<[u8; 32], TransferError> {
        self.tell_zeros()?;
        let end = std::mem::take(&mut self.encoder).end(size);
        self.out.put(Bytes::copy_from_slice(&end.bytes))?;
        Ok(end.digest)
    }

    fn run(&mut self, offset: u64, bytes: &[u8]) -> Result<(), TransferError> {
        self.tell_zeros()?;
        let header = self.encoder.data(offset, bytes);
        let mut frame = BytesMut::with_capacity(header.len() + bytes.len());
        frame.put_slice(&header);
        frame.put_slice(bytes);
        self.out.put(frame.freeze())
    }

    fn tell_zeros(&mut self) -> Result<(), TransferError> {
        let Some((offset, length, hole)) = self.zeros.take() else {
            return Ok(());
        };
        let header = match hole {
            true => self.encoder.hole(offset, length),
            false => self.encoder.zero(offset, length),
        };
        self.out.put(Bytes::copy_from_slice(&header))
    }
}

impl<O: Out> Sink for Frames<O> {
    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), TransferError> {
        let before = self.from.saturating_sub(offset).min(bytes.len() as u64);
        let (mut offset, bytes) = (offset + before, &bytes[before as usize..]);
        let mut rest = bytes;
        while !rest.is_empty() {
            let zero = all_zero(&rest[..rest.len().min(GRAIN)]);
            let grains = rest.chunks(GRAIN);
            let run: usize = grains
                .take_while(|grain| all_zero(grain) == zero)
                .map(<[u8]>::len)
                .sum();
            match zero {
                true => self.zeros(offset, run as u64, false)?,
                false => self.run(offset, &rest[..run])?,
            }
            offset += run as u64;
            rest = &rest[run..];
        }
        (self.step)(offset);
        Ok(())
    }

    fn zeros(&mut self, offset: u64, length: u64, hole: bool) -> Result<(), TransferError> {
        let before = self.from.saturating_sub(offset).min(length);
        let (offset, length) = (offset + before, length - before);
        if length == 0 {
            return Ok(());
        }
        match &mut self.zeros {
            Some((begin, so_far, as_hole)) if *begin + *so_far == offset && *as_hole == hole => {
                *so_far += length;
            }
            _ => {
                self.tell_zeros()?;
                self.zeros = Some((offset, length, hole));
            }
        }
        (self.step)(offset + length);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ashlar_extents::{Decoder, Piece};

    use super::*;

    impl Out for Vec<u8> {
        fn put(&mut self, frame: Bytes) -> Result<(), TransferError> {
            self.extend_from_slice(&frame);
            Ok(())
        }
    }

    /// What a stream says: where, how much, data or zero or hole.
    fn told(stream: &[u8]) -> Vec<(u64, u64, char)> {
        let (mut decoder, mut input) = (Decoder::new(u64::MAX), stream);
        let mut told = Vec::new();
        while let Some(piece) = decoder.next(&mut input).unwrap() {
            told.push(match piece {
                Piece::Data { offset, bytes } => (offset, bytes.len() as u64, 'd'),
                Piece::Zero { offset, length } => (offset, length, 'z'),
                Piece::Hole { offset, length } => (offset, length, 'h'),
                Piece::End { size, .. } => (size, 0, 'e'),
            });
        }
        decoder.finish().unwrap();
        told
    }

    #[test]
    fn zeros_are_told_apart_and_together() {
        let grain = GRAIN as u64;
        let mut frames = Frames::new(Vec::new(), 0, Box::new(|_| ()));
        let mut bytes = vec![0; 4 * GRAIN];
        bytes[GRAIN] = 1;
        frames.data(0, &bytes).unwrap();
        frames.zeros(4 * grain, grain, false).unwrap();
        frames.zeros(5 * grain, grain, true).unwrap();
        frames.end(8 * grain).unwrap();
        let expected = vec![
            (0, grain, 'z'),
            (grain, grain, 'd'),
            (2 * grain, 3 * grain, 'z'),
            (5 * grain, grain, 'h'),
            (8 * grain, 0, 'e'),
        ];
        assert_eq!(told(&frames.out), expected);
    }

    #[test]
    fn what_was_sent_before_is_not_spoken_of() {
        let mut frames = Frames::new(Vec::new(), 8192, Box::new(|_| ()));
        frames.data(0, &[1; 4096]).unwrap();
        frames.data(4096, &[2; 8192]).unwrap();
        frames.end(1 << 20).unwrap();
        assert_eq!(
            told(&frames.out),
            vec![(8192, 4096, 'd'), (1 << 20, 0, 'e')]
        );
        let mut frames = Frames::new(Vec::new(), 8192, Box::new(|_| ()));
        frames.zeros(0, 1 << 20, true).unwrap();
        frames.end(1 << 20).unwrap();
        let rest = (1 << 20) - 8192;
        assert_eq!(
            told(&frames.out),
            vec![(8192, rest, 'h'), (1 << 20, 0, 'e')]
        );
    }
}
