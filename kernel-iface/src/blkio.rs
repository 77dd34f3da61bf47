//! How much I/O a block device may do: the `blkio` controller of cgroup v1, mounted on its own.
//!
//! The targets do their I/O from kernel threads, which are in the root group. Version 2 of the
//! controller has no limits there, version 1 has: one file for each [`Throttle`], a line
//! `MAJOR:MINOR VALUE` for each limited device.
//!
//! What the kernel was seen to do: writing 0 lifts a limit, and so does the largest number there
//! is; a line is written for one device at a time and reads back with all others that have one;
//! limits go with their device, so that the next one of its number has none. A limit counts for
//! every I/O of the device, whoever does it; one that is split, as at the end of a block of a
//! thin pool, counts once for each part where operations are counted, and once where bytes are.

use std::collections::BTreeMap;
use std::fmt;

use crate::device::DeviceNumber;
use crate::tree::{Tree, TreeError, TreePath};

/// The directory, below `/run`, where the controller is mounted.
const MOUNT: &str = "blkio";

/// The largest number of operations a second: the kernel keeps 32 bits, and all of them set
/// mean no limit.
pub const MOST_OPERATIONS: u64 = u32::MAX as u64 - 1;

/// What is limited, each in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Throttle {
    /// Bytes read.
    ReadBytes,
    /// Bytes written.
    WriteBytes,
    /// Read operations.
    ReadOperations,
    /// Write operations; a discard is one.
    WriteOperations,
}

impl Throttle {
    /// All of them.
    pub const ALL: [Throttle; 4] = [
        Throttle::ReadBytes,
        Throttle::WriteBytes,
        Throttle::ReadOperations,
        Throttle::WriteOperations,
    ];

    fn path(self) -> TreePath {
        TreePath::fixed(MOUNT).at(match self {
            Throttle::ReadBytes => "blkio.throttle.read_bps_device",
            Throttle::WriteBytes => "blkio.throttle.write_bps_device",
            Throttle::ReadOperations => "blkio.throttle.read_iops_device",
            Throttle::WriteOperations => "blkio.throttle.write_iops_device",
        })
    }
}

/// In words, as it follows a number.
impl fmt::Display for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Throttle::ReadBytes => "bytes read",
            Throttle::WriteBytes => "bytes written",
            Throttle::ReadOperations => "reads",
            Throttle::WriteOperations => "writes",
        })
    }
}

/// The limits of one device; what is absent has none.
pub type Throttles = BTreeMap<Throttle, u64>;

/// The root group of the controller.
#[derive(Clone, Copy)]
pub struct Blkio<'a> {
    tree: &'a dyn Tree,
}

impl<'a> Blkio<'a> {
    /// In the tree that begins at `/run`.
    pub fn new(tree: &'a dyn Tree) -> Self {
        Blkio { tree }
    }

    /// Whether the controller is mounted there.
    pub fn is_there(&self) -> Result<bool, TreeError> {
        self.tree.exists(&Throttle::ReadBytes.path())
    }

    /// The limits of every device that has any. Costs as much as there are.
    pub fn limits(&self) -> Result<BTreeMap<DeviceNumber, Throttles>, TreeError> {
        let mut found: BTreeMap<DeviceNumber, Throttles> = BTreeMap::new();
        for throttle in Throttle::ALL {
            let path = throttle.path();
            let text = self.tree.read(&path)?;
            for line in text.lines() {
                let (device, limit) = parse(line).ok_or_else(|| {
                    TreeError::unexpected(&path, line, "a device number and a limit")
                })?;
                found.entry(device).or_default().insert(throttle, limit);
            }
        }
        Ok(found)
    }

    /// Limits a device, or lifts its limit. `ENODEV` when there is no such device.
    pub fn set(
        &self,
        device: DeviceNumber,
        throttle: Throttle,
        limit: Option<u64>,
    ) -> Result<(), TreeError> {
        let line = format!("{device} {}", limit.unwrap_or(0));
        self.tree.write(&throttle.path(), &line)
    }
}

fn parse(line: &str) -> Option<(DeviceNumber, u64)> {
    let (device, limit) = line.split_once(' ')?;
    Some((device.parse().ok()?, limit.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Errno, RealTree};

    /// A directory with the controller's four files.
    fn directory(content: &str) -> tempfile::TempDir {
        let run = tempfile::tempdir().unwrap();
        std::fs::create_dir(run.path().join(MOUNT)).unwrap();
        for throttle in Throttle::ALL {
            std::fs::write(run.path().join(throttle.path().as_str()), content).unwrap();
        }
        run
    }

    #[test]
    fn a_limit_is_one_line_for_one_device() {
        let run = directory("");
        let tree = RealTree::new(run.path());
        let blkio = Blkio::new(&tree);
        let device = "253:7".parse().unwrap();
        blkio
            .set(device, Throttle::WriteOperations, Some(100))
            .unwrap();
        let file = run.path().join(Throttle::WriteOperations.path().as_str());
        assert_eq!(std::fs::read_to_string(file).unwrap(), "253:7 100");
        let expected = BTreeMap::from([(Throttle::WriteOperations, 100)]);
        assert_eq!(
            blkio.limits().unwrap(),
            BTreeMap::from([(device, expected)])
        );
    }

    #[test]
    fn what_no_kernel_writes_is_not_read_as_a_limit() {
        for text in ["253:7", "253 7", "253:7 max", "Total 12"] {
            let run = directory(text);
            let tree = RealTree::new(run.path());
            let error = Blkio::new(&tree).limits().unwrap_err();
            assert!(matches!(error, TreeError::Unexpected { .. }), "{text}");
        }
    }

    #[test]
    fn a_controller_that_is_not_mounted_is_missed() {
        let run = tempfile::tempdir().unwrap();
        let tree = RealTree::new(run.path());
        let blkio = Blkio::new(&tree);
        assert_eq!(blkio.is_there(), Ok(false));
        assert_eq!(
            blkio.limits().map_err(|error| error.errno()),
            Err(Some(Errno::ENOENT))
        );
    }
}
