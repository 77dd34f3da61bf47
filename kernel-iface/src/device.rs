//! Block devices as the kernel numbers them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The number of a block device. Two paths are the same device exactly when their numbers agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceNumber {
    /// The driver's part.
    pub major: u32,
    /// The device's part.
    pub minor: u32,
}

impl DeviceNumber {
    /// Unpacks a number as `stat(2)` and the device-mapper ioctls carry it.
    pub fn from_dev(dev: u64) -> Self {
        DeviceNumber {
            major: nix::sys::stat::major(dev) as u32,
            minor: nix::sys::stat::minor(dev) as u32,
        }
    }

    /// The number packed as `stat(2)` and the device-mapper ioctls carry it.
    pub fn dev(self) -> u64 {
        nix::sys::stat::makedev(u64::from(self.major), u64::from(self.minor))
    }

    /// Where sysfs describes the device: `/sys/dev/block/MAJOR:MINOR`.
    pub fn sysfs(self) -> PathBuf {
        PathBuf::from(format!("/sys/dev/block/{self}"))
    }
}

/// `MAJOR:MINOR`, the form of sysfs and of device-mapper tables.
impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// The text was not `MAJOR:MINOR`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a device number MAJOR:MINOR")]
pub struct NotADeviceNumber(String);

impl FromStr for DeviceNumber {
    type Err = NotADeviceNumber;

    fn from_str(text: &str) -> Result<Self, NotADeviceNumber> {
        let number = || {
            let (major, minor) = text.split_once(':')?;
            Some(DeviceNumber {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
            })
        };
        number().ok_or_else(|| NotADeviceNumber(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_through_text_and_dev() {
        let number = DeviceNumber {
            major: 253,
            minor: 70_000,
        };
        assert_eq!(number.to_string().parse(), Ok(number));
        assert_eq!(DeviceNumber::from_dev(number.dev()), number);
        assert!("253".parse::<DeviceNumber>().is_err());
        assert!("253:x".parse::<DeviceNumber>().is_err());
    }
}
