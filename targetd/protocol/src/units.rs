//! Numbers with a unit or a range, checked once when they are made.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes in a sector, the unit of device-mapper tables and of sysfs sizes.
pub const SECTOR: u64 = 512;

/// A number that does not fit the type it was meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value} is out of range: {rule}")]
pub struct RangeError {
    /// The type, in words.
    pub what: &'static str,
    /// The refused value.
    pub value: u64,
    /// What would have been accepted.
    pub rule: &'static str,
}

/// A length or offset in bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// The length rounded up to whole multiples of `unit`, or `None` past 2^64.
    pub fn round_up(self, unit: Bytes) -> Option<Bytes> {
        self.0.checked_next_multiple_of(unit.0).map(Bytes)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}

/// A length or offset in sectors of 512 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Sectors(pub u64);

impl Sectors {
    /// The same length in bytes; saturates, which no real device reaches.
    pub fn bytes(self) -> Bytes {
        Bytes(self.0.saturating_mul(SECTOR))
    }

    /// The whole sectors in `bytes`; a rest is dropped.
    pub fn within(bytes: Bytes) -> Sectors {
        Sectors(bytes.0 / SECTOR)
    }
}

impl fmt::Display for Sectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sectors", self.0)
    }
}

macro_rules! ranged {
    ($(#[$doc:meta])* $name:ident($inner:ty), $what:literal, $min:expr, $max:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "u64", into = "u64")]
        pub struct $name($inner);

        impl $name {
            /// The plain number.
            pub fn value(self) -> $inner {
                self.0
            }
        }

        impl TryFrom<u64> for $name {
            type Error = RangeError;

            fn try_from(value: u64) -> Result<Self, RangeError> {
                let accepted = $min as u64..=$max as u64;
                if accepted.contains(&value) {
                    // In range of the narrower type by the check above.
                    Ok($name(value as $inner))
                } else {
                    Err(RangeError { what: $what, value, rule: $rule })
                }
            }
        }

        impl From<$name> for u64 {
            fn from(value: $name) -> u64 {
                value.0 as u64
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

ranged!(
    /// The id of a thin device within its pool; dm-thin keeps 24 bits.
    ThinId(u32), "thin device id", 0, 0xff_ffff, "0 to 16777215"
);
ranged!(
    /// A SCSI logical unit number.
    Lun(u16), "LUN", 0, 16_383, "0 to 16383"
);
ranged!(
    /// An NVMe namespace id.
    Nsid(u32), "NVMe namespace id", 1, 0xffff_fffe_u32, "1 to 4294967294"
);
ranged!(
    /// The tag of an iSCSI target portal group.
    TpgTag(u16), "target portal group tag", 0, 0xffff_u16, "0 to 65535"
);
ranged!(
    /// The number of an nvmet port directory.
    PortId(u16), "nvmet port id", 1, 0xffff_u16, "1 to 65535"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_up_keeps_multiples_and_refuses_overflow() {
        let unit = Bytes(1 << 20);
        assert_eq!(Bytes(1).round_up(unit), Some(Bytes(1 << 20)));
        assert_eq!(Bytes(1 << 20).round_up(unit), Some(Bytes(1 << 20)));
        assert_eq!(Bytes(u64::MAX).round_up(unit), None);
    }

    #[test]
    fn a_thin_id_has_24_bits() {
        assert!(ThinId::try_from(0xff_ffff).is_ok());
        assert!(ThinId::try_from(0x100_0000).is_err());
    }

    #[test]
    fn a_namespace_id_is_neither_zero_nor_the_broadcast_value() {
        assert!(Nsid::try_from(0).is_err());
        assert!(Nsid::try_from(0xffff_ffff).is_err());
        assert!(Nsid::try_from(1).is_ok());
    }
}
