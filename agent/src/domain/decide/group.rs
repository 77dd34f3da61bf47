//! Rules for groups of volumes.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_protocol::group::MAX_MEMBERS;
use ashlar_protocol::{
    GroupSource, GroupSpec, GroupUpdate, Labels, MemberCopy, Name, ObjectKind, ObjectRef, Parent,
    Problem, ProblemCode, Provisioning, Qos,
};
use uuid::Uuid;

use super::room::{check_fill, check_rooms};
use super::thin::{self, Source, ThinIds};
use super::volume::{self, check_id, check_present};
use super::{Facts, Verdict, busy, check_online, missing, refuse, taken};
use crate::domain::change::Edit;
use crate::domain::intent::{GroupEntry, Intent};
use crate::domain::record::{
    GroupPhase, GroupRecord, Key, Record, Unit, VolumePhase, VolumeRecord,
};

pub(super) fn create(
    intent: &Intent,
    id: Uuid,
    spec: &GroupSpec,
    generation: u64,
    facts: &Facts<'_>,
) -> Result<Verdict, Problem> {
    let object = Unit::Group(id).object();
    if let Some(entry) = intent.group(id) {
        return existing(intent, id, entry, spec);
    }
    let record = |phase| GroupRecord {
        name: spec.name.clone(),
        phase,
        created: facts.now,
        generation,
    };
    match &spec.source {
        None => {
            let mut edits = vec![Edit::put(Record::Group(id, record(GroupPhase::Present)))];
            edits.extend(joined(intent, object, 0, &spec.volumes)?);
            Ok(Verdict::Changed(edits, None))
        }
        Some(source) if spec.volumes.is_empty() => {
            let mut edits = vec![Edit::put(Record::Group(id, record(GroupPhase::Creating)))];
            edits.extend(copies(intent, object, source, generation, facts)?);
            Ok(Verdict::Changed(edits, Some(Unit::Group(id))))
        }
        Some(_) => Err(refuse(
            ProblemCode::InvalidField,
            object,
            "volumes: a group with a source has no others",
        )),
    }
}

fn existing(
    intent: &Intent,
    id: Uuid,
    entry: &GroupEntry,
    spec: &GroupSpec,
) -> Result<Verdict, Problem> {
    let members: BTreeSet<_> = intent.volumes_of_group(id).map(|(id, _)| id).collect();
    let asked: BTreeSet<_> = match &spec.source {
        Some(source) => source.volumes.iter().map(|copy| copy.volume).collect(),
        None => spec.volumes.iter().copied().collect(),
    };
    match entry.record.phase {
        GroupPhase::Deleting => Err(busy(ObjectKind::Group, id, "deleted")),
        _ if entry.record.name != spec.name || members != asked => {
            Err(taken(ObjectKind::Group, id))
        }
        GroupPhase::Creating => Ok(Verdict::Underway(Unit::Group(id))),
        GroupPhase::Present => Ok(Verdict::Already(None)),
    }
}

/// Volumes that join a group of `present` others.
fn joined(
    intent: &Intent,
    group: ObjectRef,
    present: usize,
    volumes: &[Uuid],
) -> Result<Vec<Edit>, Problem> {
    check_count(group, present + volumes.len())?;
    check_once(group, volumes.iter().copied())?;
    volumes
        .iter()
        .map(|id| {
            let entry = volume::find(intent, *id)?;
            check_present(*id, entry)?;
            let record = &entry.record;
            if let Some(other) = record.group {
                let detail = format!("volume {id} is a member of group {other}");
                return Err(refuse(ProblemCode::Duplicate, group, detail));
            }
            Ok(in_group(*id, record, Some(group.id)))
        })
        .collect()
}

fn in_group(id: Uuid, record: &VolumeRecord, group: Option<Uuid>) -> Edit {
    // Its generation stays: nothing of this concerns the kernel.
    Edit::put(Record::Volume(
        id,
        VolumeRecord {
            group,
            ..record.clone()
        },
    ))
}

/// A member of a source.
struct Member {
    id: Uuid,
    name: Name,
    pool: Uuid,
    provisioning: Provisioning,
    qos: Option<Box<Qos>>,
    source: Source,
    parent: Parent,
}

