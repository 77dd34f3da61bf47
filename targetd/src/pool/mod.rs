//! Pools: observe → plan → check → apply.
//!
//! ```text
//!   disks ─► GPT, labels ─► (sets) ─► meta (linear) ─┐
//!                              ├────► data (linear) ─┴─► thin (thin-pool) ─► volumes
//!                              └────► catalog (linear) ─► the agent
//! ```
//!
//! | file      | what |
//! |-----------|------|
//! | `observe` | what the kernel and the disks have |
//! | `check`   | the safety rules, pure |
//! | `layout`  | where metadata and data lie, pure |
//! | `members` | which disks can be members of a set, pure |
//! | `sets`    | sets of disks that stand in for each other, pure |
//! | `report`  | how those are |
//! | `scrub`   | having the kernel go over them |
//! | `plan`    | the steps from one to the other, pure |
//! | `grow`    | what is different while a pool grows, pure |
//! | `destroy` | what is different when it is destroyed, pure |
//! | `step`    | one step: how it reads, and what its failure means |
//! | `apply`   | taking the steps |
//! | `catalog` | the region that is the agent's to write |
//! | `metadata` | a state of the thin metadata, held for the agent to read |

mod apply;
mod catalog;
mod check;
mod destroy;
mod grow;
mod layout;
mod members;
mod metadata;
mod observe;
mod plan;
mod report;
mod scrub;
mod sets;
mod step;

use std::collections::BTreeMap;
use std::time::Duration;

use ashlar_kernel_iface::dm::{PoolMode, StatusFreshness, ThinPoolStatus, ThinPoolUsage};
use ashlar_targetd_protocol::{
    DesiredPool, Failure, FailureKind, PoolDestruction, PoolFormat, PoolReport, PoolUsage, Report,
    Sectors,
};
use nix::time::{ClockId, clock_gettime};
use uuid::Uuid;

use crate::features;
use crate::generations::{Generations, Intent, Kind, Object};
use crate::kernel::{Kernel, KernelError};
use crate::locks::KeyLocks;
use crate::ours::{self, PoolPart};
use crate::refusal::Refusal;

pub use check::check;
pub use metadata::Metadata;
pub use observe::{ActivePart, ObservedContent, ObservedDisk, ObservedPart, ObservedPool, observe};
pub use plan::{Plan, plan};
pub use step::{DiskRef, SetSpec, Step, ThinSpec};

use sets::Which;

/// Sets that were brought to what they should be.
struct RaisedSets {
    made: Plan,
    steps: Vec<String>,
    /// Why a disk that was to take a place has not.
    unplaced: Option<Refusal>,
}

/// All pools. One apply per pool at a time.
pub struct Pools {
    kernel: Kernel,
    locks: KeyLocks<Uuid>,
    generations: Generations,
}

impl Pools {
    /// Pools on a kernel.
    pub fn new(kernel: Kernel) -> Self {
        Pools {
            kernel,
            locks: KeyLocks::default(),
            generations: Generations::default(),
        }
    }

    /// Brings a pool to its desired state.
    pub fn apply(&self, desired: &DesiredPool) -> Result<Report, Failure> {
        let _alone = self.locks.lock(&desired.id);
        let intent = Intent {
            generation: desired.generation,
            accesses: 0,
            last: desired.absent,
        };
        self.generations
            .accept(Object::new(Kind::Pool, desired.id), intent)?;
        if desired.redundancy.is_some() {
            check::numbers_make_sense(desired)?;
        }
        let mut steps = match desired.grows_from {
            Some(_) if !desired.absent => self.grow(desired)?,
            _ => match desired.destroy.filter(|_| desired.absent) {
                Some(PoolDestruction { force }) => self.destroy(desired, force)?,
                None => self.bring(desired)?,
            },
        };
        if !desired.absent {
            steps.extend(self.with_catalog(desired));
        }
        tracing::info!(pool = %desired.id, steps = steps.len(), "pool is as desired");
        Ok(Report {
            generation: desired.generation,
            steps,
            ..Report::default()
        })
    }

