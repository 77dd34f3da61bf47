//! The privileged daemon: the only process that writes kernel state.
//!
//! The agent says what one object (a pool, a volume with its exports) should be; this daemon
//! looks at that object in the kernel, plans, checks the plan against the safety rules, carries
//! it out step by step, and reports. It keeps no state of its own that the kernel does not have,
//! so it can be restarted at any moment without anyone noticing.
//!
//! ```text
//!   server ──► Targetd ──► Pools, Volumes, Snapshots ──► observe ─► check ─► plan ─► apply ──► kernel
//!                                                                  └──── pure ────┘
//! ```
//!
//! | module        | what |
//! |---------------|------|
//! | [`server`]    | the socket: who may connect, calls in, replies out |
//! | [`targetd`]   | what answers the requests |
//! | [`volume`]    | a volume: its thin device and its exports |
//! | [`snapshots`] | snapshots taken at one instant |
//! | [`transport`] | the ways to export a volume, one module each |
//! | [`thin`]      | thin devices, as volumes and snapshots use them |
//! | [`qos`]       | how much volumes may do |
//! | [`pool`]      | a pool: its disks and the devices on them |
//! | [`disks`], [`objects`], [`features`] | what is there |
//! | [`watch`], [`changes`] | what the kernel tells by itself, counted |
//! | [`counters`]  | what devices have done |
//! | [`prepare`]   | what is done once, at start |
//! | [`ours`]      | the names by which our kernel objects are known |
//! | [`locks`]     | one at a time per object; the order that cannot deadlock |
//! | [`steps`]     | taking the steps of a plan |
//! | [`generations`] | which intent is the newest |
//! | [`refusal`]   | what the safety rules forbid |
//! | [`kernel`]    | the kernel, real or modelled |
//!
//! Threads: one accepts, one per connection reads, up to 64 execute, one waits for what the kernel
//! tells, and while volumes have limits for reads and writes together, one divides those. No operation's cost grows
//! with the number of volumes; only [`objects`] lists them all.

pub mod changes;
pub mod counters;
pub mod disks;
pub mod features;
pub mod generations;
pub mod kernel;
pub mod locks;
pub mod objects;
pub mod ours;
pub mod pool;
pub mod prepare;
pub mod qos;
pub mod refusal;
pub mod server;
pub mod snapshots;
pub mod steps;
pub mod targetd;
pub mod thin;
pub mod transport;
pub mod volume;
pub mod watch;

pub use kernel::Kernel;
pub use server::{AllowedPeers, Server, Service};
pub use targetd::{StartError, Targetd};
