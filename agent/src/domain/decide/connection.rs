//! Rules for connections.

use ashlar_protocol::{
    Access, Connected, ConnectionSpec, ObjectKind, ObjectRef, Problem, ProblemCode, Transport,
};
use uuid::Uuid;

use super::data::check_reachable;
use super::fc;
use super::volume::{check_present, find};
use super::{Facts, Verdict, busy, check_online, connections, missing, refuse, snapshot, taken};
use crate::domain::change::Edit;
use crate::domain::intent::{HostEntry, Intent};
use crate::domain::record::{ConnectionPhase, ConnectionRecord, Record, Unit};

/// Most connections of one volume or snapshot. Keeps its desired state well below a message's limit.
pub(super) const MAX_CONNECTIONS: u64 = 256;

pub(super) fn create(
    intent: &Intent,
    id: Uuid,
    spec: &ConnectionSpec,
    generation: u64,
    facts: &Facts<'_>,
) -> Result<Verdict, Problem> {
    if let Some(there) = intent.connection(id) {
        return existing(id, there, spec);
    }
    let object = ObjectRef {
        kind: ObjectKind::Connection,
        id,
    };
    let pool = check_connectable(intent, spec)?;
    let host = intent
        .host(spec.host)
        .ok_or_else(|| missing(ObjectKind::Host, spec.host))?;
    check_transport(object, spec, facts)?;
    check_named(object, spec, host)?;
    check_others(intent, object, spec)?;
    check_same_access(intent, object, spec)?;
    check_online(object, pool, facts)?;
    let fc = match spec.transport {
        Transport::Fc => Some(fc::place(intent, object, spec)?),
        _ => None,
    };
    let record = ConnectionRecord {
        of: spec.of,
        host: spec.host,
        transport: spec.transport,
        phase: ConnectionPhase::Wanted,
        generation,
        access: spec.access,
        fc,
    };
    let edits = vec![Edit::put(Record::Connection(id, record))];
    Ok(Verdict::Changed(edits, Some(Unit::of(spec.of))))
}

/// Whether what is to be connected can be, and the pool it is in.
fn check_connectable(intent: &Intent, spec: &ConnectionSpec) -> Result<Uuid, Problem> {
    match spec.of {
        Connected::Volume(id) => {
            let volume = find(intent, id)?;
            check_present(id, volume)?;
            check_reachable(intent, id)?;
            Ok(volume.record.pool)
        }
        // Those who read it through the agent meanwhile do not mind.
        Connected::Snapshot(id) => {
            let snapshot = snapshot::find(intent, id)?;
            snapshot::check_taken(id, snapshot)?;
            Ok(snapshot.pool)
        }
    }
}

fn existing(id: Uuid, there: &ConnectionRecord, spec: &ConnectionSpec) -> Result<Verdict, Problem> {
    let asked = (spec.of, spec.host, spec.transport, spec.access);
    let equal = (there.of, there.host, there.transport, there.access) == asked;
    match there.phase {
        _ if !equal => Err(taken(ObjectKind::Connection, id)),
        ConnectionPhase::Wanted => Ok(Verdict::Already(Some(Unit::of(there.of)))),
        ConnectionPhase::Detaching | ConnectionPhase::Cutting | ConnectionPhase::Withdrawn => {
            Err(busy(ObjectKind::Connection, id, "detached"))
        }
    }
}

fn check_transport(
    object: ObjectRef,
    spec: &ConnectionSpec,
    facts: &Facts<'_>,
) -> Result<(), Problem> {
    if !facts.transports.contains(&spec.transport) {
        let detail = format!("this box has no address for {}", spec.transport);
        return Err(refuse(ProblemCode::Unsupported, object, detail));
    }
    if let (Connected::Snapshot(_), Access::ReadWrite) = (spec.of, spec.access) {
        let detail = format!("{} is only read", spec.of);
        return Err(refuse(ProblemCode::InvalidField, object, detail));
    }
    if spec.transport.is_nvme() && spec.access == Access::ReadOnly {
        // nvmet knows who may connect, and nothing of what each may do (Linux 6.12).
        let detail = format!(
            "{} has no read-only access; iscsi, iser and fc do",
            spec.transport
        );
        return Err(refuse(ProblemCode::Unsupported, object, detail));
    }
    Ok(())
}

/// Whether the host has a name on the transport.
fn check_named(object: ObjectRef, spec: &ConnectionSpec, host: &HostEntry) -> Result<(), Problem> {
    let (named, what) = match spec.transport {
        Transport::Iscsi | Transport::Iser => (host.record.iqn.is_some(), "iSCSI"),
        Transport::Fc => (!host.record.wwpns.is_empty(), "Fibre Channel"),
        Transport::NvmeTcp | Transport::NvmeRdma | Transport::NvmeFc => {
            (host.record.nqn.is_some(), "NVMe")
        }
    };
    if !named {
        let detail = format!("host {} has no {what} name", spec.host);
        return Err(refuse(ProblemCode::WrongState, object, detail));
    }
    Ok(())
}

