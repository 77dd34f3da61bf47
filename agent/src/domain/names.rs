//! Names of targets and subsystems. They follow from two ids that never change, so they are
//! the same after every reboot.

use ashlar_targetd_protocol::{Iqn, Nqn};
use uuid::Uuid;

const AUTHORITY: &str = "2026-11.io.ashlar";

/// The iSCSI target of a volume or a snapshot: `iqn.2026-11.io.ashlar:<box>:<its id>`. No volume
/// has the id of a snapshot.
pub fn target(site: Uuid, id: Uuid) -> Iqn {
    let name = format!("iqn.{AUTHORITY}:{}:{id}", short(site));
    name.parse()
        .expect("lower-case letters, digits, '-', '.' and ':' in 80 bytes")
}

/// The NVMe subsystem of a volume: `nqn.2026-11.io.ashlar:<box>:<volume id>`.
pub fn subsystem(site: Uuid, volume: Uuid) -> Nqn {
    let name = format!("nqn.{AUTHORITY}:{}:{volume}", short(site));
    name.parse()
        .expect("lower-case letters, digits, '-', '.' and ':' in 80 bytes")
}

/// The unit serial number of the iSCSI LUN of a volume or a snapshot.
pub fn serial(id: Uuid) -> String {
    id.simple().to_string()
}

/// Enough of the box's id to tell boxes apart in a listing.
fn short(site: Uuid) -> String {
    site.simple().to_string()[..8].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_the_ids_and_their_grammar() {
        let (site, volume) = (Uuid::max(), Uuid::nil());
        assert_eq!(
            target(site, volume).as_str(),
            "iqn.2026-11.io.ashlar:ffffffff:00000000-0000-0000-0000-000000000000"
        );
        assert_eq!(
            subsystem(site, volume).as_str(),
            "nqn.2026-11.io.ashlar:ffffffff:00000000-0000-0000-0000-000000000000"
        );
    }
}
