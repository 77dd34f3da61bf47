//! Destroying a pool: its disks become blank. Pure.
//!
//! ```text
//!   nothing in it? ─► remove the devices ─► wipe the first disk ─► wipe the others
//! ```
//!
//! The first disk was labelled last, and is wiped first: without its label there is no pool, so
//! what is left of it is wiped without asking what it holds. A disk is wiped only while it carries
//! the pool's label.

use ashlar_kernel_iface::block::DiskContent;
use ashlar_targetd_protocol::{DesiredPool, FailureKind, PoolFormat};

use super::check::{devices_are_ours, refused};
use super::observe::{ObservedDisk, ObservedPool};
use super::plan::{Plan, disk_ref};
use super::step::Step;
use crate::ours::PoolPart;
use crate::refusal::Refusal;

/// The pool as it has to be for looking whether it is empty.
pub(super) fn standing(desired: &DesiredPool) -> DesiredPool {
    DesiredPool {
        absent: false,
        destroy: None,
        grows_from: None,
        format: PoolFormat::Never,
        ..desired.clone()
    }
}

/// Whether there is a pool: it is active, or its first disk says so, or nobody can tell because
/// that one is missing, cannot be read or holds something else.
pub(super) fn is_whole(desired: &DesiredPool, observed: &ObservedPool) -> bool {
    let says = |disk: &ObservedDisk| match disk.content.as_ref().map(|content| &content.holds) {
        Some(DiskContent::Pool { label, .. }) => label.pool == desired.id,
        // Wiping it had begun.
        Some(DiskContent::Unfinished(_) | DiskContent::Blank) => false,
        Some(DiskContent::Foreign(_)) | None => true,
    };
    observed.active(PoolPart::Thin).is_some() || observed.disks.first().is_some_and(says)
}

/// Whether the rules allow it, but for what the pool holds.
pub(super) fn check(
    desired: &DesiredPool,
    observed: &ObservedPool,
    force: bool,
) -> Result<(), Refusal> {
    devices_are_ours(observed)?;
    // It would be found again, as a part of a pool that nobody knows.
    let kept = observed.disks.iter().find_map(|found| {
        let why = match (&found.disk, &found.unread) {
            (Err(_), _) => "is missing".to_owned(),
            (Ok(_), Some(error)) => format!("cannot be read ({error})"),
            (Ok(_), None) => return None,
        };
        Some((&found.id, why))
    });
    let kind = match is_whole(desired, observed) {
        true => FailureKind::Missing,
        // The others are blank in part: there is no going back, but the disk may come back.
        false => FailureKind::Kernel,
    };
    match kept {
        Some((disk, why)) if !force => refused(
            kind,
            format!(
                "disk {disk} of pool {} {why} and would keep its label",
                desired.id
            ),
        ),
        _ => Ok(()),
    }
}

/// The devices that go.
pub(super) fn devices(observed: &ObservedPool) -> Plan {
    let parts = observed.parts.iter().rev();
    let there = parts.filter(|(_, found)| found.number().is_some());
    Plan {
        steps: there.map(|(part, _)| Step::Remove(*part)).collect(),
    }
}

/// The disks that become blank, each by itself.
pub(super) fn disks(desired: &DesiredPool, observed: &ObservedPool) -> Vec<Plan> {
    let own = observed.disks.iter();
    let own = own.filter(|found| carries_label(desired, found));
    let wipe = own.filter_map(|found| {
        let disk = found.disk.as_ref().ok()?;
        Some(Plan {
            steps: vec![Step::Wipe(disk_ref(found, disk))],
        })
    });
    wipe.collect()
}

fn carries_label(desired: &DesiredPool, found: &ObservedDisk) -> bool {
    match found.content.as_ref().map(|content| &content.holds) {
        Some(DiskContent::Pool { label, .. } | DiskContent::Unfinished(label)) => {
            label.pool == desired.id
        }
        Some(DiskContent::Blank | DiskContent::Foreign(_)) | None => false,
    }
}
