//! The ways volumes and snapshots are exported, one module each.
//!
//! A transport is one implementation of [`Transport`] and one line of the table below; the rest
//! of the daemon goes through [`Transports`]. Each keeps what its shared kernel objects need
//! (locks per portal address, per nvmet port, per host) and the names of the objects it made,
//! so that what a volume no longer wants is found without listing all there is.

mod backstore;
mod fc;
mod iscsi;
mod names;
mod nvme;
mod reservations;

use std::collections::BTreeSet;
use std::fmt;

use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_kernel_iface::dm::DmName;
use ashlar_kernel_iface::tree::{Change, Errno, Tree, TreeError};
use ashlar_targetd_protocol as protocol;
use ashlar_targetd_protocol::{
    Accesses, AddressState, Exports, Failure, FailureKind, PortalAddr, ServedAt, Unserved,
};
use uuid::Uuid;

use crate::kernel::{Kernel, KernelError};
use crate::ours;
use crate::refusal::Refusal;
use crate::steps::Refused;

/// What is exported. Nothing but its id goes into the names of what is made for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exported {
    /// A volume.
    Volume(Uuid),
    /// A snapshot: neither its device nor what is built on it takes writes.
    Snapshot(Uuid),
}

impl Exported {
    /// Its id.
    pub fn id(self) -> Uuid {
        match self {
            Exported::Volume(id) | Exported::Snapshot(id) => id,
        }
    }

    /// The name of its device.
    pub fn device(self) -> DmName {
        match self {
            Exported::Volume(id) => ours::volume_device(id),
            Exported::Snapshot(id) => ours::snapshot_device(id),
        }
    }

    /// Whether it is never written.
    pub fn is_only_read(self) -> bool {
        matches!(self, Exported::Snapshot(_))
    }
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exported::Volume(id) => write!(f, "volume {id}"),
            Exported::Snapshot(id) => write!(f, "snapshot {id}"),
        }
    }
}

/// What a transport has to know of what it exports.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// What it is.
    pub what: Exported,
    /// Its device, if that is active now; only then can anything rightly be built on it.
    pub device: Option<DeviceNumber>,
    /// Whether this plan makes the device larger.
    pub grows: bool,
    /// Those whom the caller agreed to cut off.
    pub cut: &'a Accesses,
    /// All that is desired of its exports: transports share what is beneath them.
    pub exports: &'a Exports,
}

/// What a listing of everything found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Volumes and snapshots that have an object of ours.
    pub volumes: BTreeSet<Uuid>,
    /// What is not ours, in words.
    pub foreign: Vec<String>,
}

/// What a transport does before and after the device is made, changed or removed.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportPlan<S> {
    /// What goes, before the device does.
    pub removals: Vec<S>,
    /// What goes too and does not hold the device, so that neither waits for the other.
    pub leftovers: Vec<S>,
    /// What comes, on an active device.
    pub additions: Vec<S>,
}

/// One way to export volumes. `check` and `plan` are pure.
pub trait Transport: Default + Send + Sync {
    /// What the agent wants.
    type Desired;
    /// What the kernel has.
    type Observed: Clone + fmt::Debug + Default;
    /// One change of the kernel.
    type Step: Clone + fmt::Debug + fmt::Display + PartialEq;

    /// Lists everything there is, and remembers what is ours: at start and on a whole lap only.
    fn survey(&self, tree: &dyn Tree) -> Result<Survey, TreeError>;

    /// Looks at everything of one volume or snapshot.
    fn observe(
        &self,
        tree: &dyn Tree,
        id: Uuid,
        desired: Option<&Self::Desired>,
    ) -> Result<Self::Observed, TreeError>;

    /// The transports of the protocol over which hosts can reach it.
    fn exported(observed: &Self::Observed) -> BTreeSet<protocol::Transport>;

    /// Whether the safety rules allow going from one to the other.
    fn check(
        subject: &Subject<'_>,
        observed: &Self::Observed,
        desired: Option<&Self::Desired>,
    ) -> Result<(), Refusal>;

