//! Having the kernel go over all sets of a pool, beside what hosts do.

use ashlar_kernel_iface::dm::{DmError, RaidMessage};
use ashlar_kernel_iface::tree::Errno;
use ashlar_targetd_protocol::{
    Failure, FailureKind, MemberState, Report, Scrub, SetAction, SetReport,
};
use uuid::Uuid;

use super::Pools;
use crate::ours::{self, PoolPart};

impl Pools {
    /// Has the kernel go over all sets of a pool, or give that up.
    ///
    /// # Errors
    /// When it has none or is not active, when disks lack data, which is to be mended first, and
    /// while anything else goes over one of them. Then none is gone over.
    pub fn scrub(&self, id: Uuid, scrub: Scrub) -> Result<Report, Failure> {
        let _alone = self.locks.lock(&id);
        let sets = self.report(id)?.sets;
        if sets.is_empty() {
            return Err(Failure::new(
                FailureKind::Refused,
                format!("pool {id} is not active, or its disks do not stand in for each other"),
            ));
        }
        let message = match scrub {
            Scrub::Check => RaidMessage::Check,
            Scrub::Repair => RaidMessage::Repair,
            Scrub::Stop => return Ok(done(self.stop(id, &sets)?)),
        };
        if let Some(why) = sets.iter().find_map(occupied) {
            let message = format!("the sets of pool {id} cannot be compared now: {why}");
            return Err(Failure::new(FailureKind::InUse, message));
        }
        let mut steps = Vec::new();
        for (number, _) in (0..).zip(&sets) {
            match self.tell(id, number, message) {
                Ok(()) => steps.push(format!("{message} set {number}")),
                Err(error) => {
                    self.stop(id, &self.report(id)?.sets)?;
                    return Err(refused(id, number, message, &error));
                }
            }
        }
        Ok(done(steps))
    }

    /// Only what was asked for ends; what the sets need goes on.
    fn stop(&self, id: Uuid, sets: &[SetReport]) -> Result<Vec<String>, Failure> {
        let asked = |set: &SetReport| matches!(set.action, SetAction::Check | SetAction::Repair);
        let mut steps = Vec::new();
        for (number, _) in (0..).zip(sets).filter(|(_, set)| asked(set)) {
            match self.tell(id, number, RaidMessage::Idle) {
                Ok(()) => {}
                // Linux 6.12 gives up what goes on, and answers that this was no message.
                Err(error) if error.errno() == Some(Errno::EINVAL) => {}
                Err(error) => return Err(refused(id, number, RaidMessage::Idle, &error)),
            }
            steps.push(format!("{} set {number}", RaidMessage::Idle));
        }
        Ok(steps)
    }

    fn tell(&self, id: Uuid, set: u32, message: RaidMessage) -> Result<(), DmError> {
        let name = ours::pool_device(id, PoolPart::Set(set));
        self.kernel.dm.raid_message(&name, message)
    }
}

/// Why a set cannot be gone over. The kernel would, and call all of its disks sound meanwhile.
fn occupied(set: &SetReport) -> Option<&'static str> {
    let in_sync = |state: &MemberState| *state == MemberState::InSync;
    match set.action {
        SetAction::Idle if set.members.iter().all(in_sync) => None,
        SetAction::Idle => Some("not all of their disks have their data"),
        SetAction::Resync
        | SetAction::Rebuild
        | SetAction::Check
        | SetAction::Repair
        | SetAction::Frozen => Some("they are gone over already"),
    }
}

fn done(steps: Vec<String>) -> Report {
    Report {
        steps,
        ..Report::default()
    }
}

fn refused(pool: Uuid, set: u32, message: RaidMessage, error: &DmError) -> Failure {
    Failure::new(
        FailureKind::Kernel,
        format!("failed to have set {set} of pool {pool} go over to {message}: {error}"),
    )
}
