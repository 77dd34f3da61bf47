//! What keeps the making of portals apart from the restarts of their login threads.
//!
//! All portal groups that listen on one address share one socket and one login thread, and for RDMA
//! another two. Removing one of those portals, or disabling one of those portal groups, restarts the
//! thread; while that lasts the kernel does not find the shared socket, tries to open a second one
//! for a portal being made, and fails with EINVAL. Restarts do not hinder each other, and neither do
//! portals being made: so each address has a lock that restarts share and that making a portal
//! takes alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ashlar_targetd_protocol::PortalAddr;

use super::{Portal, Tpg};
use crate::tree::{Change, TreeError};

/// The locks of all addresses. One process has one of these, and makes portals, removes them and
/// disables portal groups only through it.
#[derive(Debug, Default)]
pub struct PortalGates {
    addresses: Mutex<BTreeMap<PortalAddr, Arc<RwLock<()>>>>,
}

impl PortalGates {
    /// [`Portal::create`], while no login thread of its address restarts.
    pub fn create(&self, portal: &Portal<'_>) -> Result<Change, TreeError> {
        let gate = self.gate(portal.address());
        // The lock guards no data, so a thread that panicked while holding it broke nothing.
        let _alone = gate.write().unwrap_or_else(PoisonError::into_inner);
        portal.create()
    }

    /// [`Portal::remove`], while no portal of its address is made.
    pub fn remove(&self, portal: &Portal<'_>) -> Result<Change, TreeError> {
        let gate = self.gate(portal.address());
        let _shared = gate.read().unwrap_or_else(PoisonError::into_inner);
        portal.remove()
    }

    /// [`Portal::open_iser`], while no login thread of its address restarts.
    pub fn open_iser(&self, portal: &Portal<'_>) -> Result<Change, TreeError> {
        let gate = self.gate(portal.address());
        let _alone = gate.write().unwrap_or_else(PoisonError::into_inner);
        portal.open_iser()
    }

    /// [`Portal::close_iser`], while no portal of its address is made.
    pub fn close_iser(&self, portal: &Portal<'_>) -> Result<Change, TreeError> {
        let gate = self.gate(portal.address());
        let _shared = gate.read().unwrap_or_else(PoisonError::into_inner);
        portal.close_iser()
    }

    /// [`Tpg::disable`], while no portal is made on an address it listens on.
    pub fn disable(&self, tpg: &Tpg<'_>) -> Result<Change, TreeError> {
        // In the order of the addresses, as every caller takes them.
        let gates: Vec<_> = tpg.portals()?.into_iter().map(|at| self.gate(at)).collect();
        let _shared: Vec<_> = gates
            .iter()
            .map(|gate| gate.read().unwrap_or_else(PoisonError::into_inner))
            .collect();
        tpg.disable()
    }

    fn gate(&self, address: PortalAddr) -> Arc<RwLock<()>> {
        let mut addresses = self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(addresses.entry(address).or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use zeroize::Zeroizing;

    use super::*;
    use crate::lio::Lio;
    use crate::model::ModelKernel;
    use crate::tree::{Entry, Tree, TreePath};

    /// A kernel that panics when a portal is made while another is being removed.
    struct Strict {
        kernel: ModelKernel,
        restarting: AtomicU32,
    }

    impl Tree for Strict {
        fn read(&self, path: &TreePath) -> Result<String, TreeError> {
            self.kernel.read(path)
        }
        fn read_secret(&self, path: &TreePath) -> Result<Zeroizing<String>, TreeError> {
            self.kernel.read_secret(path)
        }
        fn write(&self, path: &TreePath, value: &str) -> Result<(), TreeError> {
            self.kernel.write(path, value)
        }
        fn write_secret(&self, path: &TreePath, value: &str) -> Result<(), TreeError> {
            self.kernel.write_secret(path, value)
        }
        fn make_dir(&self, path: &TreePath) -> Result<(), TreeError> {
            assert_eq!(self.restarting.load(Ordering::SeqCst), 0, "making {path}");
            self.kernel.make_dir(path)
        }
        fn remove_dir(&self, path: &TreePath) -> Result<(), TreeError> {
            self.restarting.fetch_add(1, Ordering::SeqCst);
            (0..50).for_each(|_| std::thread::yield_now());
            let outcome = self.kernel.remove_dir(path);
            self.restarting.fetch_sub(1, Ordering::SeqCst);
            outcome
        }
        fn link(&self, path: &TreePath, target: &TreePath) -> Result<(), TreeError> {
            self.kernel.link(path, target)
        }
        fn unlink(&self, path: &TreePath) -> Result<(), TreeError> {
            self.kernel.unlink(path)
        }
        fn read_link(&self, path: &TreePath) -> Result<TreePath, TreeError> {
            self.kernel.read_link(path)
        }
        fn list(&self, path: &TreePath) -> Result<Vec<Entry>, TreeError> {
            self.kernel.list(path)
        }
        fn exists(&self, path: &TreePath) -> Result<bool, TreeError> {
            self.kernel.exists(path)
        }
    }

    #[test]
    fn no_portal_is_made_while_one_of_its_address_goes() {
        let tree = Strict {
            kernel: ModelKernel::new(),
            restarting: AtomicU32::new(0),
        };
        let (tree, gates) = (&tree, &PortalGates::default());
        let address = "10.0.0.1:3260".parse().unwrap();
        let _ = Lio::new(tree).register_iscsi().unwrap();
        let tpgs: Vec<_> = (0..8)
            .map(|n| {
                let iqn = format!("iqn.2026-11.io.ashlar:{n}").parse().unwrap();
                let target = Lio::new(tree).target(&iqn);
                let _ = target.create().unwrap();
                let tpg = target.tpg(1.try_into().unwrap());
                let _ = tpg.create().unwrap();
                tpg
            })
            .collect();
        std::thread::scope(|scope| {
            for tpg in &tpgs {
                scope.spawn(move || {
                    for _ in 0..20 {
                        let portal = tpg.portal(address);
                        assert_eq!(gates.create(&portal), Ok(Change::Changed));
                        assert_eq!(gates.disable(tpg), Ok(Change::Unchanged));
                        assert_eq!(gates.remove(&portal), Ok(Change::Changed));
                    }
                });
            }
        });
    }
}
