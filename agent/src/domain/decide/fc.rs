//! By which numbers volumes are reached over Fibre Channel.
//!
//! A port of the box is one target for all its volumes. There, what is connected has one number,
//! which no host sees; and each host sees it by one of its own, the lowest that is free, as hosts
//! look for low ones.

use ashlar_protocol::{ConnectionSpec, Lun, ObjectRef, Problem, ProblemCode};

use super::refuse;
use crate::domain::intent::Intent;
use crate::domain::record::FcPlace;

/// The numbers of a connection that comes.
pub(super) fn place(
    intent: &Intent,
    object: ObjectRef,
    spec: &ConnectionSpec,
) -> Result<FcPlace, Problem> {
    let others = intent.connections_of(spec.of, None);
    let mut known = others.filter_map(|(_, other)| other.fc);
    let unit = known.next().map(|place| place.unit);
    let full = |what: &str| {
        let detail = format!("{what} has no LUN left");
        refuse(ProblemCode::WrongState, object, detail)
    };
    let unit = unit
        .or_else(|| free_unit(intent))
        .ok_or_else(|| full("Fibre Channel"))?;
    let lun = first_gap(intent.fc_luns_of(spec.host));
    let lun = lun.ok_or_else(|| full(&format!("host {}", spec.host)))?;
    Ok(FcPlace { unit, lun })
}

/// One after the highest, found without looking at the others; when those are used up, one between.
fn free_unit(intent: &Intent) -> Option<Lun> {
    let after = match intent.fc_units().next_back() {
        Some(last) => u64::from(last) + 1,
        None => 0,
    };
    let after = Lun::try_from(after).ok();
    after.or_else(|| first_gap(intent.fc_units()))
}

/// The lowest number that is not among those, which are in order.
fn first_gap(taken: impl Iterator<Item = Lun>) -> Option<Lun> {
    let mut free = 0;
    for lun in taken.map(u64::from) {
        if lun > free {
            break;
        }
        free = lun + 1;
    }
    Lun::try_from(free).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_taken() {
        let gap = |taken: &[u64]| {
            let luns = taken.iter().map(|lun| Lun::try_from(*lun).unwrap());
            first_gap(luns).map(u64::from)
        };
        assert_eq!(gap(&[]), Some(0));
        assert_eq!(gap(&[1, 2]), Some(0));
        assert_eq!(gap(&[0, 0, 1, 3]), Some(2));
        let all: Vec<u64> = (0..=16_383).collect();
        assert_eq!(gap(&all), None);
    }
}
