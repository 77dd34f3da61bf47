//! The block ioctls, and the only unsafe code about block devices.

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::errno::Errno;

const BLK: u8 = 0x12;

mod raw {
    use super::BLK;

    nix::ioctl_read!(blk_get_size64, BLK, 114, u64);
    nix::ioctl_read_bad!(
        blk_ssz_get,
        nix::request_code_none!(BLK, 104),
        nix::libc::c_int
    );
    nix::ioctl_write_ptr_bad!(blk_discard, nix::request_code_none!(BLK, 119), [u64; 2]);
}

/// `BLKGETSIZE64`: the size in bytes.
pub(super) fn size(device: &File) -> Result<u64, Errno> {
    let mut bytes = 0;
    // SAFETY: the kernel writes one u64 through the pointer, which is to a live u64.
    unsafe { raw::blk_get_size64(device.as_raw_fd(), &mut bytes) }?;
    Ok(bytes)
}

/// `BLKSSZGET`: the logical block in bytes.
pub(super) fn logical_block(device: &File) -> Result<u64, Errno> {
    let mut bytes = 0;
    // SAFETY: the kernel writes one int through the pointer, which is to a live c_int.
    unsafe { raw::blk_ssz_get(device.as_raw_fd(), &mut bytes) }?;
    u64::try_from(bytes).map_err(|_| Errno::EINVAL)
}

/// `BLKDISCARD` of a stretch in bytes.
pub(super) fn discard(device: &File, start: u64, length: u64) -> Result<(), Errno> {
    // SAFETY: the kernel reads two u64 through the pointer, which is to a live array of two.
    unsafe { raw::blk_discard(device.as_raw_fd(), &[start, length]) }.map(drop)
}
