//! iSCSI: one target per volume or snapshot, portal group 1, LUN 0, one ACL per initiator.
//!
//! ```text
//!   what comes, downward; what goes, upward
//!   backstore ── target ── portal group (attributes: listed initiators only, CHAP)
//!                              ├── LUN 0 ─► backstore
//!                              ├── ACL (CHAP) ── mapped LUN 0 ─► LUN 0
//!                              ├── portals (over TCP; and RDMA, which is iSER)
//!                              └── enable
//! ```
//!
//! The portal group lets nobody in before it is enabled, and it is enabled last.
//!
//! **The portals' keeper.** All portal groups on one address share a socket and a login thread,
//! which the kernel makes with the first and drops with the last. A process that is killed while
//! the kernel starts that thread makes it fail and leak the socket (seen on Linux 6.12: "Unable
//! to create kthread: iscsi_np"), and the address is lost until the next boot. So the first
//! portal on an address is that of a target of our own, without LUN, ACL and session, which is
//! never enabled, never listed to initiators, and goes only when the address is let go of: it is bound
//! once, not with every volume that happens to be the first. It does not keep RDMA open: what listens on an
//! address of a card that is reset is lost with it, and comes again with the next first volume.
//!
//! **iSER.** A portal that takes RDMA takes TCP, too, and whoever is listed may come by either. It
//! stops taking RDMA when nothing is to be served that way; sessions that came by it go on until they
//! break, as long as their initiator is listed.

mod check;
mod handle;
mod plan;
mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use ashlar_kernel_iface::lio::{Lio, PortalGates, TargetState, TpgAttribute};
use ashlar_kernel_iface::tree::{Change, Errno, Tree, TreeError};
use ashlar_targetd_protocol as protocol;
use ashlar_targetd_protocol::{FailureKind, Iqn, IscsiExport, Lun, PortalAddr, ServedAt, TpgTag};
use uuid::Uuid;

use super::names::Names;
use super::{ExportPlan, Exported, Subject, Survey, Transport, backstore};
use crate::kernel::{Kernel, KernelError};
use crate::ours;
use crate::refusal::Refusal;

use check::{check_desired, check_ours, check_unused};
use handle::Handle;
use plan::{added, emptied, kept, trimmed};
pub use step::Step;

/// Only listed initiators get in, each proves who it is, and may write unless its mapped LUN says
/// otherwise.
const ATTRIBUTES: [(TpgAttribute, i64); 6] = [
    (TpgAttribute::Authentication, 1),
    (TpgAttribute::GenerateNodeAcls, 0),
    (TpgAttribute::CacheDynamicAcls, 0),
    (TpgAttribute::DemoModeDiscovery, 0),
    (TpgAttribute::DemoModeWriteProtect, 1),
    (TpgAttribute::ProdModeWriteProtect, 0),
];

/// The iSCSI transport.
#[derive(Default)]
pub struct Iscsi {
    names: Names<Iqn>,
    gates: PortalGates,
    /// Addresses on which the keeper is known to have a portal.
    kept_open: Mutex<BTreeSet<PortalAddr>>,
}

/// What the kernel has of a volume over iSCSI.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    disk: backstore::Seen,
    targets: BTreeMap<Iqn, TargetState>,
}

fn tag() -> TpgTag {
    TpgTag::try_from(1).expect("1 is in range")
}

fn lun() -> Lun {
    Lun::try_from(0).expect("0 is in range")
}

impl Transport for Iscsi {
    type Desired = IscsiExport;
    type Observed = Observed;
    type Step = Step;

    fn survey(&self, tree: &dyn Tree) -> Result<Survey, TreeError> {
        let lio = Lio::new(tree);
        let mut survey = Survey::default();
        for name in lio.targets()? {
            let owner = ours::volume_of_target(name.as_str());
            match (owner, name.as_str().parse::<Iqn>()) {
                (Some(volume), Ok(iqn)) => {
                    self.names.add(volume, &iqn);
                    survey.volumes.insert(volume);
                }
                _ if name.as_str() == ours::PORTAL_KEEPER => {}
                _ => survey.foreign.push(format!("iSCSI target {name}")),
            }
        }
        for id in lio.backstores()? {
            match ours::volume_named(id.name.as_str()) {
                Some(volume) => drop(survey.volumes.insert(volume)),
                None => survey.foreign.push(format!("backstore {}", id.path())),
            }
        }
        Ok(survey)
    }

    fn observe(
        &self,
        tree: &dyn Tree,
        volume: Uuid,
        desired: Option<&IscsiExport>,
    ) -> Result<Observed, TreeError> {
        let lio = Lio::new(tree);
        let mut names = self.names.of(volume);
        names.extend(desired.map(|export| export.target.clone()));
        let mut targets = BTreeMap::new();
        for name in names {
            if let Some(state) = lio.target(&name).observe()? {
                targets.insert(name, state);
            }
        }
        Ok(Observed {
            disk: backstore::Seen::observe(tree, volume)?,
            targets,
        })
    }

    fn exported(observed: &Observed) -> BTreeSet<protocol::Transport> {
        let groups = observed
            .targets
            .values()
            .flat_map(|target| target.tpgs.values());
        let mut exported = BTreeSet::new();
        for open in groups.filter(|tpg| tpg.enabled) {
            exported.insert(protocol::Transport::Iscsi);
            exported.extend((!open.iser.is_empty()).then_some(protocol::Transport::Iser));
        }
        exported
    }

