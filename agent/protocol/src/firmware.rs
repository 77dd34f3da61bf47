//! The firmware of the box, in two slots.

use serde::{Deserialize, Serialize};

/// Media type of a bundle, which is what an update comes as.
pub const BUNDLE_MEDIA_TYPE: &str = "application/octet-stream";

/// Largest bundle in bytes.
pub const MAX_BUNDLE: u64 = 1 << 30;

/// Which firmware the box runs, and which it starts from next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    /// The version that runs.
    pub version: String,
    /// The slot that it runs from.
    pub running: SlotName,
    /// The slot that the box starts from next, if it is good then.
    pub next: SlotName,
    /// Whether an update is being written.
    pub installing: bool,
    /// Both slots.
    pub slots: Vec<FirmwareSlot>,
}

/// A place for a whole firmware.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirmwareSlot {
    /// Which of the two.
    pub name: SlotName,
    /// Whether the box would start from it: it is whole, and has not failed to start.
    pub good: bool,
    /// What was installed; absent of what the box was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<u64>,
}

/// One of the two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlotName {
    /// The first.
    A,
    /// The second.
    B,
}

impl SlotName {
    /// Both.
    pub const ALL: [SlotName; 2] = [SlotName::A, SlotName::B];

    /// The name as it is on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            SlotName::A => "a",
            SlotName::B => "b",
        }
    }
}

impl std::fmt::Display for SlotName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Text that names no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a slot is a or b")]
pub struct NoSlot;

impl std::str::FromStr for SlotName {
    type Err = NoSlot;

    fn from_str(text: &str) -> Result<SlotName, NoSlot> {
        let mut all = SlotName::ALL.into_iter();
        all.find(|slot| slot.as_str() == text).ok_or(NoSlot)
    }
}

/// The body of `POST /v1/firmware/activate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivateSpec {
    /// What to start from next.
    pub slot: SlotName,
}

/// The body of `POST /v1/system/restart`: an empty map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartSpec {}
