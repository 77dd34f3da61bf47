use sha2::{Digest, Sha256};

use crate::frame::{Frame, HEADER, Kind};
use crate::{ALIGNMENT, DIGEST, MAX_DATA};

/// Why a stream is not one of extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtentsError {
    /// A header makes no sense.
    #[error("there is no frame at byte {at} of the stream")]
    NoFrame {
        /// Where it begins.
        at: u64,
    },
    /// An extent is empty or not of whole blocks, or has too much data.
    #[error("an extent of {length} bytes at {offset} is not one of whole blocks")]
    Odd {
        /// Where it begins.
        offset: u64,
        /// How long it is.
        length: u64,
    },
    /// An extent begins before the one before it ended.
    #[error("an extent at {offset} comes after {end}")]
    Backwards {
        /// Where it begins.
        offset: u64,
        /// Where the one before it ended.
        end: u64,
    },
    /// An extent, or the whole, is past what there is room for.
    #[error("the content goes up to {end}, past {limit}")]
    TooLarge {
        /// Where it ends.
        end: u64,
        /// The most.
        limit: u64,
    },
    /// The digest is another one.
    #[error("the checksum is wrong: something was changed on the way")]
    Checksum,
    /// Something follows the end.
    #[error("something follows the end")]
    Trailing,
    /// It stopped before its end.
    #[error("the stream stopped before its end")]
    Truncated,
}

/// A piece of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes, as many as have come: of whole blocks only together with those that follow.
    Data {
        /// Where they go.
        offset: u64,
        /// What they are.
        bytes: &'a [u8],
    },
    /// Written as zeros.
    Zero {
        /// Where it begins.
        offset: u64,
        /// How long it is.
        length: u64,
    },
    /// Never written.
    Hole {
        /// Where it begins.
        offset: u64,
        /// How long it is.
        length: u64,
    },
    /// That was all, and it came as it was sent.
    End {
        /// The size of the whole.
        size: u64,
        /// Of everything before the end.
        digest: [u8; DIGEST],
    },
}

/// Takes a stream apart. What came before an error, or before the stream stopped, is as it was
/// sent only if the transport says so.
#[derive(Debug)]
pub struct Decoder {
    limit: u64,
    hash: Sha256,
    /// Bytes of the stream taken.
    taken: u64,
    /// Where the last extent ended.
    at: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Header {
        bytes: [u8; HEADER],
        filled: usize,
    },
    Data {
        offset: u64,
        left: u64,
    },
    Digest {
        size: u64,
        bytes: [u8; DIGEST],
        filled: usize,
    },
    Over,
}

const NEXT: State = State::Header {
    bytes: [0; HEADER],
    filled: 0,
};

impl Decoder {
    /// For the content of something of at most `limit` bytes.
    pub fn new(limit: u64) -> Decoder {
        Decoder {
            limit,
            hash: Sha256::new(),
            taken: 0,
            at: 0,
            state: NEXT,
        }
    }