/// The new members of a group that begins as a copy.
fn copies(
    intent: &Intent,
    group: ObjectRef,
    source: &GroupSource,
    generation: u64,
    facts: &Facts<'_>,
) -> Result<Vec<Edit>, Problem> {
    let members = members(intent, group, source)?;
    check_count(group, members.len())?;
    if members.is_empty() {
        let detail = "source: it has no members";
        return Err(refuse(ProblemCode::WrongState, group, detail));
    }
    let mut copies = assigned(intent, group, &members, &source.volumes)?;
    let promised = members
        .iter()
        .map(|member| (member.pool, member.provisioning, member.source.size));
    check_rooms(intent, group, promised)?;
    let mut thin_ids = ThinIds::new(intent, facts);
    let mut edits = Vec::new();
    for member in members {
        let volume = copies.remove(&member.id).unwrap_or_default();
        let new = Unit::Volume(volume).object();
        check_fill(intent, new, member.pool, facts)?;
        check_online(new, member.pool, facts)?;
        let thin_id = thin_ids.next(new, member.pool)?;
        let record = VolumeRecord {
            name: member.name,
            pool: member.pool,
            thin_id,
            size: member.source.size,
            phase: VolumePhase::Creating,
            created: facts.now,
            generation,
            labels: Labels::default(),
            parent: Some(member.parent),
            origin: Some(member.source.origin),
            retired: BTreeSet::new(),
            moving: None,
            owner: None,
            group: Some(group.id),
            growth: Vec::new(),
            qos: member.qos,
            provisioning: member.provisioning,
            purpose: None,
            family: Some(member.source.family),
        };
        edits.push(Edit::put(Record::Volume(volume, record)));
    }
    edits.extend(thin_ids.edits());
    Ok(edits)
}

/// The members of a source, each of which stands still enough to be copied.
fn members(
    intent: &Intent,
    group: ObjectRef,
    source: &GroupSource,
) -> Result<Vec<Member>, Problem> {
    match (source.group, source.group_snapshot) {
        (Some(id), None) => {
            find_present(intent, id)?;
            let volumes = intent.volumes_of_group(id);
            volumes
                .map(|(id, entry)| {
                    let record = &entry.record;
                    let parent = Parent::Volume(id);
                    Ok(Member {
                        id,
                        name: record.name.clone(),
                        pool: record.pool,
                        provisioning: record.provisioning,
                        qos: record.qos.clone(),
                        source: thin::source(intent, group, record.pool, parent)?,
                        parent,
                    })
                })
                .collect()
        }
        (None, Some(id)) => {
            super::group_snapshot::find_present(intent, id)?;
            let snapshots = intent.snapshots_of_group(id);
            snapshots
                .map(|(id, record)| {
                    let parent = Parent::Snapshot(id);
                    Ok(Member {
                        id,
                        name: record.name.clone(),
                        pool: record.pool,
                        provisioning: record.provisioning,
                        qos: None,
                        source: thin::source(intent, group, record.pool, parent)?,
                        parent,
                    })
                })
                .collect()
        }
        _ => Err(refuse(
            ProblemCode::InvalidField,
            group,
            "source: it is either a group or a group_snapshot",
        )),
    }
}

/// The new volume of each member; every member has one, and nothing else does.
fn assigned(
    intent: &Intent,
    group: ObjectRef,
    members: &[Member],
    copies: &[MemberCopy],
) -> Result<BTreeMap<Uuid, Uuid>, Problem> {
    check_once(group, copies.iter().map(|copy| copy.volume))?;
    check_once(group, copies.iter().map(|copy| copy.source))?;
    let ids: BTreeSet<_> = members.iter().map(|member| member.id).collect();
    check_cover(group, "source", &ids, copies.iter().map(|copy| copy.source))?;
    for copy in copies {
        if copy.volume.is_nil() {
            let detail = "source.volumes: the nil UUID is no id of a volume";
            return Err(refuse(ProblemCode::InvalidField, group, detail));
        }
        if intent.volume(copy.volume).is_some() {
            return Err(taken(ObjectKind::Volume, copy.volume));
        }
        check_id(intent, Unit::Volume(copy.volume).object())?;
    }
    let pairs = copies.iter().map(|copy| (copy.source, copy.volume));
    Ok(pairs.collect())
}

