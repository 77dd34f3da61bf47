/// Bytes of a frame before its data.
pub const HEADER: usize = 24;

/// What a frame says of its extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its bytes follow.
    Data,
    /// It was written, as zeros.
    Zero,
    /// It was never written.
    Hole,
    /// There is nothing more; the digest follows.
    End,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Kind::Data => 0,
            Kind::Zero => 1,
            Kind::Hole => 2,
            Kind::End => 3,
        }
    }

    fn of(byte: u8) -> Option<Kind> {
        let all = [Kind::Data, Kind::Zero, Kind::Hole, Kind::End];
        all.into_iter().find(|kind| kind.byte() == byte)
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it says.
    pub kind: Kind,
    /// Where its extent begins, in bytes; of the end, the size of the whole.
    pub offset: u64,
    /// How long it is, in bytes.
    pub length: u64,
}

impl Frame {
    /// As it is sent.
    pub fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0] = self.kind.byte();
        bytes[8..16].copy_from_slice(&self.offset.to_be_bytes());
        bytes[16..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    /// Read back; `None` for a kind there is not, or if anything is where nothing should be.
    pub fn parse(bytes: &[u8; HEADER]) -> Option<Frame> {
        let ([kind, nothing @ ..], numbers) = bytes.split_first_chunk::<8>()?;
        let (offset, length) = numbers.split_first_chunk::<8>()?;
        let kind = Kind::of(*kind).filter(|_| nothing.iter().all(|byte| *byte == 0))?;
        Some(Frame {
            kind,
            offset: u64::from_be_bytes(*offset),
            length: u64::from_be_bytes(length.try_into().ok()?),
        })
    }
}
