//! The unprivileged management daemon: policy, protocol and the record of what is intended.

pub mod store;