    /// The steps from one to the other.
    fn plan(
        subject: &Subject<'_>,
        observed: &Self::Observed,
        desired: Option<&Self::Desired>,
    ) -> ExportPlan<Self::Step>;

    /// Takes one step.
    fn run(&self, step: &Self::Step, kernel: &Kernel, of: Exported) -> Result<Change, KernelError>;

    /// What the kernel's refusal of a step means to the caller.
    fn meaning(step: &Self::Step, errno: Errno) -> FailureKind;

    /// What of the kernel's a step needs, by its name among the features.
    fn needs(step: &Self::Step) -> Option<&'static str>;

    /// Where a step has hosts come to and nothing else. What cannot be had keeps nobody from the
    /// others.
    fn listens(_step: &Self::Step) -> Option<(protocol::Transport, ServedAt)> {
        None
    }

    /// Where it is to be served, over what.
    fn wanted(desired: &Self::Desired) -> Vec<(protocol::Transport, BTreeSet<ServedAt>)>;
}

macro_rules! transports {
    ($($variant:ident { field: $field:ident, implementation: $implementation:ty },)*) => {
        /// All transports.
        #[derive(Default)]
        pub struct Transports {
            $($field: $implementation,)*
        }

        /// What the kernel has of the exports of a volume or a snapshot.
        #[derive(Clone, Debug, Default)]
        pub struct ObservedExports {
            $($field: <$implementation as Transport>::Observed,)*
        }

        /// One change of one export.
        #[derive(Clone, Debug, PartialEq)]
        pub enum ExportStep {
            $(
                #[doc = concat!("Of the transport `", stringify!($field), "`.")]
                $variant(<$implementation as Transport>::Step),
            )*
        }

        impl Transports {
            /// Lists everything there is, and remembers what is ours.
            pub fn survey(&self, tree: &dyn Tree) -> Result<Survey, TreeError> {
                let mut all = Survey::default();
                $(
                    let one = self.$field.survey(tree)?;
                    all.volumes.extend(one.volumes);
                    all.foreign.extend(one.foreign);
                )*
                Ok(all)
            }

            /// Looks at everything of one volume or snapshot.
            pub fn observe(
                &self,
                tree: &dyn Tree,
                id: Uuid,
                desired: &Exports,
            ) -> Result<ObservedExports, TreeError> {
                Ok(ObservedExports {
                    $($field: self.$field.observe(tree, id, desired.$field.as_ref())?,)*
                })
            }

            /// Takes one step.
            pub fn run(
                &self,
                step: &ExportStep,
                kernel: &Kernel,
                of: Exported,
            ) -> Result<Change, KernelError> {
                match step {
                    $(ExportStep::$variant(step) => self.$field.run(step, kernel, of),)*
                }
            }
        }

        impl ObservedExports {
            /// The transports over which hosts can reach it.
            pub fn exported(&self) -> Vec<protocol::Transport> {
                let mut exported = BTreeSet::new();
                $(exported.extend(<$implementation>::exported(&self.$field));)*
                exported.into_iter().collect()
            }

            /// Whether the safety rules allow going to `desired`.
            pub fn check(&self, subject: &Subject<'_>, desired: &Exports) -> Result<(), Refusal> {
                $(<$implementation>::check(subject, &self.$field, desired.$field.as_ref())?;)*
                Ok(())
            }

            /// The steps to `desired`.
            pub fn plan(&self, subject: &Subject<'_>, desired: &Exports) -> ExportPlan<ExportStep> {
                let mut all = ExportPlan {
                    removals: Vec::new(),
                    leftovers: Vec::new(),
                    additions: Vec::new(),
                };
                $(
                    let one = <$implementation>::plan(
                        subject, &self.$field, desired.$field.as_ref(),
                    );
                    all.removals.extend(one.removals.into_iter().map(ExportStep::$variant));
                    all.leftovers.extend(one.leftovers.into_iter().map(ExportStep::$variant));
                    all.additions.extend(one.additions.into_iter().map(ExportStep::$variant));
                )*
                all
            }
        }

        /// Where something is to be served, over what.
        fn wanted(desired: &Exports) -> Vec<(protocol::Transport, BTreeSet<ServedAt>)> {
            let mut wanted = Vec::new();
            $(
                let of_one = desired.$field.as_ref().map(<$implementation>::wanted);
                wanted.extend(of_one.into_iter().flatten());
            )*
            wanted
        }

        impl ExportStep {
            /// What the kernel's refusal means to the caller.
            pub fn meaning(&self, errno: Errno) -> FailureKind {
                match self {
                    $(ExportStep::$variant(step) => <$implementation>::meaning(step, errno),)*
                }
            }
        }

        impl ExportStep {
            /// What of the kernel's it needs, by its name among the features.
            pub fn needs(&self) -> Option<&'static str> {
                match self {
                    $(ExportStep::$variant(step) => <$implementation>::needs(step),)*
                }
            }
        }

        impl ExportStep {
            /// Where it has hosts come to and nothing else.
            pub fn listens(&self) -> Option<(protocol::Transport, ServedAt)> {
                match self {
                    $(ExportStep::$variant(step) => <$implementation>::listens(step),)*
                }
            }
        }

        impl fmt::Display for ExportStep {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(ExportStep::$variant(step) => step.fmt(f),)*
                }
            }
        }
    };
}

