//! The kernel objects of one volume over iSCSI.

use ashlar_kernel_iface::lio::{Backstore, BackstoreId, Lio, Target, Tpg, TpgAttribute};
use ashlar_kernel_iface::tree::{Change, Tree, TreeError};
use ashlar_targetd_protocol::{Iqn, IscsiAcl};
use uuid::Uuid;

use super::{ATTRIBUTES, lun, tag};

/// The kernel objects of one volume.
pub(super) struct Handle<'t> {
    lio: Lio<'t>,
    volume: Uuid,
}

impl<'t> Handle<'t> {
    pub(super) fn new(tree: &'t dyn Tree, volume: Uuid) -> Self {
        Handle {
            lio: Lio::new(tree),
            volume,
        }
    }

    pub(super) fn backstore(&self) -> Backstore<'t> {
        self.lio.backstore(&BackstoreId::for_volume(self.volume))
    }

    pub(super) fn target(&self, name: &Iqn) -> Target<'t> {
        self.lio.target(name)
    }

    pub(super) fn tpg(&self, name: &Iqn) -> Tpg<'t> {
        self.target(name).tpg(tag())
    }

    pub(super) fn create_target(&self, name: &Iqn) -> Result<Change, TreeError> {
        let target = self.target(name).create()?;
        Ok(target.or(self.tpg(name).create()?))
    }

    pub(super) fn remove_target(&self, name: &Iqn) -> Result<Change, TreeError> {
        let tpg = self.tpg(name).remove()?;
        Ok(tpg.or(self.target(name).remove()?))
    }

    pub(super) fn restrict(&self, name: &Iqn) -> Result<Change, TreeError> {
        let tpg = self.tpg(name);
        ATTRIBUTES
            .iter()
            .map(|(attribute, value)| tpg.set_attribute(*attribute, *value))
            .try_fold(Change::Unchanged, |sum, change| Ok(sum.or(change?)))
    }

    pub(super) fn create_lun(&self, name: &Iqn) -> Result<Change, TreeError> {
        let lun = self.tpg(name).lun(lun());
        let made = lun.create()?;
        Ok(made.or(lun.link(&self.backstore())?))
    }

    /// The credentials come before the LUN, so that there is nothing to see without them.
    pub(super) fn admit(
        &self,
        name: &Iqn,
        initiator: &Iqn,
        acl: &IscsiAcl,
    ) -> Result<Change, TreeError> {
        let tpg = self.tpg(name);
        let listed = tpg.acl(initiator);
        let mapped = listed.mapped_lun(lun());
        let mut change = listed.create()?;
        change = change.or(listed.set_chap(acl.chap.as_ref())?);
        change = change.or(listed.set_mutual_chap(acl.mutual.as_ref())?);
        change = change.or(listed.set_authentication(acl.chap.is_some())?);
        change = change.or(mapped.create()?);
        let at_first = |protected| {
            let attribute = TpgAttribute::ProdModeWriteProtect;
            tpg.set_attribute(attribute, i64::from(protected))
        };
        if acl.read_only {
            // Else the initiator could write between the link and what is set on it.
            change = change.or(at_first(true)?);
        }
        change = change.or(mapped.link(&tpg.lun(lun()))?);
        change = change.or(mapped.set_write_protected(acl.read_only)?);
        Ok(change.or(at_first(false)?))
    }

    pub(super) fn remove_acl(&self, name: &Iqn, initiator: &Iqn) -> Result<Change, TreeError> {
        let acl = self.tpg(name).acl(initiator);
        let mapped = acl.mapped_lun(lun()).remove()?;
        Ok(mapped.or(acl.remove()?))
    }
}