pub(super) fn update(
    intent: &Intent,
    id: Uuid,
    update: &GroupUpdate,
    generation: u64,
) -> Result<Verdict, Problem> {
    let object = Unit::Group(id).object();
    let entry = find_present(intent, id)?;
    let present = intent.volumes_of_group(id).count();
    check_once(object, update.remove.iter().copied())?;
    let mut edits = Vec::new();
    for volume in &update.remove {
        match intent.volume(*volume) {
            Some(entry) if entry.record.group == Some(id) => {
                edits.push(in_group(*volume, &entry.record, None));
            }
            _ => {
                let detail = format!("volume {volume} is no member of {object}");
                return Err(refuse(ProblemCode::NotFound, object, detail));
            }
        }
    }
    edits.extend(joined(
        intent,
        object,
        present - update.remove.len(),
        &update.add,
    )?);
    let name = update.name.as_ref().unwrap_or(&entry.record.name);
    if edits.is_empty() && *name == entry.record.name {
        return Ok(Verdict::Already(None));
    }
    let record = GroupRecord {
        name: name.clone(),
        generation,
        ..entry.record.clone()
    };
    edits.push(Edit::put(Record::Group(id, record)));
    Ok(Verdict::Changed(edits, None))
}

/// The members stay.
pub(super) fn delete(intent: &Intent, id: Uuid) -> Result<Verdict, Problem> {
    let entry = find_group(intent, id)?;
    match entry.record.phase {
        GroupPhase::Creating => return Err(busy(ObjectKind::Group, id, "created")),
        GroupPhase::Deleting => return Ok(Verdict::Underway(Unit::Group(id))),
        GroupPhase::Present => {}
    }
    if entry.group_snapshots > 0 {
        let detail = format!(
            "{} has {} group snapshots",
            Unit::Group(id).object(),
            entry.group_snapshots
        );
        return Err(refuse(ProblemCode::InUse, Unit::Group(id).object(), detail));
    }
    let members = intent.volumes_of_group(id);
    let mut edits: Vec<_> = members
        .map(|(volume, entry)| in_group(volume, &entry.record, None))
        .collect();
    edits.push(Edit::Remove(Key::Group(id)));
    Ok(Verdict::Changed(edits, None))
}

fn find_group(intent: &Intent, id: Uuid) -> Result<&GroupEntry, Problem> {
    intent
        .group(id)
        .ok_or_else(|| missing(ObjectKind::Group, id))
}

/// A group whose members are all its own.
pub(super) fn find_present(intent: &Intent, id: Uuid) -> Result<&GroupEntry, Problem> {
    let entry = find_group(intent, id)?;
    match entry.record.phase {
        GroupPhase::Creating => Err(busy(ObjectKind::Group, id, "created")),
        GroupPhase::Deleting => Err(busy(ObjectKind::Group, id, "deleted")),
        GroupPhase::Present => Ok(entry),
    }
}

fn check_count(group: ObjectRef, count: usize) -> Result<(), Problem> {
    if count <= MAX_MEMBERS {
        return Ok(());
    }
    let detail = format!("{count} volumes are more than the {MAX_MEMBERS} a group can have");
    Err(refuse(ProblemCode::OutOfRange, group, detail))
}

/// No id stands twice.
pub(super) fn check_once(
    object: ObjectRef,
    ids: impl Iterator<Item = Uuid>,
) -> Result<(), Problem> {
    let mut seen = BTreeSet::new();
    for id in ids {
        if !seen.insert(id) {
            let detail = format!("{id} is named twice");
            return Err(refuse(ProblemCode::InvalidField, object, detail));
        }
    }
    Ok(())
}

/// Exactly the members are named.
pub(super) fn check_cover(
    object: ObjectRef,
    whole: &str,
    members: &BTreeSet<Uuid>,
    named: impl Iterator<Item = Uuid>,
) -> Result<(), Problem> {
    let named: BTreeSet<_> = named.collect();
    if let Some(stranger) = named.difference(members).next() {
        let detail = format!("{stranger} is no member of the {whole}");
        return Err(refuse(ProblemCode::InvalidField, object, detail));
    }
    if let Some(left_out) = members.difference(&named).next() {
        let detail = format!("{left_out}, a member of the {whole}, is not named");
        return Err(refuse(ProblemCode::InvalidField, object, detail));
    }
    Ok(())
}