/// The kernel lists an initiator for a target, whichever way it comes.
fn check_same_access(
    intent: &Intent,
    object: ObjectRef,
    spec: &ConnectionSpec,
) -> Result<(), Problem> {
    let mut others = intent.connections_of(spec.of, None);
    let other = others.find(|(_, other)| {
        other.host == spec.host
            && spec.transport.is_iscsi()
            && other.transport.is_iscsi()
            && other.access != spec.access
    });
    match other {
        Some((other, _)) => {
            let detail = format!(
                "connection {other} attaches {} to host {} with another access",
                spec.of, spec.host
            );
            Err(refuse(ProblemCode::WrongState, object, detail))
        }
        None => Ok(()),
    }
}

fn check_others(intent: &Intent, object: ObjectRef, spec: &ConnectionSpec) -> Result<(), Problem> {
    let others = || intent.connections_of(spec.of, None);
    let same =
        others().find(|(_, other)| other.host == spec.host && other.transport == spec.transport);
    let count = others().count() as u64;
    match same {
        Some((other, record)) if record.phase == ConnectionPhase::Wanted => {
            let detail = format!(
                "connection {other} attaches {} to host {} over {} already",
                spec.of, spec.host, spec.transport
            );
            Err(refuse(ProblemCode::Duplicate, object, detail))
        }
        Some((other, _)) => Err(busy(ObjectKind::Connection, other, "detached")),
        None if count >= MAX_CONNECTIONS => {
            let detail = format!("{} has {count} connections, the most", spec.of);
            Err(refuse(ProblemCode::WrongState, object, detail))
        }
        None => Ok(()),
    }
}

/// What hosts can reach is not destroyed, nor let go of.
pub(super) fn check_unconnected(intent: &Intent, snapshot: Uuid) -> Result<(), Problem> {
    let of = Connected::Snapshot(snapshot);
    match intent.connections_of(of, None).count() as u64 {
        0 => Ok(()),
        count => {
            let detail = format!("{of} has {}", connections(count));
            Err(refuse(ProblemCode::InUse, of.object(), detail))
        }
    }
}

/// With force, what waits for its host to let go waits no longer.
pub(super) fn delete(
    intent: &Intent,
    id: Uuid,
    force: bool,
    generation: u64,
) -> Result<Verdict, Problem> {
    let there = intent
        .connection(id)
        .ok_or_else(|| missing(ObjectKind::Connection, id))?;
    if let Connected::Volume(volume) = there.of {
        check_not_still(intent, volume)?;
    }
    if force {
        check_alone(intent, id, there)?;
    }
    let unit = Unit::of(there.of);
    let phase = match (there.phase, force) {
        (ConnectionPhase::Wanted, false) => ConnectionPhase::Detaching,
        (ConnectionPhase::Cutting, _)
        | (ConnectionPhase::Detaching | ConnectionPhase::Withdrawn, false) => {
            return Ok(Verdict::Underway(unit));
        }
        (_, true) => ConnectionPhase::Cutting,
    };
    let edits = vec![phased(id, there, phase, generation)];
    Ok(Verdict::Changed(edits, Some(unit)))
}

pub(super) fn delete_all(
    intent: &Intent,
    volume: Uuid,
    generation: u64,
) -> Result<Verdict, Problem> {
    let entry = find(intent, volume)?;
    check_not_still(intent, volume)?;
    let unit = Unit::Volume(volume);
    let edits: Vec<_> = intent
        .connections_of(Connected::Volume(volume), None)
        .filter(|(_, record)| record.phase != ConnectionPhase::Cutting)
        .map(|(id, record)| phased(id, record, ConnectionPhase::Cutting, generation))
        .collect();
    match (edits.is_empty(), entry.connections) {
        (true, 0) => Ok(Verdict::Already(None)),
        (true, _) => Ok(Verdict::Underway(unit)),
        (false, _) => Ok(Verdict::Changed(edits, Some(unit))),
    }
}

/// The kernel cuts a host off a volume's target or subsystem, not off one of its transports.
fn check_alone(intent: &Intent, id: Uuid, record: &ConnectionRecord) -> Result<(), Problem> {
    let mut others = intent.connections_of(record.of, None);
    let other = others.find(|(other, connection)| {
        let same = connection.host == record.host && *other != id;
        same && shares(connection.transport, record.transport)
            && connection.phase == ConnectionPhase::Wanted
    });
    match other {
        Some((other, connection)) => {
            let object = ObjectRef {
                kind: ObjectKind::Connection,
                id,
            };
            let detail = format!(
                "host {} is attached to {} over {} as well, by connection {other}: detach \
                 that one first, without force, or all hosts at once",
                record.host, record.of, connection.transport
            );
            Err(refuse(ProblemCode::WrongState, object, detail))
        }
        None => Ok(()),
    }
}

/// Whether two transports have one list of hosts.
fn shares(one: Transport, other: Transport) -> bool {
    (one.is_nvme(), one.is_iscsi()) == (other.is_nvme(), other.is_iscsi())
}

/// What hosts have under way ends only when the volume does I/O again.
fn check_not_still(intent: &Intent, volume: Uuid) -> Result<(), Problem> {
    let moving = intent.volume(volume).and_then(|entry| entry.record.moving);
    match moving {
        Some(moving) if moving.still => Err(busy(ObjectKind::Volume, volume, "moved")),
        _ => Ok(()),
    }
}

fn phased(id: Uuid, record: &ConnectionRecord, phase: ConnectionPhase, generation: u64) -> Edit {
    Edit::put(Record::Connection(
        id,
        ConnectionRecord {
            phase,
            generation,
            ..*record
        },
    ))
}
