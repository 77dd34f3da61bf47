//! iSCSI: one target per volume, portal group 1, LUN 0, one ACL per initiator.
//!
//! ```text
//!   what comes, downward; what goes, upward
//!   backstore ── target ── portal group (attributes: listed initiators only, CHAP)
//!                              ├── LUN 0 ─► backstore
//!                              ├── ACL (CHAP) ── mapped LUN 0 ─► LUN 0
//!                              ├── portals
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
//! never enabled, never listed to initiators, and never goes: the address is bound once per boot,
//! not with every volume that happens to be the first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Mutex;

use ashlar_kernel_iface::lio::{
    AclState, Backstore, BackstoreId, BackstoreState, DeviceAttribute, Lio, PortalGates, Target,
    TargetState, Tpg, TpgAttribute, TpgState,
};
use ashlar_kernel_iface::tree::{Change, Errno, Tree, TreeError};
use ashlar_targetd_protocol as protocol;
use ashlar_targetd_protocol::{
    ChapCredentials, FailureKind, Iqn, IscsiAcl, IscsiExport, Lun, PortalAddr, TpgTag,
};
use uuid::Uuid;

use super::names::Names;
use super::{ExportPlan, Subject, Survey, Transport};
use crate::kernel::{Kernel, KernelError};
use crate::ours;
use crate::refusal::Refusal;

/// Only listed initiators get in, each proves who it is, and may write.
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
    backstore: Option<BackstoreState>,
    /// The backstore's directory is there without it: whoever made or removed it died.
    remains: bool,
    targets: BTreeMap<Iqn, TargetState>,
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// End all sessions, let nobody in.
    Disable(Iqn),
    /// Take the LUN from an initiator, end its session, forget it.
    RemoveAcl(Iqn, Iqn),
    /// Stop listening for this target.
    ClosePortal(Iqn, PortalAddr),
    /// Take the backstore out of the portal group.
    RemoveLun(Iqn),
    /// Remove portal group and target.
    RemoveTarget(Iqn),
    /// Close the device and remove the backstore.
    RemoveBackstore,
    /// Make a backstore, without a device.
    CreateBackstore,
    /// Let the backstore open the volume's device.
    OpenBackstore,
    /// Give initiators the serial number by which they know the disk again.
    SetSerial(String),
    /// Let initiators free blocks they no longer use.
    AllowDiscard,
    /// Make the target and its portal group, disabled.
    CreateTarget(Iqn),
    /// Listed initiators only, with CHAP.
    Restrict(Iqn),
    /// Make LUN 0 on the backstore.
    CreateLun(Iqn),
    /// List an initiator, with its credentials, and show it LUN 0.
    Admit(Iqn, Iqn, IscsiAcl),
    /// Listen for this target.
    OpenPortal(Iqn, PortalAddr),
    /// Let initiators log in.
    Enable(Iqn),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Disable(target) => write!(f, "disable target {target}"),
            Step::RemoveAcl(target, initiator) => {
                write!(f, "remove initiator {initiator} from target {target}")
            }
            Step::ClosePortal(target, at) => write!(f, "close portal {at} of target {target}"),
            Step::RemoveLun(target) => write!(f, "remove LUN 0 of target {target}"),
            Step::RemoveTarget(target) => write!(f, "remove target {target}"),
            Step::RemoveBackstore => write!(f, "remove the backstore"),
            Step::CreateBackstore => write!(f, "create the backstore"),
            Step::OpenBackstore => write!(f, "open the device in the backstore"),
            Step::SetSerial(serial) => write!(f, "set the backstore's serial number to {serial}"),
            Step::AllowDiscard => write!(f, "allow discards on the backstore"),
            Step::CreateTarget(target) => write!(f, "create target {target}"),
            Step::Restrict(target) => {
                write!(
                    f,
                    "restrict target {target} to listed initiators, with CHAP"
                )
            }
            Step::CreateLun(target) => write!(f, "create LUN 0 of target {target}"),
            Step::Admit(target, initiator, acl) => {
                let how = match (&acl.chap, &acl.mutual) {
                    (None, _) => "without authentication",
                    (Some(_), None) => "with CHAP",
                    (Some(_), Some(_)) => "with mutual CHAP",
                };
                write!(f, "admit initiator {initiator} to target {target} {how}")
            }
            Step::OpenPortal(target, at) => write!(f, "open portal {at} of target {target}"),
            Step::Enable(target) => write!(f, "enable target {target}"),
        }
    }
}

