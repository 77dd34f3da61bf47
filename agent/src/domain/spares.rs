//! Which spare takes the place of which disk.

use std::collections::BTreeSet;

use ashlar_protocol::{DiskId, ReplaceSpec};
use ashlar_targetd_protocol::{DiskReport, MemberState, PoolReport};

use crate::domain::decide::fits_place;
use crate::domain::members;
use crate::domain::record::PoolRecord;

/// The disks of a pool that are not there, or of no use.
pub fn gone(pool: &PoolRecord, report: &PoolReport) -> BTreeSet<DiskId> {
    let members = members::members(pool, report).into_iter();
    let gone = members.filter(|member| is_gone(member.state));
    gone.map(|member| member.disk).collect()
}

fn is_gone(state: MemberState) -> bool {
    match state {
        MemberState::Failed | MemberState::Missing => true,
        MemberState::InSync | MemberState::Resyncing | MemberState::Rebuilding => false,
    }
}

/// What is to be asked for a pool of whose disks one has gone; nothing when none has, when its disks
/// are becoming others anyway, or when no spare can help. `waited` says of which disks it is time,
/// `useless` are spares that could not be had.
pub fn replacement(
    pool: &PoolRecord,
    report: &PoolReport,
    disks: &[DiskReport],
    waited: impl Fn(&DiskId) -> bool,
    useless: impl Fn(&DiskId) -> bool,
) -> Option<ReplaceSpec> {
    if pool.is_changing_disks() {
        return None;
    }
    let there = |spare: &&DiskId| {
        let disk = disks.iter().find(|disk| disk.id == **spare);
        disk.filter(|disk| !disk.in_use && disk.content.is_none() && !useless(spare))
    };
    let spares: Vec<&DiskReport> = pool
        .spares
        .iter()
        .filter_map(|spare| there(&spare))
        .collect();
    let members = members::members(pool, report);
    let gone = members
        .iter()
        .filter(|member| is_gone(member.state) && waited(&member.disk));
    let mut pairs = gone.filter_map(|member| {
        let place = pool.place_of(&member.disk)?;
        let by = spares.iter().find(|disk| fits_place(pool, place, disk))?;
        Some(ReplaceSpec {
            disk: member.disk.clone(),
            by: by.id.clone(),
            // What somebody has put on a spare is not ours.
            wipe: false,
        })
    });
    pairs.next()
}

/// What is wrong with the spares of a pool; nothing when each could take a place.
pub fn trouble(pool: &PoolRecord, disks: &[DiskReport]) -> Option<String> {
    let mut troubles =
        pool.spares
            .iter()
            .filter_map(|spare| match disks.iter().find(|disk| disk.id == *spare) {
                None => Some(format!("spare {spare} is not there")),
                Some(disk) if disk.in_use => Some(format!("spare {spare} is in use")),
                Some(DiskReport { content, .. }) => {
                    let holds = content.as_ref()?;
                    Some(format!("spare {spare} is not blank: it holds {holds}"))
                }
            });
    let first = troubles.next()?;
    Some(troubles.fold(first, |all, next| format!("{all}. {next}")))
}

#[cfg(test)]
mod tests {
    use ashlar_protocol::Redundancy;

    use super::*;
    use crate::domain::samples::*;
    use MemberState::{Failed, InSync, Missing, Rebuilding};

    /// A raid1 pool of two disks with these spares.
    fn world(spares: &[&str]) -> World {
        let mut world = World::redundant(Redundancy::Raid1, 2);
        world.does(spare(spares));
        world
    }

    /// Which disk is replaced by which, as its disks are.
    fn asked(world: &World, members: &[MemberState], useless: &str) -> Option<(String, String)> {
        let pool = &world.intent.pool(POOL).unwrap().record;
        let useless = |disk: &DiskId| disk.as_str() == useless;
        let seen = report(&[members]);
        let spec = replacement(pool, &seen, &world.disks, |_| true, useless)?;
        assert!(!spec.wipe);
        Some((spec.disk.to_string(), spec.by.to_string()))
    }

    fn pair(place: u32, by: u32) -> Option<(String, String)> {
        Some((format!("serial-DISK{place}"), format!("serial-DISK{by}")))
    }

    #[test]
    fn a_disk_that_has_gone_is_replaced_by_the_first_spare_that_can_be_had() {
        let mut world = world(&["serial-DISK3", "serial-DISK4"]);
        assert_eq!(asked(&world, &[InSync, Failed], ""), pair(1, 3));
        assert_eq!(asked(&world, &[Missing, InSync], ""), pair(0, 3));
        assert_eq!(
            asked(&world, &[Missing, InSync], "serial-DISK3"),
            pair(0, 4)
        );
        world.disks[3].content = Some("an ext4 file system".to_owned());
        assert_eq!(asked(&world, &[InSync, Failed], ""), pair(1, 4));
        world.disks[4].in_use = true;
        assert_eq!(asked(&world, &[InSync, Failed], ""), None);
        world.disks.remove(3);
        assert_eq!(asked(&world, &[InSync, Failed], ""), None);
    }

    #[test]
    fn what_is_rebuilt_or_changes_its_disks_takes_no_spare() {
        let mut world = world(&["serial-DISK3", "serial-DISK4"]);
        assert_eq!(asked(&world, &[InSync, InSync], ""), None);
        assert_eq!(asked(&world, &[InSync, Rebuilding], ""), None);
        world.does(replace(1, "serial-DISK3"));
        assert_eq!(asked(&world, &[InSync, Failed], ""), None);
    }

    #[test]
    fn no_disk_is_replaced_before_its_time() {
        let world = world(&["serial-DISK3"]);
        let pool = &world.intent.pool(POOL).unwrap().record;
        let seen = report(&[&[Missing, Failed]]);
        let second = |disk: &DiskId| disk.as_str() == "serial-DISK1";
        let by = |spec: Option<ReplaceSpec>| spec.map(|spec| spec.disk.to_string());
        let asked = replacement(pool, &seen, &world.disks, second, |_| false);
        assert_eq!(by(asked).as_deref(), Some("serial-DISK1"));
        let asked = replacement(pool, &seen, &world.disks, |_| false, |_| false);
        assert_eq!(asked, None);
    }

    #[test]
    fn a_spare_that_has_become_too_small_is_passed_over() {
        let mut world = world(&["serial-DISK3", "serial-DISK4"]);
        world.disks[3].size.0 /= 2;
        assert_eq!(asked(&world, &[InSync, Failed], ""), pair(1, 4));
    }

    #[test]
    fn spares_that_could_not_help_are_named() {
        let mut world = world(&["serial-DISK3", "serial-DISK4"]);
        let told = |world: &World| {
            let pool = &world.intent.pool(POOL).unwrap().record;
            trouble(pool, &world.disks).unwrap_or_default()
        };
        assert_eq!(told(&world), "");
        world.disks.remove(4);
        world.disks[3].content = Some("an ext4 file system".to_owned());
        assert_eq!(
            told(&world),
            "spare serial-DISK3 is not blank: it holds an ext4 file system. \
             spare serial-DISK4 is not there"
        );
    }
}
