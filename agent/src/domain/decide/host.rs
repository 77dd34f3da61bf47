//! Rules for hosts.

use ashlar_protocol::{
    Authentication, Connected, HostRotation, HostSecrets, HostSpec, ObjectKind, ObjectRef, Problem,
    ProblemCode,
};
use uuid::Uuid;

use super::{Facts, Verdict, check_online, connections, missing, refuse, taken};
use crate::domain::change::Edit;
use crate::domain::intent::Intent;
use crate::domain::record::{HostRecord, Key, Record, Unit};
use crate::domain::secrets::{Random, chap, dhchap, dhchap_checks, same_bytes};

/// Most Fibre Channel ports of one host. Each is listed at each port of the box.
const MAX_WWPNS: usize = 16;

pub(super) fn create(
    intent: &Intent,
    id: Uuid,
    spec: &HostSpec,
    generation: u64,
    random: &mut dyn Random,
) -> Result<Verdict, Problem> {
    let object = ObjectRef {
        kind: ObjectKind::Host,
        id,
    };
    if let Some(entry) = intent.host(id) {
        return match answers(&entry.record, spec) {
            true => Ok(Verdict::Already(None)),
            false => Err(taken(ObjectKind::Host, id)),
        };
    }
    check_names(intent, object, spec)?;
    check_secrets(object, spec.authentication, &spec.secrets)?;
    let mut record = HostRecord {
        name: spec.name.clone(),
        iqn: spec.iqn.clone(),
        nqn: spec.nqn.clone(),
        wwpns: spec.wwpns.clone(),
        authentication: spec.authentication,
        secrets: spec.secrets.clone(),
        generation,
        dhchap: spec.dhchap,
    };
    complete(id, &mut record, random);
    Ok(Verdict::Changed(
        vec![Edit::put(Record::Host(id, record))],
        None,
    ))
}

/// All secrets are new, so that none of those that were told before is told again.
pub(super) fn rotate(
    intent: &Intent,
    id: Uuid,
    spec: &HostRotation,
    generation: u64,
    facts: &Facts<'_>,
    random: &mut dyn Random,
) -> Result<Verdict, Problem> {
    let unit = Unit::Host(id);
    let before = intent
        .host(id)
        .ok_or_else(|| missing(ObjectKind::Host, id))?;
    let (connections, before) = (before.connections, &before.record);
    let authentication = spec.authentication.unwrap_or(before.authentication);
    check_secrets(unit.object(), authentication, &spec.secrets)?;
    if (before.authentication, authentication) == (Authentication::None, Authentication::None) {
        let detail = format!("{} has no secrets", unit.object());
        return Err(refuse(ProblemCode::WrongState, unit.object(), detail));
    }
    let mut record = HostRecord {
        authentication,
        secrets: spec.secrets.clone(),
        dhchap: spec.dhchap.unwrap_or(before.dhchap),
        generation,
        ..before.clone()
    };
    complete(id, &mut record, random);
    // What the box proved before, it goes on proving unless told to stop.
    if spec.authentication.is_none() {
        let old = &before.secrets;
        if old.chap_mutual.is_some() && record.secrets.chap_mutual.is_none() {
            record.secrets.chap_mutual = Some(chap(id, random));
        }
        if old.dhchap_controller.is_some() && record.secrets.dhchap_controller.is_none() {
            record.secrets.dhchap_controller = Some(dhchap(random));
        }
    }
    // Whoever gives them all need not be told any. And what has come to some volumes only is put
    // right by another rotation, not by waiting for one that perhaps never ends.
    if record.secrets != spec.secrets && (facts.settled)(unit) {
        check_reachable(intent, id, facts)?;
    }
    Ok(Verdict::Changed(
        vec![Edit::put(Record::Host(id, record))],
        (connections > 0).then_some(unit),
    ))
}

/// Whoever asks for new secrets is told them once the kernel has them everywhere.
fn check_reachable(intent: &Intent, id: Uuid, facts: &Facts<'_>) -> Result<(), Problem> {
    let object = Unit::Host(id).object();
    for (_, connection) in intent.connections_of_host(id) {
        let pool = match connection.of {
            Connected::Volume(id) => intent.volume(id).map(|volume| volume.record.pool),
            Connected::Snapshot(id) => intent.snapshot(id).map(|snapshot| snapshot.pool),
        };
        if let Some(pool) = pool {
            check_online(object, pool, facts)?;
        }
        let unit = Unit::of(connection.of);
        if let Some(trouble) = (facts.trouble)(unit) {
            let detail = format!("{} is not up to date: {}", unit.object(), trouble.detail);
            return Err(refuse(ProblemCode::WrongState, object, detail));
        }
    }
    Ok(())
}

