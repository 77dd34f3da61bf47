//! The management port over real sockets, with the real engine and store and a kernel that
//! agrees to everything.

mod client;
mod daemon;
mod events;
mod firmware;
mod identity;
mod input;
mod limits;
mod raw;
mod reload;
mod roles;
mod targetd;
mod trust;
