//! The client side of an Ashlar appliance: the library beneath `ashlarctl`.
//!
//! | module   | what |
//! |----------|------|
//! | [`pki`]  | a small certificate authority for labs |

pub mod pki;