pub(super) fn delete(intent: &Intent, id: Uuid) -> Result<Verdict, Problem> {
    let entry = intent
        .host(id)
        .ok_or_else(|| missing(ObjectKind::Host, id))?;
    if entry.connections > 0 {
        let object = ObjectRef {
            kind: ObjectKind::Host,
            id,
        };
        let detail = format!("{object} has {}", connections(entry.connections));
        return Err(refuse(ProblemCode::InUse, object, detail));
    }
    Ok(Verdict::Changed(vec![Edit::Remove(Key::Host(id))], None))
}

/// Whether a host is as asked for. Secrets that were not given may be anything.
fn answers(host: &HostRecord, spec: &HostSpec) -> bool {
    fn given<T: PartialEq>(asked: &Option<T>, there: &Option<T>) -> bool {
        asked.is_none() || asked == there
    }
    let (asked, there) = (&spec.secrets, &host.secrets);
    host.name == spec.name
        && host.iqn == spec.iqn
        && host.nqn == spec.nqn
        && host.wwpns == spec.wwpns
        && host.authentication == spec.authentication
        && host.dhchap == spec.dhchap
        && given(&asked.chap, &there.chap)
        && given(&asked.chap_mutual, &there.chap_mutual)
        && given(&asked.dhchap, &there.dhchap)
        && given(&asked.dhchap_controller, &there.dhchap_controller)
}

fn check_names(intent: &Intent, object: ObjectRef, spec: &HostSpec) -> Result<(), Problem> {
    if spec.iqn.is_none() && spec.nqn.is_none() && spec.wwpns.is_empty() {
        let detail = "a host has an iSCSI name, an NVMe name or names of Fibre Channel ports";
        return Err(refuse(ProblemCode::InvalidField, object, detail));
    }
    if spec.wwpns.len() > MAX_WWPNS {
        let detail = format!("a host has at most {MAX_WWPNS} Fibre Channel ports");
        return Err(refuse(ProblemCode::InvalidField, object, detail));
    }
    let iqn = spec
        .iqn
        .as_ref()
        .and_then(|iqn| Some((iqn.to_string(), intent.host_of_iqn(iqn)?)));
    let nqn = spec
        .nqn
        .as_ref()
        .and_then(|nqn| Some((nqn.to_string(), intent.host_of_nqn(nqn)?)));
    let mut wwpns = spec.wwpns.iter();
    let wwpn = wwpns.find_map(|wwpn| Some((wwpn.to_string(), intent.host_of_wwpn(*wwpn)?)));
    match iqn.or(nqn).or(wwpn) {
        Some((name, owner)) => {
            let detail = format!("{name} is host {owner}");
            Err(refuse(ProblemCode::Duplicate, object, detail))
        }
        None => Ok(()),
    }
}

fn check_secrets(
    object: ObjectRef,
    authentication: Authentication,
    secrets: &HostSecrets,
) -> Result<(), Problem> {
    let invalid = |detail: &str| Err(refuse(ProblemCode::InvalidField, object, detail));
    if authentication == Authentication::None && *secrets != HostSecrets::default() {
        return invalid("a host without authentication has no secrets");
    }
    for key in [&secrets.dhchap, &secrets.dhchap_controller]
        .into_iter()
        .flatten()
    {
        if !dhchap_checks(key) {
            return invalid("a DH-HMAC-CHAP key does not carry its own CRC-32");
        }
    }
    let proofs = (&secrets.chap, &secrets.chap_mutual);
    if matches!(proofs, (Some(one), Some(other)) if one.secret == other.secret) {
        return invalid("CHAP and mutual CHAP take different secrets");
    }
    let keys = (&secrets.dhchap, &secrets.dhchap_controller);
    if matches!(keys, (Some(one), Some(other)) if same_bytes(one, other)) {
        return invalid("host and controller take different DH-HMAC-CHAP keys");
    }
    Ok(())
}

/// Adds the secrets that are needed besides those given.
pub(crate) fn complete(id: Uuid, host: &mut HostRecord, random: &mut dyn Random) {
    let mutual = match host.authentication {
        Authentication::None => return,
        Authentication::Required => false,
        Authentication::Mutual => true,
    };
    let secrets = &mut host.secrets;
    if host.iqn.is_some() {
        secrets.chap.get_or_insert_with(|| chap(id, random));
        if mutual {
            secrets.chap_mutual.get_or_insert_with(|| chap(id, random));
        }
    }
    if host.nqn.is_some() {
        secrets.dhchap.get_or_insert_with(|| dhchap(random));
        if mutual {
            secrets
                .dhchap_controller
                .get_or_insert_with(|| dhchap(random));
        }
    }
}
