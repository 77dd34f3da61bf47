//! What follows for groups whose members are being made together, and for group snapshots.

use uuid::Uuid;

use super::Span;
use crate::domain::change::Edit;
use crate::domain::intent::Intent;
use crate::domain::record::{
    GroupPhase, GroupRecord, GroupSnapshotRecord, Key, Record, SnapshotRecord, VolumePhase,
    VolumeRecord,
};

pub(super) fn settle_group(intent: &Intent, id: Uuid, generation: u64) -> Vec<Edit> {
    let Some(group) = intent.group(id).map(|entry| &entry.record) else {
        return Vec::new();
    };
    match group.phase {
        _ if group.generation > generation => Vec::new(),
        GroupPhase::Present => Vec::new(),
        GroupPhase::Creating => {
            let members = members(intent, id).map(|(volume, record)| {
                let record = VolumeRecord {
                    phase: VolumePhase::Present,
                    origin: None,
                    ..record.clone()
                };
                Edit::put(Record::Volume(volume, record))
            });
            let phase = GroupPhase::Present;
            let record = GroupRecord {
                phase,
                ..group.clone()
            };
            members
                .chain([Edit::put(Record::Group(id, record))])
                .collect()
        }
        GroupPhase::Deleting => {
            let members = members(intent, id).map(|(volume, _)| Edit::Remove(Key::Volume(volume)));
            members.chain([Edit::Remove(Key::Group(id))]).collect()
        }
    }
}

/// A group whose members cannot be made goes, and what was made of them.
pub(super) fn withdraw_group(intent: &Intent, id: Uuid, span: Span, generation: u64) -> Vec<Edit> {
    let creating = |group: &&GroupRecord| {
        group.phase == GroupPhase::Creating && span.contains(group.generation)
    };
    let group = intent.group(id).map(|entry| &entry.record).filter(creating);
    let Some(group) = group else {
        return Vec::new();
    };
    let members = members(intent, id).map(|(volume, record)| {
        let record = VolumeRecord {
            phase: VolumePhase::Deleting,
            generation,
            ..record.clone()
        };
        Edit::put(Record::Volume(volume, record))
    });
    let record = GroupRecord {
        phase: GroupPhase::Deleting,
        generation,
        ..group.clone()
    };
    members
        .chain([Edit::put(Record::Group(id, record))])
        .collect()
}

fn members(intent: &Intent, group: Uuid) -> impl Iterator<Item = (Uuid, &VolumeRecord)> {
    let members = intent.volumes_of_group(group);
    members.map(|(id, entry)| (id, &entry.record))
}

pub(super) fn settle_snapshots(intent: &Intent, id: Uuid, generation: u64) -> Vec<Edit> {
    let Some(whole) = intent.group_snapshot(id) else {
        return Vec::new();
    };
    match whole.phase {
        _ if whole.generation > generation => Vec::new(),
        GroupPhase::Present => Vec::new(),
        GroupPhase::Creating => in_phase(intent, id, whole, GroupPhase::Present, whole.generation),
        GroupPhase::Deleting => {
            let snapshots = intent.snapshots_of_group(id);
            let mut edits: Vec<_> = snapshots
                .map(|(snapshot, _)| Edit::Remove(Key::Snapshot(snapshot)))
                .collect();
            edits.push(Edit::Remove(Key::GroupSnapshot(id)));
            edits
        }
    }
}

pub(super) fn withdraw_snapshots(
    intent: &Intent,
    id: Uuid,
    span: Span,
    generation: u64,
) -> Vec<Edit> {
    match intent.group_snapshot(id) {
        Some(whole) if whole.phase == GroupPhase::Creating && span.contains(whole.generation) => {
            in_phase(intent, id, whole, GroupPhase::Deleting, generation)
        }
        _ => Vec::new(),
    }
}

/// A group snapshot with all its snapshots in another phase.
pub(in crate::domain) fn in_phase(
    intent: &Intent,
    id: Uuid,
    whole: &GroupSnapshotRecord,
    phase: GroupPhase,
    generation: u64,
) -> Vec<Edit> {
    let record = GroupSnapshotRecord {
        phase,
        generation,
        ..whole.clone()
    };
    let snapshots = intent.snapshots_of_group(id).map(|(id, snapshot)| {
        let record = SnapshotRecord {
            phase: phase.of_snapshots(),
            generation,
            ..snapshot.clone()
        };
        Edit::put(Record::Snapshot(id, record))
    });
    let whole = Edit::put(Record::GroupSnapshot(id, record));
    std::iter::once(whole).chain(snapshots).collect()
}
