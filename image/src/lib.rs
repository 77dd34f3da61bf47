//! Builds the bootable images: the appliance, and an initiator to test it with.
//!
//! | module        | what |
//! |---------------|------|
//! | [`appliance`] | the disk that is flashed: ESP, two slots, state |
//! | [`bundle()`]  | what updates a box to the same firmware, and [`resign`] for other hands |
//! | [`instance`]  | a copy of that disk for one box, with its configuration and certificates |
//! | [`again()`]   | the same once more, which must be the same |
//! | [`initiator`] | a small machine that logs in to the appliance's targets |
//! | [`test_shell`]| how a test gets a root shell in a guest, without one being in the image |
//!
//! Everything comes from Debian trixie, by the mirror that the machine's own apt uses. What is
//! built is kept in a cache directory under a key made of everything that went in: the package
//! trees take half a minute each and are built once, a new daemon costs a few seconds.
//!
//! ```text
//!  recipe ──mmdebstrap──▶ tree ──┬─ files, modules, daemons ──erofs, verity──▶ root ──▶ slots a, b
//!                                │                                              │ root hash
//!  recipe ──mmdebstrap──▶ kernel ┴─ modules, busybox ──cpio──▶ initrd ──ukify───┴─────▶ ESP
//! ```
//!
//! Building needs root, and [`HOST_PACKAGES`].

mod again;
mod appliance;
pub mod archive;
mod boot;
mod cache;
mod command;
mod disk;
mod error;
mod esp;
#[cfg(test)]
mod factory;
mod filesystem;
mod initiator;
mod instance;
mod modules;
mod overlay;
mod recipe;
mod sbom;
mod sizes;
mod slot;
mod test_shell;
mod tools;
mod uki;
mod update;
mod vmlinux;

pub use again::{Again, again};
pub use appliance::{AGENT_UID, Appliance, ApplianceInputs, VERSION, appliance, bundle, resign};
pub use disk::ESP_OFFSET;
pub use error::BuildError;
pub use initiator::{Initiator, initiator};
pub use instance::{Owner, StateFile, copy, instance};
pub use slot::Slot;
pub use test_shell::{SHELL_PORT, TEST_SHELL_CMDLINE, test_shell_qemu_args};
pub use uki::SigningKey;
pub use update::UpdateSigner;

/// The Debian packages that building needs on the machine itself.
pub const HOST_PACKAGES: &[&str] = &[
    "cpio",
    "debian-archive-keyring",
    "dosfstools",
    "e2fsprogs",
    "kmod",
    "mmdebstrap",
    "mtools",
    "systemd",
    "util-linux",
    "xz-utils",
];
