//! Rules for hosts.

use ashlar_protocol::{
    Authentication, HostSecrets, HostSpec, ObjectKind, ObjectRef, Problem, ProblemCode,
};
use uuid::Uuid;

use super::{Verdict, connections, missing, refuse, taken};
use crate::domain::change::Edit;
use crate::domain::intent::Intent;
use crate::domain::record::{HostRecord, Key, Record};
use crate::domain::secrets::{Random, chap, dhchap, dhchap_checks};

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
    check_secrets(object, spec)?;
    let record = HostRecord {
        name: spec.name.clone(),
        iqn: spec.iqn.clone(),
        nqn: spec.nqn.clone(),
        authentication: spec.authentication,
        secrets: completed(id, spec, random),
        generation,
    };
    Ok(Verdict::Changed(
        vec![Edit::put(Record::Host(id, record))],
        None,
    ))
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
        && host.authentication == spec.authentication
        && given(&asked.chap, &there.chap)
        && given(&asked.chap_mutual, &there.chap_mutual)
        && given(&asked.dhchap, &there.dhchap)
        && given(&asked.dhchap_controller, &there.dhchap_controller)
}

fn check_names(intent: &Intent, object: ObjectRef, spec: &HostSpec) -> Result<(), Problem> {
    if spec.iqn.is_none() && spec.nqn.is_none() {
        let detail = "a host has an iSCSI name, an NVMe name or both";
        return Err(refuse(ProblemCode::InvalidField, object, detail));
    }
    let iqn = spec
        .iqn
        .as_ref()
        .and_then(|iqn| Some((iqn.as_str(), intent.host_of_iqn(iqn)?)));
    let nqn = spec
        .nqn
        .as_ref()
        .and_then(|nqn| Some((nqn.as_str(), intent.host_of_nqn(nqn)?)));
    match iqn.or(nqn) {
        Some((name, owner)) => {
            let detail = format!("{name} is host {owner}");
            Err(refuse(ProblemCode::Duplicate, object, detail))
        }
        None => Ok(()),
    }
}

fn check_secrets(object: ObjectRef, spec: &HostSpec) -> Result<(), Problem> {
    let secrets = &spec.secrets;
    let invalid = |detail: &str| Err(refuse(ProblemCode::InvalidField, object, detail));
    if spec.authentication == Authentication::None && *secrets != HostSecrets::default() {
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
    Ok(())
}

/// The secrets given, and those that are needed besides.
fn completed(id: Uuid, spec: &HostSpec, random: &mut dyn Random) -> HostSecrets {
    let mut secrets = spec.secrets.clone();
    if spec.authentication == Authentication::Required {
        if spec.iqn.is_some() && secrets.chap.is_none() {
            secrets.chap = Some(chap(id, random));
        }
        if spec.nqn.is_some() && secrets.dhchap.is_none() {
            secrets.dhchap = Some(dhchap(random));
        }
    }
    secrets
}
