//! Subsystems and hosts.

use crate::model::ModelState;
use crate::model::attribute::{Attribute, c_string, flag, line, number};
use crate::model::configfs::NodeId;
use crate::tree::Errno;

pub(in crate::model) fn subsystem_value(
    state: &ModelState,
    id: NodeId,
    attribute: &Attribute,
    text: &str,
) -> Result<String, Errno> {
    let cntlid = |file| number(state.nodes.value(id, file), 65_535);
    match attribute.file {
        "attr_allow_any_host" => {
            let any = flag(text)?;
            let hosts = state.nodes.group(id, "allowed_hosts");
            if any && !state.nodes.node(hosts).links.is_empty() {
                return Err(Errno::EINVAL);
            }
            Ok(u32::from(any).to_string())
        }
        "attr_cntlid_min" | "attr_cntlid_max" => {
            let value = scanned_number(text)?;
            let empty = match attribute.file {
                "attr_cntlid_min" => value > cntlid("attr_cntlid_max")?,
                _ => value < cntlid("attr_cntlid_min")?,
            };
            if value == 0 || empty {
                return Err(Errno::EINVAL);
            }
            Ok(value.to_string())
        }
        "attr_serial" => printable(text, 20),
        "attr_model" => printable(text, 40),
        "attr_firmware" => printable(text, 8),
        "attr_ieee_oui" => match number(text, u64::from(u32::MAX))? {
            oui if oui < 1 << 24 => Ok(format!("{oui:#08x}")),
            _ => Err(Errno::EINVAL),
        },
        "attr_version" => {
            let parts: Vec<&str> = line(text).split('.').collect();
            let numeric = parts.iter().all(|part| part.parse::<u16>().is_ok());
            let version = numeric && (2..=3).contains(&parts.len());
            version.then(|| parts.join(".")).ok_or(Errno::EINVAL)
        }
        _ => attribute.store.plain(text),
    }
}

pub(in crate::model) fn host_value(attribute: &Attribute, text: &str) -> Result<String, Errno> {
    if !matches!(attribute.file, "dhchap_key" | "dhchap_ctrl_key") {
        return attribute.store.plain(text);
    }
    let text = c_string(text);
    if text.is_empty() {
        return Ok(String::new());
    }
    // Nothing after the hash is looked at before a host connects.
    let hash = text
        .strip_prefix("DHHC-1:")
        .and_then(|rest| rest.split(':').next())
        .ok_or(Errno::EINVAL)?;
    match hash.parse::<u8>() {
        Ok(0..=3) => Ok(text.trim().to_owned()),
        _ => Err(Errno::EINVAL),
    }
}

/// `sscanf("%hu")`: the digits at the start, cut to 16 bits.
fn scanned_number(text: &str) -> Result<u64, Errno> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    let number: u64 = digits.parse().map_err(|_| Errno::EINVAL)?;
    Ok(number & 0xffff)
}

fn printable(text: &str, room: usize) -> Result<String, Errno> {
    let text = line(text);
    let ascii = text.bytes().all(|b| (0x20..=0x7e).contains(&b));
    let fits = !text.is_empty() && text.len() <= room;
    (ascii && fits)
        .then(|| text.to_owned())
        .ok_or(Errno::EINVAL)
}
