//! The engine above a targetd that speaks the real protocol.

mod adopt;
mod catalog;
mod chaos;
mod clearing;
mod crash;
mod events;
mod failing;
mod foreign;
mod happy;
mod holds;
mod moving;
mod portals;
mod redundancy;
mod rig;
mod schedule;
mod scratch;
mod snapshots;
mod spares;
mod watching;
mod work;