    /// Brings a pool that does not grow to its desired state.
    fn bring(&self, desired: &DesiredPool) -> Result<Vec<String>, Failure> {
        self.bring_at(desired, None)
    }

    /// The same with the thin pool no larger than this.
    fn bring_at(
        &self,
        desired: &DesiredPool,
        size: Option<Sectors>,
    ) -> Result<Vec<String>, Failure> {
        let mut observed = self.going(desired)?;
        check(desired, &observed)?;
        let mut unplaced = None;
        let mut made = Plan::default();
        let mut steps = self.taken(desired, &mut observed)?;
        if desired.redundancy.is_some() && !desired.absent {
            let raised = self.raise(desired, &observed, Which::All)?;
            let raised_any = !raised.steps.is_empty();
            steps.extend(raised.steps);
            (made, unplaced) = (raised.made, raised.unplaced);
            // To look is to read all of its disks.
            if raised_any {
                observed = self.observed(desired)?;
            }
            if observed.active(PoolPart::Thin).is_none() {
                check::metadata_is_not_lost(desired, &observed)?;
            }
        }
        let plan = plan::plan_at(desired, &observed, size)?;
        self.can_take(&plan)?;
        steps.extend(apply::apply(&self.kernel, desired.id, &plan)?);
        if let Err(refusal) = self.new_pool_is_empty(desired) {
            made.steps.extend(plan.steps);
            self.take_back(desired.id, &made);
            return Err(refusal);
        }
        match unplaced {
            Some(refusal) => Err(refusal.into()),
            None => Ok(steps),
        }
    }

    /// Has the disks of a pool that is taken over say whose it is, before anything is put together
    /// of it: from the first one on the box that had it leaves it alone.
    fn taken(
        &self,
        desired: &DesiredPool,
        observed: &mut ObservedPool,
    ) -> Result<Vec<String>, Failure> {
        if !desired.takes || desired.absent {
            return Ok(Vec::new());
        }
        let plan = plan::taken(desired, observed);
        let steps = apply::apply(&self.kernel, desired.id, &plan)?;
        if !steps.is_empty() {
            *observed = self.observed(desired)?;
        }
        Ok(steps)
    }

    /// What there is of a pool, none of whose sets holds I/O back: one that does was left so by an
    /// attempt that died, and whoever reads from it waits. Going on, it tries its disks again.
    fn going(&self, desired: &DesiredPool) -> Result<ObservedPool, Failure> {
        let observed = self.observed(desired)?;
        check::devices_are_ours(&observed)?;
        check::pool_is_this_boxs(desired, &observed)?;
        let resumed = sets::resumed(&observed);
        if resumed.steps.is_empty() {
            return Ok(observed);
        }
        apply::apply(&self.kernel, desired.id, &resumed)?;
        self.observed(desired)
    }

    /// Brings the sets to what they should be, below whatever is on them.
    fn raise(
        &self,
        desired: &DesiredPool,
        observed: &ObservedPool,
        which: Which,
    ) -> Result<RaisedSets, Failure> {
        let raised = sets::plan(desired, observed, which)?;
        self.can_take(&raised.plan)?;
        let mut steps = apply::apply(&self.kernel, desired.id, &raised.plan)?;
        for step in raised.left_over.steps {
            let plan = Plan { steps: vec![step] };
            match apply::apply(&self.kernel, desired.id, &plan) {
                Ok(taken) => steps.extend(taken),
                Err(failure) => {
                    tracing::warn!(pool = %desired.id, %failure, "a device of no use stays");
                }
            }
        }
        Ok(RaisedSets {
            made: raised.plan,
            steps,
            unplaced: raised.unplaced,
        })
    }

    /// No disk is written for a pool that the kernel cannot serve: of the module for it, the
    /// refusal to make one would not tell.
    fn can_take(&self, plan: &Plan) -> Result<(), Failure> {
        let needs = |step: &Step| match step.activates() {
            Some(PoolPart::Thin) => &["thin-pool"][..],
            // There would be no use of it otherwise.
            Some(PoolPart::Set(_)) => &["raid", "thin-pool"],
            Some(
                PoolPart::Super(_)
                | PoolPart::Leg(_)
                | PoolPart::Meta
                | PoolPart::Data
                | PoolPart::Catalog,
            )
            | None => &[],
        };
        let mut needed = plan.steps.iter().flat_map(needs);
        let problem = needed.find_map(|feature| features::problem(&self.kernel, feature));
        problem.map_or(Ok(()), |problem| {
            Err(Refusal::new(FailureKind::Unsupported, problem).into())
        })
    }