/// The unit serial number of a volume, from which initiators also make its NAA identifier.
fn serial(volume: Uuid) -> String {
    volume.simple().to_string()
}

fn tag() -> TpgTag {
    TpgTag::try_from(1).expect("1 is in range")
}

fn lun() -> Lun {
    Lun::try_from(0).expect("0 is in range")
}

impl Transport for Iscsi {
    const KIND: protocol::Transport = protocol::Transport::Iscsi;
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
        let handle = lio.backstore(&BackstoreId::for_volume(volume));
        let backstore = handle.observe()?;
        Ok(Observed {
            remains: backstore.is_none() && handle.has_hba()?,
            backstore,
            targets,
        })
    }

    fn exported(observed: &Observed) -> bool {
        let open = |target: &TargetState| target.tpgs.values().any(|tpg| tpg.enabled);
        observed.targets.values().any(open)
    }

    fn check(
        subject: &Subject,
        observed: &Observed,
        desired: Option<&IscsiExport>,
    ) -> Result<(), Refusal> {
        if let Some(export) = desired {
            check_desired(subject.id, export)?;
        }
        for (name, target) in &observed.targets {
            check_ours(subject.id, name, target)?;
        }
        let cut = cut_off(subject, observed, desired);
        if !subject.force && !cut.is_empty() {
            let names: Vec<&str> = cut.into_iter().map(Iqn::as_str).collect();
            return Err(Refusal::new(
                FailureKind::InUse,
                format!("volume {} is in use by {}", subject.id, names.join(", ")),
            ));
        }
        Ok(())
    }

    fn plan(
        subject: &Subject,
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
        if backstore_goes(subject, observed, desired.is_some()) {
            removals.push(Step::RemoveBackstore);
        }
        let additions = desired.map(|export| added(subject, observed, export));
        ExportPlan {
            removals,
            leftovers,
            additions: additions.unwrap_or_default(),
        }
    }

    fn run(&self, step: &Step, kernel: &Kernel, volume: Uuid) -> Result<Change, KernelError> {
        let handle = Handle {
            lio: Lio::new(kernel.tree()),
            volume,
        };
        Ok(match step {
            Step::Disable(target) => self.gates.disable(&handle.tpg(target))?,
            Step::RemoveAcl(target, initiator) => handle.remove_acl(target, initiator)?,
            Step::ClosePortal(target, at) => self.gates.remove(&handle.tpg(target).portal(*at))?,
            Step::RemoveLun(target) => handle.tpg(target).lun(lun()).remove()?,
            Step::RemoveTarget(target) => {
                let removed = handle.remove_target(target)?;
                self.names.remove(volume, target);
                removed
            }
            Step::RemoveBackstore => handle.backstore().remove()?,
            Step::CreateBackstore => handle.backstore().create()?,
            Step::OpenBackstore => {
                let node = kernel.node(&ours::volume_device(volume))?;
                handle.backstore().set_device(&node)?;
                handle.backstore().enable()?
            }
            Step::SetSerial(serial) => handle.backstore().set_unit_serial(serial)?,
            Step::AllowDiscard => handle
                .backstore()
                .set_attribute(DeviceAttribute::EmulateTpu, 1)?,
            Step::CreateTarget(target) => {
                self.names.add(volume, target);
                handle.create_target(target)?
            }
            Step::Restrict(target) => handle.restrict(target)?,
            Step::CreateLun(target) => handle.create_lun(target)?,
            Step::Admit(target, initiator, acl) => handle.admit(target, initiator, acl)?,
            Step::OpenPortal(target, at) => {
                self.keep_open(handle.lio, *at)?;
                self.gates.create(&handle.tpg(target).portal(*at))?
            }
            Step::Enable(target) => handle.tpg(target).enable()?,
        })
    }

    fn meaning(step: &Step, errno: Errno) -> FailureKind {
        match (step, errno) {
            (Step::OpenPortal(..), _) => FailureKind::Address,
            // Neither directory is there before its module is.
            (Step::CreateBackstore | Step::CreateTarget(_), Errno::ENOENT | Errno::EINVAL) => {
                FailureKind::Unsupported
            }
            (_, Errno::EBUSY | Errno::ENOTEMPTY) => FailureKind::InUse,
            _ => FailureKind::Kernel,
        }
    }
}

