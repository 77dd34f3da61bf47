/// Memory that direct I/O accepts: it begins at a multiple of 4 KiB.
pub(super) struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBuffer {
    const ALIGNMENT: usize = 4096;

    pub(super) fn zeroed(length: usize) -> Self {
        let memory = vec![0; length + Self::ALIGNMENT];
        // Within a vector of bytes the next aligned place is always reachable.
        let start = memory
            .as_ptr()
            .align_offset(Self::ALIGNMENT)
            .min(Self::ALIGNMENT);
        AlignedBuffer {
            memory,
            start,
            length,
        }
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}