transports! {
    Fc { field: fc, implementation: fc::Fc },
    Iscsi { field: iscsi, implementation: iscsi::Iscsi },
    Nvme { field: nvme, implementation: nvme::Nvme },
}

/// Where something is not served, when each of its transports is somewhere else.
///
/// # Errors
/// When nobody can reach it over one of them.
pub fn served_elsewhere(
    desired: &Exports,
    refused: Vec<Refused>,
) -> Result<Vec<Unserved>, Failure> {
    for (transport, places) in wanted(desired) {
        let lacks = |at: &ServedAt| {
            let of_it = |refused: &&Refused| refused.unserved.is(transport, *at);
            refused.iter().find(of_it)
        };
        if let Some(first) = places.iter().find_map(lacks)
            && places.iter().all(|at| lacks(at).is_some())
        {
            return Err(Failure::new(first.kind, first.unserved.message.clone()));
        }
    }
    Ok(refused
        .into_iter()
        .map(|refused| refused.unserved)
        .collect())
}

impl Transports {
    /// How an address is for a transport.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub fn try_address(
        &self,
        kernel: &Kernel,
        transport: protocol::Transport,
        at: PortalAddr,
    ) -> Result<AddressState, KernelError> {
        let ip = at.socket().ip();
        if !kernel.network.absent(&[ip].into())?.is_empty() {
            return Ok(AddressState::Absent);
        }
        let ours = match transport {
            // RDMA has port numbers of its own, and nothing to try them with. Fibre Channel has none.
            protocol::Transport::Iser
            | protocol::Transport::Fc
            | protocol::Transport::NvmeRdma
            | protocol::Transport::NvmeFc => true,
            protocol::Transport::Iscsi => self.iscsi.keeps_open(kernel.tree(), at)?,
            protocol::Transport::NvmeTcp => nvme::publishes_at(kernel.tree(), at)?,
        };
        match kernel.network.try_listen(at.socket()) {
            Err(Errno::EADDRINUSE) if !ours => Ok(AddressState::Taken),
            // An IPv6 address is there before it may be used.
            Err(Errno::EADDRNOTAVAIL) if !ours => Ok(AddressState::Absent),
            // A port below 1024, say: only listening tells.
            Ok(()) | Err(_) => Ok(AddressState::Usable),
        }
    }

    /// Lets go of an iSCSI address.
    ///
    /// # Errors
    /// When the kernel does not.
    pub fn release(&self, kernel: &Kernel, at: PortalAddr) -> Result<(), KernelError> {
        Ok(self.iscsi.release(kernel.tree(), at)?)
    }
}