impl Iscsi {
    /// Binds an address for good, before the first volume uses it.
    fn keep_open(&self, lio: Lio<'_>, at: PortalAddr) -> Result<(), TreeError> {
        let mut kept = self
            .kept_open
            .lock()
            .expect("nothing panics while holding this lock");
        if kept.contains(&at) {
            return Ok(());
        }
        let keeper = ours::PORTAL_KEEPER.parse().expect("a valid iSCSI name");
        let target = lio.target(&keeper);
        let made = target.create()?.or(target.tpg(tag()).create()?);
        let bound = made.or(self.gates.create(&target.tpg(tag()).portal(at))?);
        tracing::debug!(%at, change = ?bound, "portal kept open");
        kept.insert(at);
        Ok(())
    }
}

fn check_desired(volume: Uuid, export: &IscsiExport) -> Result<(), Refusal> {
    let refused = |reason: String| Err(Refusal::new(FailureKind::Refused, reason));
    if ours::volume_of_target(export.target.as_str()) != Some(volume) {
        return refused(format!(
            "target {} is not named after volume {volume}",
            export.target
        ));
    }
    if export.portals.is_empty() {
        return refused(format!("target {} has no portal", export.target));
    }
    let one_sided = |(_, acl): &(&Iqn, &IscsiAcl)| acl.chap.is_none() && acl.mutual.is_some();
    match export.initiators.iter().find(one_sided) {
        Some((initiator, _)) => refused(format!(
            "initiator {initiator} would be proven to, and prove nothing itself"
        )),
        None => Ok(()),
    }
}

/// A target of ours holds nothing but what is made here.
fn check_ours(volume: Uuid, name: &Iqn, target: &TargetState) -> Result<(), Refusal> {
    let foreign = |what: String| Err(Refusal::new(FailureKind::Foreign, what));
    if let Some(other) = target.tpgs.keys().find(|found| **found != tag()) {
        return foreign(format!("target {name} has a portal group {other}"));
    }
    for tpg in target.tpgs.values() {
        if let Some(other) = tpg.luns.keys().find(|found| **found != lun()) {
            return foreign(format!("target {name} has a LUN {other}"));
        }
        if let Some(Some(other)) = tpg.luns.get(&lun())
            && *other != BackstoreId::for_volume(volume)
        {
            return foreign(format!("LUN 0 of target {name} is {}", other.path()));
        }
        if let Some(other) = tpg.foreign.first() {
            return foreign(format!("target {name} holds {other}"));
        }
    }
    Ok(())
}

/// The initiators whose sessions the plan would end.
fn cut_off<'a>(
    subject: &Subject,
    observed: &'a Observed,
    desired: Option<&IscsiExport>,
) -> Vec<&'a Iqn> {
    let mut cut = Vec::new();
    for (name, target) in &observed.targets {
        let stays = kept(subject, observed, desired, name);
        for (initiator, acl) in target.tpgs.values().flat_map(|tpg| &tpg.acls) {
            let listed = stays.is_some_and(|export| export.initiators.contains_key(initiator));
            if acl.logged_in && !listed {
                cut.push(initiator);
            }
        }
    }
    cut
}

/// The desired export, if this target is its and can stay.
fn kept<'a>(
    subject: &Subject,
    observed: &Observed,
    desired: Option<&'a IscsiExport>,
    name: &Iqn,
) -> Option<&'a IscsiExport> {
    desired.filter(|export| {
        export.target == *name
            && (observed.backstore.is_none() || backstore_usable(subject, observed))
    })
}

/// Whether there is a backstore, or something of one, that nobody wants or that cannot be used.
fn backstore_goes(subject: &Subject, observed: &Observed, wanted: bool) -> bool {
    match &observed.backstore {
        Some(_) => !wanted || !backstore_usable(subject, observed),
        None => observed.remains && !wanted,
    }
}

