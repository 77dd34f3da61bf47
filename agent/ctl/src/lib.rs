//! The client side of an Ashlar appliance: the library beneath `ashlarctl`.
//!
//! | module     | what |
//! |------------|------|
//! | [`client`] | typed calls over mutual TLS |
//! | [`backup`] | backups in files, and volumes of them |
//! | [`pki`]    | a small certificate authority, and what boxes' identities are signed by |
//! | [`transfer`] | files into volumes, volumes and snapshots into files |
//! | [`size`]   | sizes as people write and read them |

pub mod backup;
pub mod client;
pub mod pki;
pub mod size;
pub mod transfer;

pub use client::{CallError, Change, Client, Endpoint, Identity};