    fn check(
        subject: &Subject<'_>,
        observed: &Observed,
        desired: Option<&IscsiExport>,
    ) -> Result<(), Refusal> {
        if let Some(export) = desired {
            check_desired(subject.what, export)?;
        }
        for (name, target) in &observed.targets {
            check_ours(subject.what.id(), name, target)?;
        }
        check_unused(subject, observed, desired)
    }

    fn plan(
        subject: &Subject<'_>,
        observed: &Observed,
        desired: Option<&IscsiExport>,
    ) -> ExportPlan<Step> {
        let mut removals = Vec::new();
        let mut leftovers = Vec::new();
        for (name, target) in &observed.targets {
            match kept(subject, observed, desired, name) {
                Some(export) => removals.extend(trimmed(export, target)),
                None => {
                    removals.extend(emptied(name, target));
                    leftovers.push(Step::RemoveTarget(name.clone()));
                }
            }
        }
        if observed.disk.goes(subject) {
            removals.push(Step::Disk(backstore::Step::Remove));
        }
        let additions = desired.map(|export| added(subject, observed, export));
        ExportPlan {
            removals,
            leftovers,
            additions: additions.unwrap_or_default(),
        }
    }

    fn run(&self, step: &Step, kernel: &Kernel, of: Exported) -> Result<Change, KernelError> {
        let volume = of.id();
        let handle = Handle::new(kernel.tree(), volume);
        Ok(match step {
            Step::Disable(target) => self.gates.disable(&handle.tpg(target))?,
            Step::RemoveAcl(target, initiator) => handle.remove_acl(target, initiator)?,
            Step::ClosePortal(target, at) => self.gates.remove(&handle.tpg(target).portal(*at))?,
            Step::CloseIser(target, at) => {
                self.gates.close_iser(&handle.tpg(target).portal(*at))?
            }
            Step::RemoveLun(target) => handle.tpg(target).lun(lun()).remove()?,
            Step::RemoveTarget(target) => {
                let removed = handle.remove_target(target)?;
                self.names.remove(volume, target);
                removed
            }
            Step::Disk(step) => step.run(kernel, of)?,
            Step::CreateTarget(target) => {
                self.names.add(volume, target);
                handle.create_target(target)?
            }
            Step::Restrict(target) => handle.restrict(target)?,
            Step::CreateLun(target) => handle.create_lun(target)?,
            Step::Admit(target, initiator, acl) => handle.admit(target, initiator, acl)?,
            Step::OpenPortal(target, at) => {
                self.keep_open(Lio::new(kernel.tree()), *at)?;
                self.gates.create(&handle.tpg(target).portal(*at))?
            }
            Step::OpenIser(target, at) => self.gates.open_iser(&handle.tpg(target).portal(*at))?,
            Step::Enable(target) => handle.tpg(target).enable()?,
        })
    }

    fn meaning(step: &Step, errno: Errno) -> FailureKind {
        step.meaning(errno)
    }

    fn needs(step: &Step) -> Option<&'static str> {
        match step {
            Step::OpenIser(..) => Some("iser"),
            _ => Some("iscsi"),
        }
    }

    fn listens(step: &Step) -> Option<(protocol::Transport, ServedAt)> {
        match step {
            Step::OpenPortal(_, at) => Some((protocol::Transport::Iscsi, ServedAt::Address(*at))),
            Step::OpenIser(_, at) => Some((protocol::Transport::Iser, ServedAt::Address(*at))),
            _ => None,
        }
    }

    fn wanted(desired: &IscsiExport) -> Vec<(protocol::Transport, BTreeSet<ServedAt>)> {
        let places =
            |at: &BTreeSet<PortalAddr>| at.iter().copied().map(ServedAt::Address).collect();
        vec![
            (protocol::Transport::Iscsi, places(&desired.portals)),
            (protocol::Transport::Iser, places(&desired.iser)),
        ]
    }
}

impl Iscsi {
    /// Whether the portals' keeper has an address.
    pub(super) fn keeps_open(&self, tree: &dyn Tree, at: PortalAddr) -> Result<bool, TreeError> {
        let keeper = keeper();
        match Lio::new(tree).target(&keeper).observe()? {
            Some(state) => Ok(state.tpgs.values().any(|tpg| tpg.portals.contains(&at))),
            None => Ok(false),
        }
    }

    /// Lets go of an address for which no volume is to be served any more. While some volume still
    /// listens there, so does the kernel.
    pub(super) fn release(&self, tree: &dyn Tree, at: PortalAddr) -> Result<(), TreeError> {
        let mut kept = self
            .kept_open
            .lock()
            .expect("nothing panics while holding this lock");
        kept.remove(&at);
        if self.keeps_open(tree, at)? {
            let portal = Lio::new(tree).target(&keeper()).tpg(tag()).portal(at);
            let change = self.gates.remove(&portal)?;
            tracing::debug!(%at, ?change, "portal let go of");
        }
        Ok(())
    }

    /// Binds an address for good, before the first volume uses it.
    fn keep_open(&self, lio: Lio<'_>, at: PortalAddr) -> Result<(), TreeError> {
        let mut kept = self
            .kept_open
            .lock()
            .expect("nothing panics while holding this lock");
        if kept.contains(&at) {
            return Ok(());
        }
        let target = lio.target(&keeper());
        let made = target.create()?.or(target.tpg(tag()).create()?);
        let bound = made.or(self.gates.create(&target.tpg(tag()).portal(at))?);
        tracing::debug!(%at, change = ?bound, "portal kept open");
        kept.insert(at);
        Ok(())
    }
}

fn keeper() -> Iqn {
    ours::PORTAL_KEEPER.parse().expect("a valid iSCSI name")
}