    /// Grows a pool, which is brought up first, without a look at disks it does not need: it
    /// serves whatever becomes of the new ones.
    ///
    /// Once a device was given a new disk the only way is forward, and what fails then may
    /// succeed later. Before that, what cannot be done to a new disk is final.
    fn grow(&self, desired: &DesiredPool) -> Result<Vec<String>, Failure> {
        let id = desired.id;
        let before = grow::sensible(desired)?;
        let mut steps = Vec::new();
        if desired.redundancy.is_some() {
            let observed = self.going(desired)?;
            steps = self.raise(desired, &observed, Which::Former)?.steps;
        }
        let observed = self.observed(&before)?;
        check::pool_is_this_boxs(desired, &observed)?;
        if observed.active(PoolPart::Thin).is_none() {
            let (standing, size) = grow::standing(desired, &before, &observed);
            steps.extend(self.bring_at(&standing, size)?);
        }
        steps.extend(self.go_on(desired)?);
        let observed = self.observed(desired)?;
        let growth = match self.begin_to_grow(desired, &observed) {
            Ok((growth, taken)) => {
                steps.extend(taken);
                growth
            }
            Err(failure) if grow::has_begun(desired, &observed) => {
                return Err(not_the_last_word(failure));
            }
            Err(failure) => {
                self.give_back(desired);
                return Err(last_word(failure));
            }
        };
        let take = |plan: &Plan| apply::apply(&self.kernel, id, plan).map_err(not_the_last_word);
        steps.extend(take(&growth.metadata)?);
        if growth.extends() {
            let usage = self.changeable(id).map_err(not_the_last_word)?;
            let counted = grow::can_be_counted(desired, &growth, &usage, usage.metadata_total);
            counted.map_err(|refusal| not_the_last_word(refusal.into()))?;
        }
        steps.extend(take(&growth.data)?);
        self.has_grown(id, &growth)?;
        steps.extend(take(&growth.labels)?);
        Ok(steps)
    }

    /// Lets hosts go on that an attempt which died left waiting.
    fn go_on(&self, desired: &DesiredPool) -> Result<Vec<String>, Failure> {
        let id = desired.id;
        let parts = observe::observe_parts(&self.kernel, id, PoolPart::TOP);
        let observed = ObservedPool {
            parts: parts.map_err(|error| unobserved(id, &error))?,
            disks: Vec::new(),
            legs: BTreeMap::new(),
            metadata: None,
        };
        let resumed = match self.report(id)?.usage {
            Some(usage) => grow::resumed(desired, &observed, &usage),
            None => Plan::default(),
        };
        apply::apply(&self.kernel, id, &resumed).map_err(not_the_last_word)
    }

    /// What a growth does to the new disks, once it is known to be possible.
    fn begin_to_grow(
        &self,
        desired: &DesiredPool,
        observed: &ObservedPool,
    ) -> Result<(grow::Growth, Vec<String>), Failure> {
        let usage = self.report(desired.id)?.usage;
        let usage = usage.ok_or_else(|| repair(desired.id))?;
        let growth = grow::grow(desired, observed, &usage)?;
        if growth.extends() {
            self.changeable(desired.id)?;
        }
        let mut steps = apply::apply(&self.kernel, desired.id, &growth.disks)?;
        if desired.redundancy.is_none() {
            return Ok((growth, steps));
        }
        let observed = self.observed(desired)?;
        steps.extend(self.raise(desired, &observed, Which::All)?.steps);
        let growth = grow::grow(desired, &self.observed(desired)?, &usage)?;
        Ok((growth, steps))
    }

