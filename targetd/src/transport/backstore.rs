//! The SCSI disk of a volume or a snapshot, which iSCSI and Fibre Channel share.
//!
//! What comes first over either makes it, what goes last removes it: the table of transports has
//! Fibre Channel before iSCSI, so the former makes what both want, and the latter removes what
//! neither does.

use std::fmt;

use ashlar_kernel_iface::lio::{Backstore, BackstoreId, BackstoreState, DeviceAttribute, Lio};
use ashlar_kernel_iface::tree::{Change, Errno, Tree, TreeError};
use ashlar_targetd_protocol::FailureKind;
use uuid::Uuid;

use super::{Exported, Subject, reservations};
use crate::kernel::{Kernel, KernelError};

/// What the kernel has of it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The backstore itself.
    pub state: Option<BackstoreState>,
    /// Its directory is there without it: whoever made or removed it died.
    remains: bool,
}

/// One change of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Close the device and remove the backstore.
    Remove,
    /// Make a backstore, without a device.
    Create,
    /// Let the backstore open the volume's device.
    Open,
    /// Give initiators the serial number by which they know the disk again.
    SetSerial(String),
    /// Let initiators free blocks they no longer use.
    AllowDiscard,
    /// Have nobody write many blocks by one command, which those could use that only read.
    RefuseWriteSame,
}

/// The unit serial number, from which initiators also make its NAA identifier.
fn serial(volume: Uuid) -> String {
    volume.simple().to_string()
}

fn handle<'t>(tree: &'t dyn Tree, volume: Uuid) -> Backstore<'t> {
    Lio::new(tree).backstore(&BackstoreId::for_volume(volume))
}

impl Seen {
    pub(super) fn observe(tree: &dyn Tree, volume: Uuid) -> Result<Seen, TreeError> {
        let handle = handle(tree, volume);
        let state = handle.observe()?;
        Ok(Seen {
            remains: state.is_none() && handle.has_hba()?,
            state,
        })
    }

    /// Whether what is built on it can stay.
    pub(super) fn bears(&self, subject: &Subject<'_>) -> bool {
        self.state.is_none() || self.is_usable(subject)
    }

    /// Whether it can stay: it has the right device open, or none yet, to read only if that is what
    /// it is for, and nobody learned a wrong serial number from it.
    fn is_usable(&self, subject: &Subject<'_>) -> bool {
        self.state.as_ref().is_some_and(|backstore| {
            let device = !backstore.enabled || backstore.device == subject.device;
            let named = !backstore.exported || backstore.unit_serial == serial(subject.what.id());
            let access = match subject.what.is_only_read() {
                // Whoever opens the device says so just before.
                true => !backstore.enabled || backstore.read_only,
                false => !backstore.read_only,
            };
            device && named && access
        })
    }

    /// Whether there is something of it that nobody wants or that cannot be used.
    pub(super) fn goes(&self, subject: &Subject<'_>) -> bool {
        let wanted = subject.exports.is_disk();
        match &self.state {
            Some(_) => !wanted || !self.is_usable(subject),
            None => self.remains && !wanted,
        }
    }

    /// What comes.
    pub(super) fn added(&self, subject: &Subject<'_>) -> Vec<Step> {
        let standing = self.state.as_ref().filter(|_| self.is_usable(subject));
        let mut steps = Vec::new();
        if standing.is_none() {
            steps.push(Step::Create);
        }
        if !standing.is_some_and(|backstore| backstore.enabled) {
            steps.push(Step::Open);
        }
        let serial = serial(subject.what.id());
        if standing.is_none_or(|backstore| backstore.unit_serial != serial) {
            steps.push(Step::SetSerial(serial));
        }
        let discards = |backstore: &BackstoreState| {
            backstore.attributes.get(&DeviceAttribute::EmulateTpu) == Some(&1)
        };
        if !subject.what.is_only_read() && !standing.is_some_and(discards) {
            steps.push(Step::AllowDiscard);
        }
        // The kernel protects a LUN from commands that say they send data. A WRITE SAME that says
        // it reads would write.
        let refuses = |backstore: &BackstoreState| {
            backstore.enabled
                && backstore.attributes.get(&DeviceAttribute::MaxWriteSameLen) == Some(&0)
        };
        let only_read = subject.what.is_only_read() || subject.exports.is_read_only_disk();
        if only_read && !standing.is_some_and(refuses) {
            steps.push(Step::RefuseWriteSame);
        }
        steps
    }
}

impl Step {
    pub(super) fn run(&self, kernel: &Kernel, of: Exported) -> Result<Change, KernelError> {
        let backstore = handle(kernel.tree(), of.id());
        Ok(match self {
            Step::Remove => {
                let removed = backstore.remove()?;
                reservations::forget(kernel.tree(), &serial(of.id()));
                removed
            }
            Step::Create => backstore.create()?,
            Step::Open => {
                let node = kernel.node(&of.device())?;
                backstore.set_device(&node)?;
                if of.is_only_read() {
                    backstore.set_read_only(true)?;
                }
                backstore.enable()?
            }
            Step::SetSerial(serial) => {
                let set = backstore.set_unit_serial(serial)?;
                reservations::restore(kernel.tree(), &backstore, serial);
                set
            }
            Step::AllowDiscard => backstore.set_attribute(DeviceAttribute::EmulateTpu, 1)?,
            Step::RefuseWriteSame => {
                backstore.set_attribute(DeviceAttribute::MaxWriteSameLen, 0)?
            }
        })
    }

    /// What the kernel's refusal means to the caller.
    pub(super) fn meaning(&self, errno: Errno) -> FailureKind {
        match (self, errno) {
            // The directory is not there before its module is.
            (Step::Create, Errno::ENOENT | Errno::EINVAL) => FailureKind::Unsupported,
            (_, Errno::EBUSY | Errno::ENOTEMPTY) => FailureKind::InUse,
            _ => FailureKind::Kernel,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Remove => write!(f, "remove the backstore"),
            Step::Create => write!(f, "create the backstore"),
            Step::Open => write!(f, "open the device in the backstore"),
            Step::SetSerial(serial) => write!(f, "set the backstore's serial number to {serial}"),
            Step::AllowDiscard => write!(f, "allow discards on the backstore"),
            Step::RefuseWriteSame => write!(f, "refuse WRITE SAME on the backstore"),
        }
    }
}
