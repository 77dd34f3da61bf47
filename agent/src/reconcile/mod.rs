//! Bringing the kernel to the intent, one unit at a time and many units at once.
//!
//! ```text
//! store thread ── want(unit, generation) ──► Ledger ──► driver task of the unit
//! first stream to targetd ── recovery lap ──►            │  wait for its pool
//! another stream ── lap ──►                              │  render from the intent
//!                                                        │  ApplyPool / ApplyVolume
//!                     ┌──────────── applied ─────────────┤
//!                     ▼                                  │ failed
//!        settle: Creating is Present,                    ▼
//!        Deleting is forgotten             retry │ restore │ withdraw
//! ```
//!
//! A unit has one driver at most, which ends when the unit has settled. Tens of units are
//! applied at once, since nearly all kernel time is waiting.
//! Nothing is polled: a driver runs because something changed, or because the last attempt
//! failed and its pause is over.

mod addresses;
mod attempt;
mod driver;
mod erasing;
mod failure;
mod holds;
mod host;
mod lap;
mod ledger;
mod portal;
pub mod render;

pub use addresses::{Addresses, Lacking};
pub use driver::{Desk, DeskAnswer, DeskError, PoolSeen, Reconciler};
pub use failure::problem_of;
pub use holds::HoldGuard;
pub use ledger::{Ledger, Settled};