/// Whether the backstore can stay: it has the volume's device open, or none yet, and nobody
/// learned a wrong serial number from it.
fn backstore_usable(subject: &Subject, observed: &Observed) -> bool {
    observed.backstore.as_ref().is_some_and(|backstore| {
        let device = !backstore.enabled || backstore.device == subject.device;
        let named = !backstore.exported || backstore.unit_serial == serial(subject.id);
        device && named && !backstore.read_only
    })
}

/// The LUN links to the volume's own backstore.
fn lun_right(volume: Uuid, tpg: &TpgState) -> bool {
    tpg.luns.get(&lun()) == Some(&Some(BackstoreId::for_volume(volume)))
}

/// What goes from a target that stays.
fn trimmed(export: &IscsiExport, target: &TargetState) -> Vec<Step> {
    let mut steps = Vec::new();
    let name = &export.target;
    for tpg in target.tpgs.values() {
        let gone = |(initiator, _): &(&Iqn, &AclState)| !export.initiators.contains_key(*initiator);
        let acls = tpg.acls.iter().filter(gone);
        steps.extend(acls.map(|(initiator, _)| Step::RemoveAcl(name.clone(), initiator.clone())));
        let portals = tpg.portals.difference(&export.portals);
        steps.extend(portals.map(|at| Step::ClosePortal(name.clone(), *at)));
    }
    steps
}

/// What goes before a target can.
fn emptied(name: &Iqn, target: &TargetState) -> Vec<Step> {
    let mut steps = Vec::new();
    for tpg in target.tpgs.values() {
        if tpg.enabled {
            steps.push(Step::Disable(name.clone()));
        }
        let acls = tpg.acls.keys();
        steps.extend(acls.map(|initiator| Step::RemoveAcl(name.clone(), initiator.clone())));
        let portals = tpg.portals.iter();
        steps.extend(portals.map(|at| Step::ClosePortal(name.clone(), *at)));
        if tpg.luns.contains_key(&lun()) {
            steps.push(Step::RemoveLun(name.clone()));
        }
    }
    steps
}

/// What comes.
fn added(subject: &Subject, observed: &Observed, export: &IscsiExport) -> Vec<Step> {
    let mut steps = backstore_steps(subject, observed);
    let name = &export.target;
    let standing = kept(subject, observed, Some(export), name)
        .and_then(|_| observed.targets.get(name)?.tpgs.get(&tag()));
    let Some(tpg) = standing else {
        steps.push(Step::CreateTarget(name.clone()));
        steps.push(Step::Restrict(name.clone()));
        steps.push(Step::CreateLun(name.clone()));
        steps.extend(admitted(export, &BTreeMap::new()));
        let portals = export.portals.iter();
        steps.extend(portals.map(|at| Step::OpenPortal(name.clone(), *at)));
        steps.push(Step::Enable(name.clone()));
        return steps;
    };
    let restricted =
        |(attribute, value): &(TpgAttribute, i64)| tpg.attributes.get(attribute) == Some(value);
    if !ATTRIBUTES.iter().all(restricted) {
        steps.push(Step::Restrict(name.clone()));
    }
    if !lun_right(subject.id, tpg) {
        steps.push(Step::CreateLun(name.clone()));
    }
    steps.extend(admitted(export, &tpg.acls));
    let portals = export.portals.difference(&tpg.portals);
    steps.extend(portals.map(|at| Step::OpenPortal(name.clone(), *at)));
    if !tpg.enabled {
        steps.push(Step::Enable(name.clone()));
    }
    steps
}

fn backstore_steps(subject: &Subject, observed: &Observed) -> Vec<Step> {
    let standing = observed
        .backstore
        .as_ref()
        .filter(|_| backstore_usable(subject, observed));
    let mut steps = Vec::new();
    if standing.is_none() {
        steps.push(Step::CreateBackstore);
    }
    if !standing.is_some_and(|backstore| backstore.enabled) {
        steps.push(Step::OpenBackstore);
    }
    let serial = serial(subject.id);
    if standing.is_none_or(|backstore| backstore.unit_serial != serial) {
        steps.push(Step::SetSerial(serial));
    }
    let discards = |backstore: &BackstoreState| {
        backstore.attributes.get(&DeviceAttribute::EmulateTpu) == Some(&1)
    };
    if !standing.is_some_and(discards) {
        steps.push(Step::AllowDiscard);
    }
    steps
}

