//! What directories, values and links mean below `target/`.

mod acl;
pub(super) mod attributes;
mod backstore;
mod device_attribute;
mod fc;
mod tpg;

use super::attribute::{line, number};
use super::configfs::NodeId;
use super::kind::Kind;
use super::{ModelState, Module};
use crate::tree::Errno;

pub(super) use acl::is_set;
use acl::{link_lun, lun_number, store_acl_attribute, store_auth, store_write_protect};
use backstore::{
    backstore_info, link_backstore, make_hba, store_backstore, store_registration, store_wwn,
};
use device_attribute::store_device_attribute;
use tpg::{close_portal, make_portal, store_iser, store_parameter, store_tpg, store_tpg_attribute};

/// Longest name of an iSCSI target.
const IQN_MAX: usize = 223;

/// Which directories may hold links.
pub(super) fn links(kind: Kind) -> bool {
    matches!(kind, Kind::Lun | Kind::MappedLun)
}

/// What a new directory would be.
pub(super) fn make(state: &mut ModelState, parent: NodeId, name: &str) -> Result<Kind, Errno> {
    match state.nodes.node(parent).kind {
        Kind::Target => {
            let (module, kind) = match name {
                "iscsi" => (Module::IscsiTarget, Kind::Iscsi),
                "fc" => (Module::TcmFc, Kind::Fc),
                "qla2xxx" => (Module::TcmQla2xxx, Kind::Qla2xxx),
                _ => return Err(Errno::EINVAL),
            };
            let known = state.has_module(module);
            known.then_some(kind).ok_or(Errno::EINVAL)
        }
        Kind::Core => make_hba(state, name),
        Kind::Hba => Ok(Kind::Backstore),
        Kind::BackstoreAlua => Ok(Kind::Inert),
        Kind::Iscsi if name.len() > IQN_MAX => Err(Errno::EINVAL),
        Kind::Iscsi => Ok(Kind::IscsiTarget),
        Kind::IscsiTarget => {
            let (_, tag) = name.split_once("tpgt_").ok_or(Errno::EINVAL)?;
            number(tag, 65_535).map_err(|_| Errno::EINVAL)?;
            Ok(Kind::Tpg)
        }
        Kind::Portals => make_portal(state, parent, name),
        Kind::Luns => lun_number(name).map(|_| Kind::Lun),
        Kind::Acls => Ok(Kind::Acl),
        Kind::Acl | Kind::FcAcl => lun_number(name).map(|_| Kind::MappedLun),
        Kind::Fc | Kind::Qla2xxx | Kind::FcTarget | Kind::Qla2xxxTarget | Kind::FcAcls => {
            fc::make(state, parent, name)
        }
        _ => Err(Errno::EPERM),
    }
}

/// What a new object remembers from the start.
pub(super) fn made(state: &mut ModelState, id: NodeId) {
    if state.nodes.node(id).kind == Kind::Acl {
        let tpg = state.nodes.ancestor(id, 2);
        let attrib = state.nodes.group(tpg, "attrib");
        let depth = state.nodes.value(attrib, "default_cmdsn_depth").to_owned();
        state.nodes.set_value(id, "cmdsn_depth", depth);
    }
}

/// What goes with an object.
pub(super) fn released(state: &mut ModelState, id: NodeId) {
    let node = state.nodes.node(id);
    match node.kind {
        Kind::Backstore => {
            if let Some(device) = node.device {
                state.devices.close_exclusive(device);
            }
        }
        Kind::Portal => close_portal(state, id),
        _ => {}
    }
}

pub(super) fn allow_link(
    state: &mut ModelState,
    parent: NodeId,
    target: NodeId,
) -> Result<(), Errno> {
    match state.nodes.node(parent).kind {
        Kind::Lun => link_backstore(state, parent, target),
        _ => link_lun(state, parent, target),
    }
}

pub(super) fn drop_link(state: &mut ModelState, parent: NodeId, _target: NodeId) {
    if state.nodes.node(parent).kind == Kind::MappedLun {
        state.nodes.node_mut(parent).notes.remove("access");
        return;
    }
    acl::blind(state, parent);
}

/// What an attribute reads as.
pub(super) fn show(state: &ModelState, id: NodeId, file: &str) -> Result<String, Errno> {
    let node = state.nodes.node(id);
    match (node.kind, file) {
        (Kind::Target, "dbroot") => Ok(state.dbroot.clone()),
        (Kind::Backstore, "info") => Ok(backstore_info(state, id)),
        (Kind::BackstoreWwn, "vpd_unit_serial") => {
            let serial = state.nodes.value(id, "vpd_unit_serial");
            let line = format!("T10 VPD Unit Serial Number: {serial}");
            Ok(line.trim_end().to_owned())
        }
        (Kind::Lun, _) if node.links.is_empty() => Err(Errno::ENODEV),
        (Kind::Acl, "info") => Ok(match node.notes.get("session") {
            Some(session) => format!("InitiatorName: {session}"),
            None => format!(
                "No active iSCSI Session for Initiator Endpoint: {}",
                node.name
            ),
        }),
        (Kind::MappedLun, _) => Ok(node.notes.get("access").cloned().unwrap_or_default()),
        _ => Ok(state.nodes.value(id, file).to_owned()),
    }
}

/// What a write does, for attributes whose rule needs to know more than the text.
pub(super) fn store(
    state: &mut ModelState,
    id: NodeId,
    file: &'static str,
    text: &str,
) -> Result<(), Errno> {
    match state.nodes.node(id).kind {
        Kind::Target => store_dbroot(state, text),
        Kind::Hba => Err(Errno::EINVAL),
        Kind::Backstore => store_backstore(state, id, file, text),
        Kind::BackstoreAttrib => store_device_attribute(state, id, file, text),
        Kind::BackstoreWwn => store_wwn(state, id, file, text),
        Kind::BackstorePr => store_registration(state, id, file, text),
        Kind::Auth | Kind::DiscoveryAuth => store_auth(state, id, file, text),
        Kind::Tpg | Kind::FcTpg | Kind::Qla2xxxTpg => store_tpg(state, id, file, text),
        Kind::TpgAttrib => store_tpg_attribute(state, id, file, text),
        Kind::TpgParam => store_parameter(state, id, file, text),
        Kind::Portal if file == "iser" => store_iser(state, id, text),
        Kind::AclAttrib => store_acl_attribute(state, id, file, text),
        Kind::MappedLun => store_write_protect(state, id, text),
        Kind::Lun if state.nodes.node(id).links.is_empty() => Err(Errno::ENODEV),
        _ => {
            state.nodes.set_value(id, file, line(text));
            Ok(())
        }
    }
}

/// The kernel copies as many bytes as were written over what was there: without a newline, which
/// it turns into the terminating NUL, the end of a longer former value stays.
fn store_dbroot(state: &mut ModelState, text: &str) -> Result<(), Errno> {
    if state.nodes.of_kind(Kind::Backstore).next().is_some() {
        return Err(Errno::EINVAL);
    }
    let directory = line(text);
    if !directory.starts_with('/') || state.lost_directories.contains(directory) {
        return Err(Errno::ENOENT);
    }
    let rest = match text.ends_with('\n') {
        true => "",
        false => state.dbroot.get(directory.len()..).unwrap_or_default(),
    };
    state.dbroot = format!("{directory}{rest}");
    Ok(())
}
