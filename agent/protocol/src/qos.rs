//! How much a volume may do.

use serde::{Deserialize, Serialize};

/// Least operations in a second. Hosts give up on a command after 30 seconds, and a queue of 128
/// has to be worked off by then.
pub const MIN_IOPS: u64 = 10;
/// Most operations in a second that the kernel counts.
pub const MAX_IOPS: u64 = 4_000_000_000;
/// Least bytes in a second (1 MiB), likewise.
pub const MIN_BYTES: u64 = 1 << 20;
/// Most bytes in a second (1 EiB).
pub const MAX_BYTES: u64 = 1 << 60;

/// What a volume may do in a second at most, by all its hosts together; what is absent is not
/// limited. Of one kind, either a total or reads and writes for themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qos {
    /// Whether the numbers are for each begun GiB of the volume's size, and grow with it. What
    /// they come to is brought within the bounds that hold for plain numbers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub per_gib: bool,
    /// Read operations, each of one block of the pool at most: a larger one counts as several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_iops: Option<u64>,
    /// Write operations; a discard is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_iops: Option<u64>,
    /// Both together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_iops: Option<u64>,
    /// Bytes read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_bytes: Option<u64>,
    /// Bytes written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_bytes: Option<u64>,
    /// Both together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
}

impl Qos {
    /// Whether nothing is limited.
    pub fn is_unlimited(&self) -> bool {
        let none = Qos {
            per_gib: self.per_gib,
            ..Qos::default()
        };
        *self == none
    }
}