/// The initiators whose ACL is not as desired.
fn admitted(export: &IscsiExport, acls: &BTreeMap<Iqn, AclState>) -> Vec<Step> {
    let wanting = export.initiators.iter().filter(|(initiator, acl)| {
        !acls
            .get(*initiator)
            .is_some_and(|state| acl_right(state, acl))
    });
    wanting
        .map(|(initiator, acl)| Step::Admit(export.target.clone(), initiator.clone(), acl.clone()))
        .collect()
}

fn acl_right(state: &AclState, acl: &IscsiAcl) -> bool {
    let same = |desired: &Option<ChapCredentials>,
                observed: &Option<ashlar_kernel_iface::lio::ObservedChap>| {
        match (desired, observed) {
            (Some(desired), Some(observed)) => observed.is(desired),
            (None, None) => true,
            _ => false,
        }
    };
    let mapped = state
        .mapped_luns
        .get(&lun())
        .is_some_and(|mapped| mapped.lun == Some(lun()) && mapped.write_protected == Some(false));
    state.authentication == Some(acl.chap.is_some())
        && same(&acl.chap, &state.chap)
        && same(&acl.mutual, &state.mutual_chap)
        && mapped
}

/// The kernel objects of one volume.
struct Handle<'t> {
    lio: Lio<'t>,
    volume: Uuid,
}

impl<'t> Handle<'t> {
    fn backstore(&self) -> Backstore<'t> {
        self.lio.backstore(&BackstoreId::for_volume(self.volume))
    }

    fn target(&self, name: &Iqn) -> Target<'t> {
        self.lio.target(name)
    }

    fn tpg(&self, name: &Iqn) -> Tpg<'t> {
        self.target(name).tpg(tag())
    }

    fn create_target(&self, name: &Iqn) -> Result<Change, TreeError> {
        let target = self.target(name).create()?;
        Ok(target.or(self.tpg(name).create()?))
    }

    fn remove_target(&self, name: &Iqn) -> Result<Change, TreeError> {
        let tpg = self.tpg(name).remove()?;
        Ok(tpg.or(self.target(name).remove()?))
    }

    fn restrict(&self, name: &Iqn) -> Result<Change, TreeError> {
        let tpg = self.tpg(name);
        ATTRIBUTES
            .iter()
            .map(|(attribute, value)| tpg.set_attribute(*attribute, *value))
            .try_fold(Change::Unchanged, |sum, change| Ok(sum.or(change?)))
    }

    fn create_lun(&self, name: &Iqn) -> Result<Change, TreeError> {
        let lun = self.tpg(name).lun(lun());
        let made = lun.create()?;
        Ok(made.or(lun.link(&self.backstore())?))
    }

    /// The credentials come before the LUN, so that there is nothing to see without them.
    fn admit(&self, name: &Iqn, initiator: &Iqn, acl: &IscsiAcl) -> Result<Change, TreeError> {
        let tpg = self.tpg(name);
        let listed = tpg.acl(initiator);
        let mapped = listed.mapped_lun(lun());
        let mut change = listed.create()?;
        change = change.or(listed.set_chap(acl.chap.as_ref())?);
        change = change.or(listed.set_mutual_chap(acl.mutual.as_ref())?);
        change = change.or(listed.set_authentication(acl.chap.is_some())?);
        change = change.or(mapped.create()?);
        change = change.or(mapped.link(&tpg.lun(lun()))?);
        Ok(change.or(mapped.set_write_protected(false)?))
    }

    fn remove_acl(&self, name: &Iqn, initiator: &Iqn) -> Result<Change, TreeError> {
        let acl = self.tpg(name).acl(initiator);
        let mapped = acl.mapped_lun(lun()).remove()?;
        Ok(mapped.or(acl.remove()?))
    }
}
