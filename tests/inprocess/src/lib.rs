//! A whole agent inside a test: the real management port on a loopback port, the real engine
//! and store in a temporary directory, targetd's real server on a socket, and below it a
//! [`Kernel`] that agrees to everything, at once or when it is let.
//!
//! For what concerns the agent and its clients. What concerns the kernel is tested on the model
//! kernel and the real one.

mod appliance;
mod kernel;
pub mod updater;

pub use appliance::{Appliance, pool, strangers, volume};
pub use kernel::{DISKS, Kernel, SPARE, serve};
pub use updater::Updater;
