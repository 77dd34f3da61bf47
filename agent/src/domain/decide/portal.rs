//! Rules for portals.

use std::collections::BTreeSet;

use ashlar_protocol::{
    ObjectKind, ObjectRef, PortalAddr, PortalSpec, Problem, ProblemCode, Transport,
};
use ashlar_targetd_protocol::AddressState;
use uuid::Uuid;

use super::{Facts, Verdict, busy, connections, missing, refuse, taken};
use crate::domain::change::Edit;
use crate::domain::intent::Intent;
use crate::domain::portals::{MAX_PORTALS, collide, configured};
use crate::domain::record::{ConnectionPhase, PortalPhase, PortalRecord, Record, Unit};
use crate::domain::site::give_port;

pub(super) fn create(
    intent: &Intent,
    id: Uuid,
    spec: &PortalSpec,
    generation: u64,
    facts: &Facts<'_>,
) -> Result<Verdict, Problem> {
    let unit = Unit::Portal(id);
    if let Some(there) = intent.portal(id) {
        return match there.phase {
            _ if there.spec != *spec => Err(taken(ObjectKind::Portal, id)),
            PortalPhase::Present => Ok(Verdict::Already(Some(unit))),
            PortalPhase::Removing => Err(busy(ObjectKind::Portal, id, "removed")),
        };
    }
    let object = unit.object();
    if matches!(spec.transport, Transport::Fc | Transport::NvmeFc) {
        let detail = format!(
            "{} is served at ports of the box's own, which its configuration names",
            spec.transport
        );
        return Err(refuse(ProblemCode::InvalidField, object, detail));
    }
    check_apart(intent, object, spec, facts)?;
    check_usual(intent, object, spec, facts)?;
    check_free(object, spec, facts)?;
    let mut site = intent
        .site()
        .cloned()
        .ok_or_else(|| missing(ObjectKind::System, facts.site.id))?;
    site.managed.insert(spec.transport);
    site.shut.remove(&spec.transport);
    if !give_port(&mut site, spec.transport, spec.address) {
        let detail = "no port number is left";
        return Err(refuse(ProblemCode::WrongState, object, detail));
    }
    let record = PortalRecord {
        spec: *spec,
        phase: PortalPhase::Present,
        generation,
    };
    let edits = vec![
        Edit::put(Record::Box(site)),
        Edit::put(Record::Portal(id, record)),
    ];
    Ok(Verdict::Changed(edits, Some(unit)))
}

/// Whether no other portal is where it is to be, and there are not too many.
fn check_apart(
    intent: &Intent,
    object: ObjectRef,
    spec: &PortalSpec,
    facts: &Facts<'_>,
) -> Result<(), Problem> {
    let usual = |transport| facts.site.listen(transport).usual && transport == spec.transport;
    let of_file = configured(facts.site, intent).into_iter();
    let asked = intent.portals().iter();
    let asked = asked.map(|(id, portal)| (*id, portal.spec.transport, portal.spec.address));
    // It takes the place of the usual one.
    let others = of_file.filter(|(_, transport, _)| !usual(*transport));
    let others: Vec<_> = others.chain(asked).collect();
    let of_it = others.iter().filter(|(_, of, _)| *of == spec.transport);
    if of_it.count() >= MAX_PORTALS {
        let detail = format!("{} has {MAX_PORTALS} portals, the most", spec.transport);
        return Err(refuse(ProblemCode::WrongState, object, detail));
    }
    let there = others
        .iter()
        .find(|(_, transport, at)| collide((*transport, *at), (spec.transport, spec.address)));
    match there {
        Some((id, transport, at)) => {
            let detail = format!(
                "portal {id} is {transport} at {at}, beside which there can be no {} at {}",
                spec.transport, spec.address
            );
            Err(refuse(ProblemCode::Duplicate, object, detail))
        }
        None => Ok(()),
    }
}