    /// Makes the new disks blank again that a growth labelled which is given up, as far as that
    /// goes.
    fn give_back(&self, desired: &DesiredPool) {
        let id = desired.id;
        let lowered = self.observed(desired).and_then(|observed| {
            let plan = grow::lowered(desired, &observed);
            apply::apply(&self.kernel, id, &plan)
        });
        if let Err(failure) = lowered {
            tracing::warn!(pool = %id, %failure, "sets that were not to be stay active");
        }
        let steps = match self.observed(desired) {
            Ok(observed) => grow::given_back(desired, &observed).steps,
            Err(failure) => {
                tracing::warn!(pool = %id, %failure, "new disks may keep their labels");
                return;
            }
        };
        for step in steps {
            let plan = Plan { steps: vec![step] };
            if let Err(failure) = apply::apply(&self.kernel, id, &plan) {
                tracing::warn!(pool = %id, %failure, "a disk that was not to join keeps its label");
            }
        }
    }

    /// Destroys a pool. Unless it is forced, the pool is brought up first, if it has to be, to
    /// see that it is empty. Once its first disk is wiped the only way is forward.
    fn destroy(&self, desired: &DesiredPool, force: bool) -> Result<Vec<String>, Failure> {
        let id = desired.id;
        let observed = self.going(desired)?;
        destroy::check(desired, &observed, force)?;
        let mut steps = Vec::new();
        if !force && destroy::is_whole(desired, &observed) {
            steps = self.bring(&destroy::standing(desired))?;
            self.is_empty(id)?;
        }
        // It names hosts, volumes and groups, which are nobody's business afterwards.
        if let Err(failure) = self.clear_catalog(desired) {
            match force {
                true => tracing::warn!(pool = %id, %failure, "the catalog stays on its disks"),
                false => return Err(not_the_last_word(failure)),
            }
        }
        let observed = self.observed(desired)?;
        steps.extend(apply::apply(
            &self.kernel,
            id,
            &destroy::devices(&observed),
        )?);
        for found in observed.disks.iter().filter(|_| force) {
            if let Some(error) = &found.unread {
                tracing::warn!(pool = %id, disk = %found.id, error, "what a disk holds stays on it");
            }
        }
        for wipe in destroy::disks(desired, &observed) {
            match apply::apply(&self.kernel, id, &wipe) {
                Ok(taken) => steps.extend(taken),
                Err(failure) if force => {
                    tracing::warn!(pool = %id, %failure, "what a disk holds stays on it");
                }
                Err(failure) => return Err(not_the_last_word(failure)),
            }
        }
        Ok(steps)
    }

    fn is_empty(&self, id: Uuid) -> Result<(), Failure> {
        match self.report(id)?.usage {
            Some(usage) if usage.data_used == 0 => Ok(()),
            Some(usage) => Err(Failure::new(
                FailureKind::NotBlank,
                format!(
                    "pool {id} has {} blocks in use by thin devices that nobody knows",
                    usage.data_used
                ),
            )),
            None => Err(Failure::new(
                FailureKind::Refused,
                format!("pool {id} does not say whether it holds anything"),
            )),
        }
    }

    fn observed(&self, desired: &DesiredPool) -> Result<ObservedPool, Failure> {
        observe(&self.kernel, desired).map_err(|error| unobserved(desired.id, &error))
    }

    /// How full a pool is that takes a new size. The kernel passes over one without a word when
    /// its metadata need a check; not when they merely are full, which growing mends.
    fn changeable(&self, id: Uuid) -> Result<PoolUsage, Failure> {
        let name = ours::pool_device(id, PoolPart::Thin);
        let status = self.kernel.dm.pool_status(&name, StatusFreshness::AsIs);
        let status = status.map_err(|error| unobserved(id, &error.into()))?;
        match (status, self.report(id)?.usage) {
            (Some(ThinPoolStatus::Good(status)), Some(usage)) if !status.needs_check => Ok(usage),
            _ => Err(repair(id)),
        }
    }

