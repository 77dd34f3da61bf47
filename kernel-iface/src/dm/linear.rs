use std::fmt;

use ashlar_targetd_protocol::Sectors;

use crate::device::DeviceNumber;

/// The `linear` target: a stretch of another device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// The device below.
    pub device: DeviceNumber,
    /// Where on it the stretch begins.
    pub offset: Sectors,
}

impl Linear {
    pub(super) fn parse(params: &str) -> Option<Self> {
        let mut words = params.split_ascii_whitespace();
        let linear = Linear {
            device: words.next()?.parse().ok()?,
            offset: Sectors(words.next()?.parse().ok()?),
        };
        words.next().is_none().then_some(linear)
    }
}

impl fmt::Display for Linear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.device, self.offset.0)
    }
}
