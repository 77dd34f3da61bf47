//! ACLs, CHAP and mapped LUNs.

use crate::model::ModelState;
use crate::model::attribute::{c_string, number};
use crate::model::configfs::NodeId;
use crate::model::kind::Kind;
use crate::tree::Errno;

/// Room for each CHAP name and secret, with a terminating NUL.
const CHAP_ROOM: usize = 256;

pub(in crate::model) fn lun_number(name: &str) -> Result<u64, Errno> {
    let digits = name.strip_prefix("lun_").ok_or(Errno::EINVAL)?;
    number(digits, u64::MAX)
}

pub(in crate::model) fn link_lun(
    state: &mut ModelState,
    mapped: NodeId,
    target: NodeId,
) -> Result<(), Errno> {
    let lun = state.nodes.node(target);
    if lun.kind != Kind::Lun {
        return Err(Errno::EFAULT);
    }
    let same_group = state.nodes.ancestor(mapped, 3) == state.nodes.ancestor(target, 2);
    if lun.links.is_empty() || !same_group {
        return Err(Errno::EINVAL);
    }
    if state.nodes.node(mapped).notes.contains_key("access") {
        return Err(Errno::EINVAL);
    }
    let tpg = state.nodes.ancestor(target, 2);
    let protected = match state.nodes.node(tpg).kind {
        _ if only_read(state, target) => "1".to_owned(),
        Kind::Tpg => {
            let attrib = state.nodes.group(tpg, "attrib");
            let at_first = state.nodes.value(attrib, "prod_mode_write_protect");
            at_first.to_owned()
        }
        // Fibre Channel has no such attribute.
        _ => "0".to_owned(),
    };
    let notes = &mut state.nodes.node_mut(mapped).notes;
    notes.insert("access", protected);
    Ok(())
}

/// Whether a LUN's backstore opened its device for reading only.
fn only_read(state: &ModelState, lun: NodeId) -> bool {
    let mut backstores = state.nodes.node(lun).links.values();
    backstores.any(|backstore| {
        let notes = &state.nodes.node(*backstore).notes;
        notes.get("readonly").is_some_and(|value| value != "0")
    })
}

/// Names and secrets are kept as written, a newline too; `NULL` at their start means none.
pub(in crate::model) fn store_auth(
    state: &mut ModelState,
    id: NodeId,
    file: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let of_acl = state.nodes.node(state.nodes.ancestor(id, 1)).kind == Kind::Acl;
    if of_acl && text.len() >= CHAP_ROOM {
        return Err(Errno::EINVAL);
    }
    let kept: String = c_string(text).chars().take(CHAP_ROOM - 1).collect();
    state.nodes.set_value(id, file, kept);
    let set = |file| is_set(state.nodes.value(id, file));
    let mutual = set("userid_mutual") && set("password_mutual");
    let mutual = u32::from(mutual).to_string();
    state.nodes.set_value(id, "authenticate_target", mutual);
    Ok(())
}

/// Whether a CHAP name or secret counts as set.
pub(in crate::model) fn is_set(text: &str) -> bool {
    !text.is_empty() && !text.starts_with("NULL")
}

pub(in crate::model) fn store_acl_attribute(
    state: &mut ModelState,
    id: NodeId,
    file: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let value = match (file, text.trim_end_matches('\n')) {
        ("authentication", "-1") => "-1".to_owned(),
        ("authentication", _) => match number(text, u64::from(u32::MAX))? {
            value @ (0 | 1) => value.to_string(),
            _ => return Err(Errno::EINVAL),
        },
        // Zero means never.
        _ => match number(text, u64::from(u32::MAX))? {
            value @ (0 | 3..=60) => value.to_string(),
            _ => return Err(Errno::EINVAL),
        },
    };
    state.nodes.set_value(id, file, value);
    Ok(())
}

pub(in crate::model) fn store_write_protect(
    state: &mut ModelState,
    id: NodeId,
    text: &str,
) -> Result<(), Errno> {
    let value = number(text, u64::MAX)?;
    if value > 1 {
        return Err(Errno::EINVAL);
    }
    // Without a linked LUN there is nothing to keep it in, and the kernel says nothing.
    if let Some(access) = state.nodes.node_mut(id).notes.get_mut("access") {
        *access = value.to_string();
    }
    Ok(())
}

/// A LUN that loses its backstore takes access from every initiator that saw it, although their
/// links stay.
pub(in crate::model) fn blind(state: &mut ModelState, lun: NodeId) {
    let mapped = state.nodes.of_kind(Kind::MappedLun);
    let blinded: Vec<NodeId> = mapped
        .filter(|(_, node)| node.links.values().any(|target| *target == lun))
        .map(|(id, _)| id)
        .collect();
    for mapped in blinded {
        state.nodes.node_mut(mapped).notes.remove("access");
    }
}