    /// The next piece of `input`, which is moved past it; `None` when it takes more input.
    ///
    /// # Errors
    /// When the stream is not one of extents. It is not to be asked again.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Piece<'a>>, ExtentsError> {
        while !input.is_empty() {
            let state = std::mem::replace(&mut self.state, State::Over);
            let piece = match state {
                State::Header { bytes, filled } => self.header(bytes, filled, input)?,
                State::Data { offset, left } => Some(self.data(offset, left, input)),
                State::Digest {
                    size,
                    bytes,
                    filled,
                } => self.digest(size, bytes, filled, input)?,
                State::Over => return Err(ExtentsError::Trailing),
            };
            if piece.is_some() {
                return Ok(piece);
            }
        }
        Ok(None)
    }

    /// Nothing more comes.
    ///
    /// # Errors
    /// When the end has not come.
    pub fn finish(&self) -> Result<(), ExtentsError> {
        match self.state {
            State::Over => Ok(()),
            _ => Err(ExtentsError::Truncated),
        }
    }

    fn header<'a>(
        &mut self,
        mut bytes: [u8; HEADER],
        mut filled: usize,
        input: &mut &'a [u8],
    ) -> Result<Option<Piece<'a>>, ExtentsError> {
        filled += self.fill(&mut bytes[filled..], input);
        if filled < HEADER {
            self.state = State::Header { bytes, filled };
            return Ok(None);
        }
        let at = self.taken - HEADER as u64;
        let frame = Frame::parse(&bytes).ok_or(ExtentsError::NoFrame { at })?;
        if frame.kind == Kind::End {
            return self.ended(&frame).map(|()| None);
        }
        self.hash.update(bytes);
        self.at = self.checked_end(&frame)?;
        let Frame { offset, length, .. } = frame;
        self.state = NEXT;
        Ok(match frame.kind {
            Kind::Zero => Some(Piece::Zero { offset, length }),
            Kind::Hole => Some(Piece::Hole { offset, length }),
            Kind::Data | Kind::End => {
                self.state = State::Data {
                    offset,
                    left: length,
                };
                None
            }
        })
    }

    fn ended(&mut self, frame: &Frame) -> Result<(), ExtentsError> {
        let (size, length) = (frame.offset, frame.length);
        if length != DIGEST as u64 {
            return Err(ExtentsError::Odd {
                offset: size,
                length,
            });
        }
        if size > self.limit {
            let limit = self.limit;
            return Err(ExtentsError::TooLarge { end: size, limit });
        }
        if size < self.at {
            let (offset, end) = (size, self.at);
            return Err(ExtentsError::Backwards { offset, end });
        }
        self.state = State::Digest {
            size,
            bytes: [0; DIGEST],
            filled: 0,
        };
        Ok(())
    }

    /// Where an extent ends, if it may be there.
    fn checked_end(&self, frame: &Frame) -> Result<u64, ExtentsError> {
        let Frame {
            kind,
            offset,
            length,
        } = *frame;
        let whole = offset.is_multiple_of(ALIGNMENT) && length.is_multiple_of(ALIGNMENT);
        if !whole || length == 0 || kind == Kind::Data && length > MAX_DATA {
            return Err(ExtentsError::Odd { offset, length });
        }
        if offset < self.at {
            let end = self.at;
            return Err(ExtentsError::Backwards { offset, end });
        }
        let (end, limit) = (offset.saturating_add(length), self.limit);
        if end > limit {
            return Err(ExtentsError::TooLarge { end, limit });
        }
        Ok(end)
    }

    fn data<'a>(&mut self, offset: u64, left: u64, input: &mut &'a [u8]) -> Piece<'a> {
        let length = left.min(input.len() as u64);
        let (bytes, rest) = input.split_at(length as usize);
        *input = rest;
        self.taken += length;
        self.hash.update(bytes);
        self.state = match left - length {
            0 => NEXT,
            left => State::Data {
                offset: offset + length,
                left,
            },
        };
        Piece::Data { offset, bytes }
    }

    fn digest<'a>(
        &mut self,
        size: u64,
        mut bytes: [u8; DIGEST],
        mut filled: usize,
        input: &mut &'a [u8],
    ) -> Result<Option<Piece<'a>>, ExtentsError> {
        filled += self.fill(&mut bytes[filled..], input);
        if filled < DIGEST {
            self.state = State::Digest {
                size,
                bytes,
                filled,
            };
            return Ok(None);
        }
        let digest: [u8; DIGEST] = self.hash.finalize_reset().into();
        match digest == bytes {
            true => Ok(Some(Piece::End { size, digest })),
            false => Err(ExtentsError::Checksum),
        }
    }

    fn fill(&mut self, room: &mut [u8], input: &mut &[u8]) -> usize {
        let length = room.len().min(input.len());
        let (taken, rest) = input.split_at(length);
        room[..length].copy_from_slice(taken);
        *input = rest;
        self.taken += length as u64;
        length
    }
}
