//! What an engine is started with.

use std::path::PathBuf;
use std::time::Duration;

use ashlar_protocol::Name;

use crate::domain::Listens;
use crate::firmware::FirmwareOptions;
use crate::support::SupportOptions;

/// What an engine is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Where the store is, a directory of its own.
    pub state_dir: PathBuf,
    /// targetd's socket.
    pub targetd_socket: PathBuf,
    /// The program that reads images of disks.
    pub convert: PathBuf,
    /// What the firmware is updated with.
    pub firmware: FirmwareOptions,
    /// What a support bundle has besides.
    pub support: SupportOptions,
    /// The box's name.
    pub name: Name,
    /// Where each transport is served.
    pub listens: Listens,
    /// Longest wait for the first lap before the engine counts as ready without it.
    pub ready_within: Duration,
    /// How long a disk has to be gone before a spare takes its place.
    pub spare_after: Duration,
    /// How long a day is between comparisons of disks.
    pub scrub_day: Duration,
}
