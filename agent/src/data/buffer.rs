use std::ops::{Deref, DerefMut};

use super::{BLOCK, CHUNK};

/// A chunk of memory as direct I/O wants it.
#[derive(Debug)]
pub(crate) struct Buffer {
    /// Larger by a block, to begin where one begins. Never moved: it is on the heap.
    memory: Box<[u8]>,
    begin: usize,
}

impl Buffer {
    pub(crate) fn new() -> Buffer {
        let memory = vec![0; CHUNK + BLOCK].into_boxed_slice();
        let begin = memory.as_ptr().align_offset(BLOCK);
        Buffer { memory, begin }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.begin..self.begin + CHUNK]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.begin..self.begin + CHUNK]
    }
}