/// The first portal takes the place of the usual address, so nobody may be using that.
fn check_usual(
    intent: &Intent,
    object: ObjectRef,
    spec: &PortalSpec,
    facts: &Facts<'_>,
) -> Result<(), Problem> {
    let transport = spec.transport;
    let usual = facts.site.listen(transport);
    let said = intent
        .site()
        .is_some_and(|site| site.managed.contains(&transport));
    if said || !usual.usual {
        return Ok(());
    }
    match connected_over(intent, transport) {
        (0, _) => Ok(()),
        (count, first) => {
            let at = listed(usual.portals.iter());
            let detail = format!(
                "the first portal of {transport} takes the place of {at}, at which there is {}, \
                 first that of {first}: detach them before, or name {at} in the configuration file",
                connections(count)
            );
            Err(refuse(ProblemCode::InUse, object, detail))
        }
    }
}

fn check_free(object: ObjectRef, spec: &PortalSpec, facts: &Facts<'_>) -> Result<(), Problem> {
    match facts.address {
        Some(AddressState::Taken) => {
            let detail = format!("something else on this box listens at {}", spec.address);
            Err(refuse(ProblemCode::InUse, object, detail))
        }
        Some(AddressState::Usable | AddressState::Absent) | None => Ok(()),
    }
}

pub(super) fn delete(
    intent: &Intent,
    id: Uuid,
    force: bool,
    generation: u64,
    facts: &Facts<'_>,
) -> Result<Verdict, Problem> {
    let unit = Unit::Portal(id);
    let of_file = configured(facts.site, intent);
    if let Some((_, transport, at)) = of_file.into_iter().find(|(of, ..)| *of == id) {
        let detail = format!("{transport} at {at} is for the configuration file to change");
        return Err(refuse(ProblemCode::WrongState, unit.object(), detail));
    }
    let there = intent
        .portal(id)
        .ok_or_else(|| missing(ObjectKind::Portal, id))?;
    if there.phase == PortalPhase::Removing {
        return Ok(Verdict::Underway(unit));
    }
    let PortalSpec { transport, address } = there.spec;
    let mut left = facts.site.as_of(intent).listen(transport).portals.clone();
    left.remove(&address);
    if !force {
        check_served(intent, unit.object(), there.spec, &left, facts)?;
    }
    let record = PortalRecord {
        phase: PortalPhase::Removing,
        generation,
        ..*there
    };
    let mut edits = vec![Edit::put(Record::Portal(id, record))];
    if let (true, true, Some(site)) = (left.is_empty(), force, intent.site()) {
        let mut site = site.clone();
        site.shut.insert(transport);
        edits.push(Edit::put(Record::Box(site)));
    }
    Ok(Verdict::Changed(edits, Some(unit)))
}

/// Whether hosts that are connected keep a portal that serves.
fn check_served(
    intent: &Intent,
    object: ObjectRef,
    goes: PortalSpec,
    left: &BTreeSet<PortalAddr>,
    facts: &Facts<'_>,
) -> Result<(), Problem> {
    let PortalSpec { transport, address } = goes;
    let serves = |at: PortalAddr| !(facts.lacking)(transport, at);
    // One that serves nobody is no loss, as long as there is one that may.
    if left.iter().any(|at| serves(*at)) || !(left.is_empty() || serves(address)) {
        return Ok(());
    }
    match connected_over(intent, transport) {
        (0, _) => Ok(()),
        (count, first) => {
            let last = match left.is_empty() {
                true => format!("the last of {transport}"),
                false => format!("the last of {transport} that serves"),
            };
            let detail = format!(
                "{object} is {last}, over which there is {}, first that of {first}",
                connections(count)
            );
            Err(refuse(ProblemCode::InUse, object, detail))
        }
    }
}

/// How many connections there are over a transport, and what the first is of.
fn connected_over(intent: &Intent, transport: Transport) -> (u64, String) {
    let all = intent.connections().values();
    let mut over = all.filter(|connection| {
        connection.transport == transport && connection.phase == ConnectionPhase::Wanted
    });
    match over.next() {
        Some(first) => {
            let what = format!("{} to host {}", first.of, first.host);
            (over.count() as u64 + 1, what)
        }
        None => (0, String::new()),
    }
}

fn listed<'a>(addresses: impl Iterator<Item = &'a PortalAddr>) -> String {
    let all: Vec<String> = addresses.map(ToString::to_string).collect();
    all.join(", ")
}
