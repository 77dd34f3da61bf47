use super::{BLOCK, CHUNK, TransferError};

/// Where content goes, in ascending order: data in whole blocks, a chunk at most.
pub(super) trait Sink {
    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), TransferError>;

    /// What reads as zeros; whether it was never written.
    fn zeros(&mut self, offset: u64, length: u64, hole: bool) -> Result<(), TransferError>;
}

/// Puts pieces together to whole blocks, and knows up to where everything is in the sink.
pub(super) struct Gather<S> {
    pub(super) sink: S,
    /// Where the buffer goes.
    at: u64,
    buffer: Vec<u8>,
    /// Before this, everything is in the sink.
    reached: u64,
}

impl<S: Sink> Gather<S> {
    pub(super) fn new(sink: S) -> Gather<S> {
        Gather {
            sink,
            at: 0,
            buffer: Vec::with_capacity(CHUNK),
            reached: 0,
        }
    }

    /// What went on while it broke is given again: a part of a block is forgotten.
    pub(super) fn resume(&mut self, from: u64) {
        self.buffer.clear();
        self.reached = from;
    }

    pub(super) fn reached(&self) -> u64 {
        self.reached
    }

    pub(super) fn data(&mut self, offset: u64, mut bytes: &[u8]) -> Result<(), TransferError> {
        if offset != self.at + self.buffer.len() as u64 {
            self.flush()?;
        }
        if self.buffer.is_empty() {
            self.at = offset;
        }
        while !bytes.is_empty() {
            let room = CHUNK - self.buffer.len();
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == CHUNK {
                self.flush()?;
            }
        }
        Ok(())
    }

    pub(super) fn zeros(
        &mut self,
        offset: u64,
        length: u64,
        hole: bool,
    ) -> Result<(), TransferError> {
        self.flush()?;
        self.sink.zeros(offset, length, hole)?;
        self.reached = offset + length;
        Ok(())
    }

    /// The last block, where it is not whole, is filled up with zeros.
    pub(super) fn flush(&mut self) -> Result<(), TransferError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let whole = self.buffer.len().next_multiple_of(BLOCK);
        self.buffer.resize(whole, 0);
        self.sink.data(self.at, &self.buffer)?;
        self.at += whole as u64;
        self.reached = self.at;
        self.buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Remembers what it was given.
    #[derive(Debug, Default, PartialEq, Eq)]
    pub(crate) struct Seen(pub(crate) Vec<(u64, u64, char)>);

    impl Sink for Seen {
        fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), TransferError> {
            self.0.push((offset, bytes.len() as u64, 'd'));
            Ok(())
        }

        fn zeros(&mut self, offset: u64, length: u64, hole: bool) -> Result<(), TransferError> {
            self.0.push((offset, length, if hole { 'h' } else { 'z' }));
            Ok(())
        }
    }

    #[test]
    fn pieces_become_whole_blocks() {
        let mut gather = Gather::new(Seen::default());
        gather.data(0, &[1; 1000]).unwrap();
        gather.data(1000, &[1; 3096]).unwrap();
        gather.data(4096, &vec![1; CHUNK]).unwrap();
        gather.zeros(4096 + CHUNK as u64, 8192, true).unwrap();
        gather.data(1 << 30, &[1; 4097]).unwrap();
        gather.flush().unwrap();
        let chunk = CHUNK as u64;
        let expected = vec![
            (0, chunk, 'd'),
            (chunk, 4096, 'd'),
            (chunk + 4096, 8192, 'h'),
            (1 << 30, 8192, 'd'),
        ];
        assert_eq!(gather.sink.0, expected);
        assert_eq!(gather.reached(), (1 << 30) + 8192);
    }

    #[test]
    fn what_broke_off_is_given_again_from_the_last_whole_chunk() {
        let mut gather = Gather::new(Seen::default());
        gather.data(0, &vec![1; CHUNK + 5]).unwrap();
        let reached = gather.reached();
        assert_eq!(reached, CHUNK as u64);
        gather.resume(reached);
        gather.data(reached, &[2; 4096]).unwrap();
        gather.flush().unwrap();
        assert_eq!(gather.sink.0, vec![(0, reached, 'd'), (reached, 4096, 'd')]);
    }
}
