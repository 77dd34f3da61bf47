use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use super::CHUNK;
use super::buffer::Buffer;
use super::turn::Device;
use super::write::{WriteError, refused};

/// Bytes that are discarded at once, about: it is one piece of work to the disks.
const DISCARD: u64 = 64 << 20;

/// Clears stretches of a device that is to be destroyed.
pub struct Eraser<'f> {
    device: Device<'f>,
    zeros: Buffer,
}

impl<'f> Eraser<'f> {
    /// Nothing is cleared yet.
    pub fn new(device: Device<'f>) -> Eraser<'f> {
        Eraser {
            device,
            zeros: Buffer::new(),
        }
    }

    /// Overwrites a stretch of whole blocks with zeros, whatever is there. `step` is told up to
    /// where that is done now and then, and says whether to go on.
    ///
    /// # Errors
    /// When the device refuses, or it is not to go on; likewise below.
    pub fn zero(
        &self,
        offset: u64,
        length: u64,
        mut step: impl FnMut(u64) -> bool,
    ) -> Result<(), WriteError> {
        for (at, length) in pieces(offset, length, CHUNK as u64) {
            let zeros = &self.zeros[..length as usize];
            let written = self.device.io(length, |file| file.write_all_at(zeros, at));
            written.map_err(refused("clear", at, length))?;
            go_on(step(at + length))?;
        }
        Ok(())
    }

    /// Tells the device that a stretch of whole blocks of a pool is not needed; whether it takes
    /// that. What `guard` gives is kept during each piece, which has whole blocks too: of others
    /// the kernel takes no note.
    pub fn discard<G>(
        &self,
        (offset, length): (u64, u64),
        block: u64,
        guard: impl Fn() -> io::Result<G>,
        mut step: impl FnMut(u64) -> bool,
    ) -> Result<bool, WriteError> {
        let most = block.max(DISCARD - DISCARD % block.max(1));
        for (at, length) in pieces(offset, length, most) {
            let outcome = self.device.io(length, |file| {
                let _guarded = guard()?;
                discard(file, at, length)
            });
            match outcome {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => {
                    return Ok(false);
                }
                Err(error) => return Err(refused("discard", at, length)(error)),
            }
            go_on(step(at + length))?;
        }
        Ok(true)
    }

    /// Has the device keep all that was done.
    pub fn finish(&self) -> Result<(), WriteError> {
        let kept = self.device.io(0, |file| file.sync_data());
        kept.map_err(refused("make durable what was cleared up to", 0, 0))
    }
}

fn go_on(wanted: bool) -> Result<(), WriteError> {
    match wanted {
        true => Ok(()),
        false => Err(WriteError::Stopped),
    }
}

fn pieces(offset: u64, length: u64, most: u64) -> impl Iterator<Item = (u64, u64)> {
    let end = offset + length;
    let begin = (offset..end).step_by(usize::try_from(most).unwrap_or(usize::MAX));
    begin.map(move |at| (at, (end - at).min(most)))
}

nix::ioctl_write_ptr_bad!(
    /// `BLKDISCARD`: from where, and how many bytes.
    blkdiscard,
    nix::request_code_none!(0x12, 119),
    [u64; 2]
);

fn discard(file: &std::fs::File, offset: u64, length: u64) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and the kernel only reads
    // the two numbers, which live until the call is over.
    match unsafe { blkdiscard(file.as_raw_fd(), &[offset, length]) } {
        Ok(_) => Ok(()),
        // No device but a file, which has holes.
        Err(Errno::ENOTTY) => {
            let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            Ok(fallocate(file, flags, offset as i64, length as i64)?)
        }
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_is_cleared_is_zeros_and_nothing_else_is_touched() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![7; 3 << 20], 0).unwrap();
        let eraser = Eraser::new(Device::from(&file));
        let mut told = Vec::new();
        let step = |at| {
            told.push(at);
            true
        };
        eraser.zero(4096, (1 << 20) + 8192, step).unwrap();
        eraser.finish().unwrap();
        assert_eq!(told, [4096 + (1 << 20), 4096 + (1 << 20) + 8192]);
        let mut seen = vec![0; 3 << 20];
        file.read_exact_at(&mut seen, 0).unwrap();
        let end = 4096 + (1 << 20) + 8192;
        assert!(seen[..4096].iter().all(|byte| *byte == 7));
        assert!(seen[4096..end].iter().all(|byte| *byte == 0));
        assert!(seen[end..].iter().all(|byte| *byte == 7));
    }

    #[test]
    fn what_is_discarded_takes_no_room() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![7; 2 << 20], 0).unwrap();
        file.sync_all().unwrap();
        let before = file.metadata().unwrap().blocks();
        let eraser = Eraser::new(Device::from(&file));
        let outcome = eraser.discard((0, 1 << 20), 64 << 10, || Ok(()), |_| true);
        assert!(outcome.unwrap());
        assert!(file.metadata().unwrap().blocks() < before);
        assert_eq!(file.metadata().unwrap().len(), 2 << 20);
    }

    #[test]
    fn what_is_discarded_at_once_is_whole_blocks_of_any_pool() {
        let file = tempfile::tempfile().unwrap();
        let eraser = Eraser::new(Device::from(&file));
        for block in [64 << 10, 192 << 10, 64 << 20, 96 << 20, 1 << 30] {
            let (mut told, length) = (0, 3 * block.max(DISCARD));
            let step = |at| {
                assert_eq!(at % block, 0, "{block}");
                told += 1;
                true
            };
            assert!(eraser.discard((0, length), block, || Ok(()), step).unwrap());
            assert!((3..=4).contains(&told), "{block}: {told}");
        }
    }

    #[test]
    fn it_ends_when_it_is_not_to_go_on() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![7; 3 << 20], 0).unwrap();
        let eraser = Eraser::new(Device::from(&file));
        let outcome = eraser.zero(0, 3 << 20, |at| at < 2 << 20);
        assert!(matches!(outcome, Err(WriteError::Stopped)), "{outcome:?}");
        let mut last = [0];
        file.read_exact_at(&mut last, (2 << 20) + 1).unwrap();
        assert_eq!(last, [7]);
    }
}
