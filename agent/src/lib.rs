//! The unprivileged management daemon: policy, protocol and the record of what is intended.

pub mod domain;
pub mod engine;
pub mod reconcile;
pub mod store;
pub mod targetd;
