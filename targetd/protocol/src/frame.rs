//! Length-prefixed messages: four bytes of big-endian length, then one CBOR item.

use std::io::{self, Read};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest message either side accepts, in bytes.
pub const MAX_MESSAGE: usize = 1 << 20;

/// The bytes of the length prefix.
pub const PREFIX: usize = 4;

/// Why a message could not be framed or read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed.
    #[error("stream failed")]
    Io(#[from] io::Error),
    /// The message is larger than [`MAX_MESSAGE`].
    #[error("message of {0} bytes is over the limit of {MAX_MESSAGE}")]
    TooLarge(usize),
    /// The stream ended within a message.
    #[error("stream ended within a message")]
    Truncated,
    /// The message is not what was expected.
    #[error("message does not decode")]
    Decode(#[source] ashlar_codec::DecodeError),
    /// The message could not be encoded.
    #[error("message does not encode")]
    Encode(#[source] ashlar_codec::EncodeError),
}

/// Encodes a message with its prefix.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let body = ashlar_codec::to_vec(message).map_err(FrameError::Encode)?;
    let length = checked_length(body.len())?;
    let mut frame = Vec::with_capacity(PREFIX + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// The body length a prefix announces.
pub fn body_length(prefix: [u8; PREFIX]) -> Result<usize, FrameError> {
    let length = u32::from_be_bytes(prefix) as usize;
    checked_length(length)?;
    Ok(length)
}

/// Decodes a body.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    let limits = ashlar_codec::Limits {
        bytes: MAX_MESSAGE,
        depth: 16,
    };
    ashlar_codec::from_slice(body, &limits).map_err(FrameError::Decode)
}

/// Reads one message; `None` when the stream ended between messages.
pub fn read<T: DeserializeOwned>(stream: &mut impl Read) -> Result<Option<T>, FrameError> {
    let mut prefix = [0; PREFIX];
    let mut filled = 0;
    while filled < PREFIX {
        match stream.read(&mut prefix[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(FrameError::Truncated),
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    let mut body = vec![0; body_length(prefix)?];
    stream.read_exact(&mut body).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => FrameError::Truncated,
        _ => FrameError::Io(e),
    })?;
    decode(&body).map(Some)
}

fn checked_length(length: usize) -> Result<u32, FrameError> {
    match u32::try_from(length) {
        Ok(value) if length <= MAX_MESSAGE => Ok(value),
        _ => Err(FrameError::TooLarge(length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Call, Request};

    #[test]
    fn a_message_comes_back_as_it_went() {
        let call = Call {
            id: 7,
            request: Request::ListDisks,
        };
        let mut bytes = encode(&call).unwrap();
        bytes.extend(
            encode(&Call {
                id: 8,
                request: Request::Hello { version: 1 },
            })
            .unwrap(),
        );
        let mut stream = bytes.as_slice();
        assert_eq!(read(&mut stream).unwrap(), Some(call));
        assert_eq!(read::<Call>(&mut stream).unwrap().map(|c| c.id), Some(8));
        assert_eq!(read::<Call>(&mut stream).unwrap(), None);
    }

    #[test]
    fn an_announced_giant_is_refused_before_it_is_allocated() {
        let bytes = [0xff, 0xff, 0xff, 0xff, 0];
        assert!(matches!(
            read::<Call>(&mut bytes.as_slice()),
            Err(FrameError::TooLarge(_))
        ));
    }

    #[test]
    fn a_cut_message_is_an_error_not_an_end() {
        let bytes = encode(&Call {
            id: 7,
            request: Request::ListDisks,
        })
        .unwrap();
        for cut in 1..bytes.len() {
            assert!(
                matches!(read::<Call>(&mut &bytes[..cut]), Err(FrameError::Truncated)),
                "{cut}"
            );
        }
    }
}
