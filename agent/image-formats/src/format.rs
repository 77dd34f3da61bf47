//! The names of formats.

use std::fmt;
use std::str::FromStr;

/// What an image may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// The disk's bytes and nothing else.
    Raw,
    /// QEMU's copy-on-write format.
    Qcow2,
    /// VMware's sparse disk.
    Vmdk,
    /// Virtual PC's disk, called `vpc` by QEMU.
    Vhd,
    /// Hyper-V's disk.
    Vhdx,
}

impl Format {
    /// All of them.
    pub const ALL: [Format; 5] = [
        Format::Raw,
        Format::Qcow2,
        Format::Vmdk,
        Format::Vhd,
        Format::Vhdx,
    ];

    /// As users name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
            Format::Vmdk => "vmdk",
            Format::Vhd => "vhd",
            Format::Vhdx => "vhdx",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// Not the name of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an image format: raw, qcow2, vmdk, vhd and vhdx are")]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Format, UnknownFormat> {
        let found = Format::ALL.into_iter().find(|f| f.as_str() == text);
        found.ok_or(UnknownFormat)
    }
}
