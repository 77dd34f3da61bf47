//! What the box is meant to be, and the rules for changing it. Nothing here does I/O.
//!
//! ```text
//! Command + Facts ── decide(&Intent) ── Decision::Change { edits, … } ── store ── Intent::apply
//!                                    └─ Problem: nothing changes
//! ```
//!
//! [`Intent`] holds every record in memory with the indexes that keep each rule cheap: no
//! command costs more on a box with many volumes. [`decide`] is pure; time, randomness and
//! what the kernel was seen to have come in as [`Facts`]. It chooses every id: generations,
//! thin ids, secrets. An [`Edit`] is one record put or removed, and the intent is nothing but
//! the sum of its records, so replaying the store gives the same intent.
//!
//! | module     | what |
//! |------------|------|
//! | [`catalog`] | what of it a pool's catalog has |
//! | [`import`] | what a box takes over of it |
//! | [`record`] | what is stored, by which key, in which schema |
//! | [`intent`] | all records and their indexes |
//! | [`command`]| what clients ask |
//! | [`decide`] | the rules, one file per resource |
//! | [`settle`] | what follows from the kernel's answers |
//! | [`event`]  | what changes mean to those who watch |
//! | [`members`]| how disks that stand in for each other are |
//! | [`names`]  | names of targets and subsystems |
//! | [`secrets`]| generated secrets |
//! | [`site`]   | the box itself |
//! | [`portals`]| where it is served |
//! | [`view`]   | the intent as clients see it |
//! | [`outcome`]| what a change is answered with |

pub mod catalog;
pub mod change;
pub mod command;
pub mod decide;
pub mod event;
pub mod fill;
pub mod import;
pub mod intent;
pub mod members;
pub mod names;
pub mod outcome;
pub mod portals;
pub mod qos;
pub mod record;
#[cfg(test)]
pub(crate) mod samples;
pub mod scrubs;
pub mod secrets;
pub mod settle;
pub mod site;
pub mod spares;
pub mod view;
pub mod watch;

pub use change::{Change, Decision, Edit, Reply};
pub use command::{Command, RequestContext};
pub use decide::work::Undertaking;
pub use decide::{Facts, decide};
pub use intent::Intent;
pub use outcome::{Outcome, outcome};
pub use record::{Key, Record, Unit};
pub use secrets::{OsRandom, Random};
pub use site::{Listen, Listens, Site};