    fn has_grown(&self, id: Uuid, growth: &grow::Growth) -> Result<(), Failure> {
        let (data, metadata) = (growth.blocks, growth.metadata_blocks);
        match self.report(id)?.usage {
            Some(usage) if usage.data_total >= data && usage.metadata_total >= metadata => Ok(()),
            usage => {
                let has = usage.map_or((0, 0), |usage| (usage.data_total, usage.metadata_total));
                Err(Failure::new(
                    FailureKind::Kernel,
                    format!(
                        "pool {id} has {} blocks of data and {} of metadata after it was given \
                         {data} and {metadata}",
                        has.0, has.1
                    ),
                ))
            }
        }
    }

    /// A pool in the making that is complete was left so by an attempt whose answer was lost, and
    /// is empty; or it is an older one of the same id. That one is neither kept, because what it
    /// holds would show up in new volumes, nor wiped: nobody meant it.
    fn new_pool_is_empty(&self, desired: &DesiredPool) -> Result<(), Failure> {
        let id = desired.id;
        if desired.absent || desired.format == PoolFormat::Never {
            return Ok(());
        }
        match self.report(id)?.usage {
            Some(usage) if usage.data_used > 0 => Err(Failure::new(
                FailureKind::NotBlank,
                format!(
                    "the disks hold an older pool {id} with {} blocks in use; a new pool takes \
                     another id",
                    usage.data_used
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Removes the devices that a plan made, as far as that goes.
    fn take_back(&self, id: Uuid, made: &Plan) {
        let parts = made.steps.iter().rev().filter_map(Step::activates);
        let back = Plan {
            steps: parts.map(Step::Remove).collect(),
        };
        if let Err(failure) = apply::apply(&self.kernel, id, &back) {
            tracing::warn!(%failure, "a pool that is not wanted stays active");
        }
    }

    /// Looks at a pool.
    pub fn report(&self, id: Uuid) -> Result<PoolReport, Failure> {
        self.status(id).map_err(|error| unobserved(id, &error))
    }

    fn status(&self, id: Uuid) -> Result<PoolReport, KernelError> {
        let looked = since_start();
        let parts = observe::observe_parts(&self.kernel, id, PoolPart::TOP)?;
        let Some(ObservedPart::Active(thin)) = parts.get(&PoolPart::Thin) else {
            return Ok(PoolReport {
                id,
                usage: None,
                degraded: false,
                sets: Vec::new(),
                looked,
            });
        };
        let sets = report::sets(&self.kernel, id)?;
        let block = check::thin_pool(thin).map_or(Sectors(0), |pool| pool.block);
        let name = ours::pool_device(id, PoolPart::Thin);
        let status = self.kernel.dm.pool_status(&name, StatusFreshness::AsIs)?;
        Ok(match status {
            Some(ThinPoolStatus::Good(usage)) => PoolReport {
                id,
                degraded: usage.mode != PoolMode::ReadWrite || usage.needs_check,
                usage: Some(reported(usage, block)),
                sets,
                looked,
            },
            Some(ThinPoolStatus::Failed) | None => PoolReport {
                id,
                usage: None,
                degraded: true,
                sets,
                looked,
            },
        })
    }
}

/// Nanoseconds, of which there are enough for centuries.
fn since_start() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from);
    now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

fn reported(usage: ThinPoolUsage, block: Sectors) -> PoolUsage {
    PoolUsage {
        transaction_id: usage.transaction_id,
        metadata_used: usage.metadata_used,
        metadata_total: usage.metadata_total,
        data_used: usage.data_used,
        data_total: usage.data_total,
        block,
    }
}

fn repair(pool: Uuid) -> Failure {
    Failure::new(
        FailureKind::Refused,
        format!("pool {pool} takes no changes and cannot grow; its metadata need repair"),
    )
}

/// A new disk that cannot be written is not waited for.
fn last_word(failure: Failure) -> Failure {
    match failure.kind {
        FailureKind::Kernel => Failure {
            kind: FailureKind::Refused,
            ..failure
        },
        _ => failure,
    }
}

/// Whatever the kernel said, it may be asked again.
fn not_the_last_word(failure: Failure) -> Failure {
    Failure {
        kind: FailureKind::Kernel,
        ..failure
    }
}

fn unobserved(pool: Uuid, error: &KernelError) -> Failure {
    Failure::new(
        FailureKind::Kernel,
        format!("failed to observe pool {pool}: {error}"),
    )
}
