//! What thin devices hold: a sparse file in memory for each that was ever opened.
//!
//! A file is what the model hands out where the kernel hands out a device, so that whoever
//! reads and writes by descriptor runs on both. What was never written reads as zeros. A
//! snapshot is a copy, made at once. A block counts as mapped when any byte of it was written,
//! until a hole is punched over it.
//!
//! Not modelled: shared blocks (a copy counts as a whole; thin metadata tell by the content), a pool that runs full under a write,
//! I/O held back by a suspend, alignment, and that a device is given up while it is suspended.
//! `BLKDISCARD` is `ENOTTY`, this being a file; punch a hole instead. A device grows when it is
//! opened again.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{Whence, lseek};

use crate::block::Access;
use crate::tree::Errno;

/// Bytes copied at once.
const CHUNK: u64 = 1 << 20;

/// The content of one thin device.
#[derive(Debug)]
pub(super) struct ThinData(File);

impl ThinData {
    /// All zeros.
    pub(super) fn new() -> Result<Self, Errno> {
        memfd_create(c"ashlar-thin", MFdFlags::MFD_CLOEXEC).map(|file| ThinData(file.into()))
    }

    /// Bytes that are there already.
    pub(super) fn holding(bytes: &[u8]) -> Result<Self, Errno> {
        let data = ThinData::new()?;
        data.0.write_all_at(bytes, 0).map_err(errno)?;
        Ok(data)
    }

    /// The same content, independent from now on.
    pub(super) fn copy(&self) -> Result<Self, Errno> {
        let copy = ThinData::new()?;
        copy.grow(self.length()?)?;
        for (start, end) in self.stretches() {
            for at in (start..end).step_by(CHUNK as usize) {
                let mut bytes = vec![0; CHUNK.min(end - at) as usize];
                self.0.read_exact_at(&mut bytes, at).map_err(errno)?;
                copy.0.write_all_at(&bytes, at).map_err(errno)?;
            }
        }
        Ok(copy)
    }

    /// Opens it as a device of `size` bytes.
    pub(super) fn open(&self, size: u64, access: Access) -> Result<File, Errno> {
        self.grow(size)?;
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        let write = access != Access::Read;
        let opened = File::options().read(true).write(write).open(path);
        opened.map_err(errno)
    }

    /// Blocks of that many bytes with anything in them.
    pub(super) fn blocks(&self, block: u64) -> u64 {
        let mut counted = 0;
        let mut next = 0;
        for (start, end) in self.stretches() {
            let first = (start / block).max(next);
            let past = end.div_ceil(block);
            counted += past.saturating_sub(first);
            next = past.max(next);
        }
        counted
    }

    /// What each of those blocks holds, as a digest.
    pub(super) fn digests(&self, block: u64) -> Result<BTreeMap<u64, u64>, Errno> {
        let mut digests = BTreeMap::new();
        let mut bytes = vec![0; block as usize];
        for (start, end) in self.stretches() {
            for number in start / block..end.div_ceil(block) {
                if let Entry::Vacant(vacant) = digests.entry(number) {
                    // The last one may end behind the file.
                    let length = (self.length()? - number * block).min(block) as usize;
                    bytes.fill(0);
                    let read = self.0.read_exact_at(&mut bytes[..length], number * block);
                    read.map_err(errno)?;
                    let mut hasher = DefaultHasher::new();
                    hasher.write(&bytes);
                    vacant.insert(hasher.finish());
                }
            }
        }
        Ok(digests)
    }

    /// Whether anyone in this process has it open. The model is in one process with whoever it
    /// hands files to.
    pub(super) fn is_open(&self) -> bool {
        let number = |of: &fs::Metadata| (of.dev(), of.ino());
        let (Ok(own), Ok(open)) = (self.0.metadata(), fs::read_dir("/proc/self/fd")) else {
            return false;
        };
        let same = open.filter_map(|entry| fs::metadata(entry.ok()?.path()).ok());
        same.filter(|other| number(other) == number(&own)).count() > 1
    }

    fn length(&self) -> Result<u64, Errno> {
        self.0.metadata().map(|data| data.len()).map_err(errno)
    }

    fn grow(&self, size: u64) -> Result<(), Errno> {
        match self.length()? < size {
            true => self.0.set_len(size).map_err(errno),
            false => Ok(()),
        }
    }

    /// Where something was written, in order.
    fn stretches(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = lseek(&self.0, at, Whence::SeekData).ok()?;
            let end = lseek(&self.0, start, Whence::SeekHole).ok()?;
            at = end;
            Some((u64::try_from(start).ok()?, u64::try_from(end).ok()?))
        })
    }
}

fn errno(error: std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 64 << 10;

    #[test]
    fn a_copy_has_the_content_and_is_independent() {
        let data = ThinData::new().unwrap();
        let file = data.open(100 * BLOCK, Access::Exclusive).unwrap();
        file.write_all_at(b"first", 70 * BLOCK).unwrap();
        let copy = data.copy().unwrap();
        file.write_all_at(b"later", 70 * BLOCK).unwrap();
        let mut read = [0; 5];
        let copied = copy.open(100 * BLOCK, Access::Read).unwrap();
        copied.read_exact_at(&mut read, 70 * BLOCK).unwrap();
        assert_eq!(&read, b"first");
        copied.read_exact_at(&mut read, 0).unwrap();
        assert_eq!(read, [0; 5]);
        assert_eq!((copy.blocks(BLOCK), data.blocks(BLOCK)), (1, 1));
    }

    #[test]
    fn what_is_opened_for_reading_is_not_written() {
        let data = ThinData::new().unwrap();
        let file = data.open(BLOCK, Access::Read).unwrap();
        assert!(file.write_all_at(b"no", 0).is_err());
    }

    #[test]
    fn blocks_count_once_however_they_are_written() {
        let data = ThinData::new().unwrap();
        let file = data.open(100 * BLOCK, Access::Exclusive).unwrap();
        for at in [0, 8192, BLOCK - 1, 3 * BLOCK, 4 * BLOCK - 1] {
            file.write_all_at(b"xy", at).unwrap();
        }
        assert_eq!(data.blocks(BLOCK), 4);
    }

    #[test]
    fn it_is_open_until_the_last_file_is_closed() {
        let data = ThinData::new().unwrap();
        assert!(!data.is_open());
        let file = data.open(BLOCK, Access::Read).unwrap();
        assert!(data.is_open());
        drop(file);
        assert!(!data.is_open());
    }
}
