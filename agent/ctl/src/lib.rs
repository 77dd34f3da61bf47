//! The client side of an Ashlar appliance: the library beneath `ashlarctl`.
//!
//! | module     | what |
//! |------------|------|
//! | [`client`] | typed calls over mutual TLS |
//! | [`pki`]    | a small certificate authority for labs |

pub mod client;
pub mod pki;

pub use client::{CallError, Change, Client, Endpoint, Identity};
