//! The engine above a targetd that speaks the real protocol.

mod chaos;
mod crash;
mod failing;
mod happy;
mod rig;
