//! The `blkio` controller of cgroup v1: which devices have limits.
//!
//! Nothing is slowed down here: operations of the model take no time.

use std::collections::BTreeMap;

use super::{ModelState, Module};
use crate::device::DeviceNumber;
use crate::tree::{Errno, TreePath};

const MOUNT: &str = "blkio/";

/// The files of limits, and the largest value each keeps, which means that there is none.
const FILES: [(&str, u64); 4] = [
    ("blkio.throttle.read_bps_device", u64::MAX),
    ("blkio.throttle.read_iops_device", u32::MAX as u64),
    ("blkio.throttle.write_bps_device", u64::MAX),
    ("blkio.throttle.write_iops_device", u32::MAX as u64),
];

/// The limits, by file.
#[derive(Debug, Default)]
pub(super) struct Throttled([BTreeMap<DeviceNumber, u64>; 4]);

impl Throttled {
    /// A device has gone, and its limits with it.
    pub(super) fn forget(&mut self, device: DeviceNumber) {
        for file in &mut self.0 {
            file.remove(&device);
        }
    }
}

impl ModelState {
    /// Which of the files a path is. `None` where a path is none of this controller's.
    fn throttle_file(&self, path: &TreePath) -> Option<Result<usize, Errno>> {
        let name = path.as_str().strip_prefix(MOUNT)?;
        let found = FILES.iter().position(|(file, _)| *file == name);
        let mounted = self.has_module(Module::Blkio);
        Some(found.filter(|_| mounted).ok_or(Errno::ENOENT))
    }

    pub(super) fn throttle_is_there(&self, path: &TreePath) -> Option<bool> {
        Some(self.throttle_file(path)?.is_ok())
    }

    pub(super) fn read_throttle(&self, path: &TreePath) -> Option<Result<String, Errno>> {
        let lines = |file: usize| {
            let line = |(device, limit): (&DeviceNumber, &u64)| format!("{device} {limit}\n");
            // The newest device comes first.
            self.throttled.0[file].iter().rev().map(line).collect()
        };
        Some(self.throttle_file(path)?.map(lines))
    }

    pub(super) fn write_throttle(
        &mut self,
        path: &TreePath,
        text: &str,
    ) -> Option<Result<(), Errno>> {
        let file = self.throttle_file(path)?;
        Some(file.and_then(|file| self.throttle(file, text)))
    }

    fn throttle(&mut self, file: usize, text: &str) -> Result<(), Errno> {
        let text = text.trim_start();
        let (device, limit) = text
            .split_once(|c: char| c.is_ascii_whitespace())
            .ok_or(Errno::EINVAL)?;
        let device: DeviceNumber = device.parse().map_err(|_| Errno::EINVAL)?;
        if self.devices.device(device).is_none() {
            return Err(Errno::ENODEV);
        }
        // The digits at the beginning count, and what does not fit wraps around.
        let digits = limit.trim_start();
        let end = digits
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(digits.len());
        let number: u64 = digits[..end].parse().map_err(|_| Errno::EINVAL)?;
        let none = FILES[file].1;
        let kept = if number == 0 { none } else { number & none };
        match kept == none {
            true => drop(self.throttled.0[file].remove(&device)),
            false => drop(self.throttled.0[file].insert(device, kept)),
        }
        Ok(())
    }
}
