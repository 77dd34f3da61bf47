//! Attributes of a backstore whose rule needs to know more than the text.

use crate::model::ModelState;
use crate::model::attribute::{flag, number};
use crate::model::configfs::NodeId;
use crate::tree::Errno;

pub(in crate::model) fn store_device_attribute(
    state: &mut ModelState,
    id: NodeId,
    file: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let backstore = state.nodes.ancestor(id, 1);
    let exported = state.nodes.node(backstore).linked > 0;
    let value = match file {
        "emulate_tpu" | "emulate_tpws" => {
            let on = flag(text)?;
            can_unmap(state, id, backstore, on)?;
            u64::from(on)
        }
        "unmap_zeroes_data" => {
            let on = flag(text)?;
            unless_exported(exported)?;
            can_unmap(state, id, backstore, on)?;
            u64::from(on)
        }
        "emulate_model_alias" => {
            unless_exported(exported)?;
            u64::from(flag(text)?)
        }
        "emulate_tas" | "force_pr_aptpl" => {
            let on = flag(text)?;
            unless_exported(exported)?;
            u64::from(on)
        }
        // The device has a cache or has not; only "no emulation" is accepted.
        "emulate_write_cache" => match flag(text)? {
            true => return Err(Errno::EINVAL),
            false => 0,
        },
        "emulate_rest_reord" => match flag(text)? {
            true => return Err(Errno::ENOSYS),
            false => 0,
        },
        "pgr_support" => u64::from(flag(text)?),
        "alua_support" => match flag(text)? {
            true => 1,
            false => return Err(Errno::ENOSYS),
        },
        "block_size" => {
            let size = number(text, u64::from(u32::MAX))?;
            unless_exported(exported)?;
            match size {
                512 | 1024 | 2048 | 4096 => size,
                _ => return Err(Errno::EINVAL),
            }
        }
        "queue_depth" | "optimal_sectors" => {
            let value = number(text, u64::from(u32::MAX))?;
            unless_exported(exported)?;
            let limit = if file == "queue_depth" {
                "hw_queue_depth"
            } else {
                "hw_max_sectors"
            };
            let limit = number(state.nodes.value(id, limit), u64::MAX)?;
            let least = u64::from(file == "queue_depth");
            if !(least..=limit).contains(&value) {
                return Err(Errno::EINVAL);
            }
            value
        }
        "emulate_ua_intlck_ctrl" => {
            let value = number(text, u64::from(u32::MAX))?;
            if value > 2 {
                return Err(Errno::EINVAL);
            }
            unless_exported(exported)?;
            value
        }
        // Deprecated or not offered by iblock: taken and ignored.
        _ => return Ok(()),
    };
    state.nodes.set_value(id, file, value.to_string());
    Ok(())
}

pub(in crate::model) fn unless_exported(exported: bool) -> Result<(), Errno> {
    if exported { Err(Errno::EINVAL) } else { Ok(()) }
}

/// Discards are offered only on an open device that has them.
fn can_unmap(state: &ModelState, attrib: NodeId, backstore: NodeId, on: bool) -> Result<(), Errno> {
    if !on || state.nodes.value(attrib, "max_unmap_block_desc_count") != "0" {
        return Ok(());
    }
    match state.nodes.node(backstore).device {
        None => Err(Errno::ENODEV),
        Some(_) => Err(Errno::ENOSYS),
    }
}
