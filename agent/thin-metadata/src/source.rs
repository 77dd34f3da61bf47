use std::io;

/// Size of a metadata block in bytes; the kernel knows no other.
pub const BLOCK: usize = 4096;

/// One metadata block.
pub type Block = [u8; BLOCK];

/// Where metadata blocks are read from.
pub trait BlockSource {
    /// How many blocks there are.
    fn blocks(&self) -> u64;

    /// Reads one block.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&self, block: u64, buffer: &mut Block) -> io::Result<()>;
}

impl<S: BlockSource + ?Sized> BlockSource for &S {
    fn blocks(&self) -> u64 {
        (**self).blocks()
    }

    fn read(&self, block: u64, buffer: &mut Block) -> io::Result<()> {
        (**self).read(block, buffer)
    }
}

/// A little-endian number at `at`, which the caller knows to be within.
pub(crate) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]))
}

/// Likewise.
pub(crate) fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]))
}

/// A block's checksum: CRC-32C without the last inversion over all behind the field that keeps
/// it, mixed with a number for each kind of block.
pub(crate) fn checksum(block: &Block, salt: u32) -> u32 {
    !crc32c::crc32c(&block[4..]) ^ salt
}
