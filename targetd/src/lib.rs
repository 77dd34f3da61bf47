//! The privileged daemon: the only process that writes kernel state.
//!
//! | module     | what |
//! |------------|------|
//! | [`server`] | the socket: who may connect, calls in, replies out |

pub mod server;
