//! What follows from the kernel's answers.
//!
//! ```text
//!             settle                  settle
//! Creating ───────────► Present      Deleting, Detaching, Cutting, Withdrawn ──────► forgotten
//!    │ withdraw                         ▲
//!    ├──────────────────────────────────┘   Detaching ── restore ──► Wanted
//!    └────── forget ──► forgotten, and what is in the kernel stays
//!
//! Adopting ── settle ──► Present      Releasing ── settle ──► forgotten, and its thin device stays
//!    │ withdraw                          ▲
//!    └───────────────────────────────────┘
//!
//! Clearing ── cleared ──► Deleting
//!
//! Reverting ── settle ──► Replacing ── settle ──► Present, with a thin device to retire
//!     └──────────── withdraw ────────────────────────┘            └── settle ──► without
//! ```
//!
//! A volume is put on its new thin device only once it is on record that this exists, and its
//! old one is destroyed only once it is on record that the volume is on the new one. So a revert
//! that fails is taken back while the volume still is what it was, by retiring the new one
//! instead; and once hosts may have written to the new one, the record knows of no way back.
//! An extension is given back by `withdraw`, as far as the kernel does not have it, and so are
//! disks that a pool was to grow by or to be given instead of others.
//!
//! `settle` follows from what the kernel has and may be repeated, so its edits need not be
//! durable before anyone acts on them, but for a pool's: one in the making is withdrawn when
//! it cannot be had, one that was made never is. `withdraw`, `restore` and `forget` must be
//! durable.

mod groups;

use std::collections::BTreeSet;

use ashlar_protocol::{
    Connected, JobResult, ObjectKind, Operation, Problem, ProblemCode, Progress, Transport,
};
use ashlar_targetd_protocol::{Accesses, MemberState, ThinRef};
use uuid::Uuid;

use crate::domain::change::Edit;
use crate::domain::intent::{Intent, VolumeEntry};
use crate::domain::record::{
    ConnectionPhase, ConnectionRecord, Growing, Growth, Key, PoolPhase, PoolRecord, PortalPhase,
    Record, Replacing, RequestRecord, SnapshotPhase, SnapshotRecord, ThinCounter, Turns, Unit,
    VolumePhase, VolumeRecord, WorkPhase, WorkRecord,
};

pub(in crate::domain) use groups::in_phase;

/// What adds something, and fails when that is taken back.
pub const ADDING: [Operation; 9] = [
    Operation::PoolCreate,
    Operation::GroupCreate,
    Operation::GroupSnapshotCreate,
    Operation::VolumeCreate,
    Operation::VolumeAdopt,
    Operation::VolumeRevert,
    Operation::SnapshotCreate,
    Operation::SnapshotAdopt,
    Operation::ConnectionCreate,
];

/// Why something is undone, and what the kernel has meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grounds {
    /// What those who asked for it are told.
    pub problem: Problem,
    /// The hosts that do not let go, if that is the trouble and they are known.
    pub users: Accesses,
    /// The size of the volume's device in bytes, 0 without one, or the capacity of the pool;
    /// absent when it is not known.
    pub device: Option<u64>,
}

impl Grounds {
    /// Grounds without any word of the kernel.
    pub fn new(problem: Problem) -> Grounds {
        Grounds {
            problem,
            users: Accesses::default(),
            device: None,
        }
    }
}

/// Generations of which the kernel refused: after `applied`, up to and with `tried`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The last generation the kernel is known to have.
    pub applied: u64,
    /// The generation it was asked for.
    pub tried: u64,
}

impl Span {
    fn contains(self, generation: u64) -> bool {
        self.applied < generation && generation <= self.tried
    }
}

/// The kernel has `unit` as of `generation`. `capacity` is a pool's, in bytes.
pub fn settle(intent: &Intent, unit: Unit, generation: u64, capacity: Option<u64>) -> Vec<Edit> {
    match unit {
        Unit::Pool(id) => settle_pool(intent, id, generation, capacity),
        Unit::Volume(id) => settle_volume(intent, id, generation),
        Unit::Snapshot(id) => settle_snapshot(intent, id, generation),
        Unit::Group(id) => groups::settle_group(intent, id, generation),
        Unit::GroupSnapshot(id) => groups::settle_snapshots(intent, id, generation),
        Unit::Portal(id) => settle_portal(intent, id, generation),
        Unit::Host(_) => Vec::new(),
    }
}

fn settle_portal(intent: &Intent, id: Uuid, generation: u64) -> Vec<Edit> {
    let portal = intent.portal(id);
    let gone = portal.is_some_and(|portal| {
        portal.phase == PortalPhase::Removing && portal.generation <= generation
    });
    gone.then_some(Edit::Remove(Key::Portal(id)))
        .into_iter()
        .collect()
}

/// Of a pool's thin ids, those below `first_free` may be taken, by whatever is in the pool:
/// more than the intent knows when a store older than the pool was put in its place. None of
/// them is given any more.
pub fn skip_thin_ids(intent: &Intent, pool: Uuid, first_free: u32) -> Option<Edit> {
    let next = first_free;
    let behind = intent.pool(pool).is_some() && intent.thin_counter(pool).next < next;
    behind.then(|| Edit::put(Record::ThinCounter(pool, ThinCounter { next })))
}

fn settle_pool(intent: &Intent, id: Uuid, generation: u64, capacity: Option<u64>) -> Vec<Edit> {
    let Some(entry) = intent.pool(id) else {
        return Vec::new();
    };
    let pool = &entry.record;
    if pool.generation > generation {
        return Vec::new();
    }
    match pool.phase {
        PoolPhase::Withdrawn | PoolPhase::Deleting(_) => vec![
            Edit::Remove(Key::Pool(id)),
            Edit::Remove(Key::ThinCounter(id)),
        ],
        PoolPhase::Present if capacity.is_none() => Vec::new(),
        PoolPhase::Present
            if capacity == pool.capacity && !pool.is_changing_disks() && pool.import.is_none() =>
        {
            Vec::new()
        }
        PoolPhase::Creating | PoolPhase::Present => {
            let phase = PoolPhase::Present;
            let record = PoolRecord {
                phase,
                capacity,
                growth: None,
                import: None,
                ..replaced(pool)
            };
            vec![Edit::put(Record::Pool(id, record))]
        }
    }
}

/// A pool in which the disk that was to come has its place. It holds nothing at first, and what
/// is read from it after a power cut is not to be trusted before it is known to be rebuilt.
fn replaced(pool: &PoolRecord) -> PoolRecord {
    let mut record = pool.clone();
    let Some(Replacing {
        place, by, turn, ..
    }) = record.replacing.take()
    else {
        return record;
    };
    record.spares.retain(|spare| *spare != by);
    if let Some(disk) = record.spec.disks.get_mut(place as usize) {
        let former = std::mem::replace(disk, by);
        record.former.entry(place).or_default().push(former);
        let turns = Turns {
            now: turn,
            last: turn,
        };
        record.turns.insert(place, turns);
        record.stale.insert(place, MemberState::Rebuilding);
        record.lost.remove(&place);
    }
    record
}

/// What hosts were to lose is lost.
fn settle_connections(intent: &Intent, of: Connected, generation: u64) -> Vec<Edit> {
    intent
        .connections_of(of, None)
        .filter(|(_, c)| c.phase != ConnectionPhase::Wanted && c.generation <= generation)
        .map(|(connection, _)| Edit::Remove(Key::Connection(connection)))
        .collect()
}

fn settle_volume(intent: &Intent, id: Uuid, generation: u64) -> Vec<Edit> {
    let mut edits = settle_connections(intent, Connected::Volume(id), generation);
    let Some(entry) = intent.volume(id) else {
        return edits;
    };
    let mut volume = entry.record.clone();
    volume
        .growth
        .retain(|growth| growth.generation > generation);
    if volume.generation <= generation {
        edits.extend(settled_volume(intent, id, volume));
    } else if volume != entry.record {
        edits.push(Edit::put(Record::Volume(id, volume)));
    }
    edits
}

/// Whether what has settled as of `generation` was but one step of several of the same
/// generation: whoever waits for that waits on, and the next step is tried at once. Only when
/// the first is durable, because there is no way back from the next.
pub fn goes_on(intent: &Intent, unit: Unit, generation: u64) -> bool {
    let Unit::Volume(id) = unit else {
        return false;
    };
    let settled = |entry: &VolumeEntry| entry.record.generation <= generation;
    replacing(intent, unit) && intent.volume(id).is_some_and(settled)
}

fn replacing(intent: &Intent, unit: Unit) -> bool {
    let Unit::Volume(id) = unit else {
        return false;
    };
    let phase = intent.volume(id).map(|entry| entry.record.phase);
    phase == Some(VolumePhase::Replacing)
}

/// `volume` is as recorded, but for the growth that the kernel has.
fn settled_volume(intent: &Intent, id: Uuid, volume: VolumeRecord) -> Vec<Edit> {
    let present = VolumeRecord {
        phase: VolumePhase::Present,
        origin: None,
        ..volume.clone()
    };
    match volume.phase {
        VolumePhase::Releasing | VolumePhase::Deleting => vec![Edit::Remove(Key::Volume(id))],
        // Nothing follows from its being there: see `cleared`.
        VolumePhase::Clearing(_) => Vec::new(),
        VolumePhase::Creating => vec![Edit::put(Record::Volume(id, present))],
        VolumePhase::Reverting => {
            let phase = VolumePhase::Replacing;
            let record = VolumeRecord { phase, ..volume };
            vec![Edit::put(Record::Volume(id, record))]
        }
        VolumePhase::Adopting | VolumePhase::Replacing => {
            // What it retires is destroyed by an attempt of its own, and so is a device that was
            // active to be tried made inactive.
            let generation = intent.generation() + 1;
            let record = VolumeRecord {
                generation,
                ..present
            };
            vec![
                Edit::put(Record::Clock(generation)),
                Edit::put(Record::Volume(id, record)),
            ]
        }
        VolumePhase::Present if volume.retired.is_empty() => {
            let same = intent
                .volume(id)
                .is_some_and(|entry| entry.record == volume);
            match same {
                true => Vec::new(),
                false => vec![Edit::put(Record::Volume(id, volume))],
            }
        }
        VolumePhase::Present => {
            let retired = BTreeSet::new();
            let record = VolumeRecord { retired, ..present };
            vec![Edit::put(Record::Volume(id, record))]
        }
    }
}

/// The data of a volume is cleared as was asked up to `span`, durably, which came to `result`: it
/// is to be destroyed now. Nothing to do when something else was asked since.
pub fn cleared(intent: &Intent, id: Uuid, span: Span, result: &JobResult) -> Vec<Edit> {
    let Some(volume) = intent.volume(id).map(|entry| &entry.record) else {
        return Vec::new();
    };
    let VolumePhase::Clearing(clearing) = volume.phase else {
        return Vec::new();
    };
    if volume.generation > span.tried {
        return Vec::new();
    }
    let phase = VolumePhase::Deleting;
    let record = VolumeRecord {
        phase,
        ..volume.clone()
    };
    // Not of another volume that had the id before.
    let before = clearing.since.saturating_sub(1);
    let asked = intent.requests_between(before, span.tried);
    let asked = asked.filter(|(_, request)| {
        request.unit == Some(Unit::Volume(id)) && request.operation == Operation::VolumeDelete
    });
    let told = asked.map(|(request, record)| {
        let done = volume.size;
        let work = WorkRecord {
            phase: WorkPhase::Ended,
            progress: Progress {
                done,
                total: Some(done),
            },
            result: Some(result.clone()),
        };
        let record = RequestRecord {
            work: Some(work),
            ..record.clone()
        };
        Edit::put(Record::Request(request, record))
    });
    std::iter::once(Edit::put(Record::Volume(id, record)))
        .chain(told)
        .collect()
}

fn settle_snapshot(intent: &Intent, id: Uuid, generation: u64) -> Vec<Edit> {
    let mut edits = settle_connections(intent, Connected::Snapshot(id), generation);
    if let Some(snapshot) = intent.snapshot(id) {
        edits.extend(settled_snapshot(intent, id, snapshot, generation));
    }
    edits
}

fn settled_snapshot(
    intent: &Intent,
    id: Uuid,
    snapshot: &SnapshotRecord,
    generation: u64,
) -> Vec<Edit> {
    match snapshot.phase {
        _ if snapshot.generation > generation => Vec::new(),
        SnapshotPhase::Present => Vec::new(),
        SnapshotPhase::Releasing | SnapshotPhase::Deleting => {
            vec![Edit::Remove(Key::Snapshot(id))]
        }
        SnapshotPhase::Adopting => {
            // The device that was active to be tried is made inactive.
            let generation = intent.generation() + 1;
            let record = SnapshotRecord {
                phase: SnapshotPhase::Present,
                generation,
                ..snapshot.clone()
            };
            vec![
                Edit::put(Record::Clock(generation)),
                Edit::put(Record::Snapshot(id, record)),
            ]
        }
        SnapshotPhase::Creating => {
            let phase = SnapshotPhase::Present;
            let record = SnapshotRecord {
                phase,
                ..snapshot.clone()
            };
            vec![Edit::put(Record::Snapshot(id, record))]
        }
    }
}

/// The kernel cannot have what was added to `unit` in `span`: it is taken back, and the
/// requests that added it have failed. Nothing to do when nothing was added.
pub fn withdraw(intent: &Intent, unit: Unit, span: Span, grounds: &Grounds) -> Vec<Edit> {
    let generation = intent.generation() + 1;
    let edits = match unit {
        Unit::Pool(id) => withdraw_pool(intent, id, span, generation, grounds),
        Unit::Volume(id) => withdraw_volume(intent, id, span, generation, grounds.device),
        Unit::Snapshot(id) => withdraw_snapshot(intent, id, span, generation),
        Unit::Group(id) => groups::withdraw_group(intent, id, span, generation),
        Unit::GroupSnapshot(id) => groups::withdraw_snapshots(intent, id, span, generation),
        // Whoever was told the new secrets, or an address, may rely on it.
        Unit::Host(_) | Unit::Portal(_) => Vec::new(),
    };
    let change = match unit {
        Unit::Pool(id) => intent.pool(id).and_then(|entry| change(&entry.record)),
        _ => None,
    };
    let applied = match unit {
        // What was asked of the pool before that is not taken back.
        Unit::Pool(_) if let Some((_, since)) = change => since.saturating_sub(1),
        // No process told anyone of a pool before it was made.
        Unit::Pool(_) => 0,
        Unit::Volume(_)
        | Unit::Snapshot(_)
        | Unit::Group(_)
        | Unit::GroupSnapshot(_)
        | Unit::Host(_)
        | Unit::Portal(_) => span.applied,
    };
    let span = Span { applied, ..span };
    let mut operations = ADDING.to_vec();
    if replacing(intent, unit) {
        operations.retain(|operation| *operation != Operation::VolumeRevert);
    }
    if let Some((operation, _)) = change {
        operations = vec![operation];
    }
    if edits.iter().any(|edit| gives_back(intent, edit)) {
        operations.push(Operation::VolumeExtend);
    }
    concluded(intent, edits, span, &grounds.problem, &operations)
}

/// What is being done to a pool that was made, and since which generation.
fn change(pool: &PoolRecord) -> Option<(Operation, u64)> {
    match pool.phase {
        PoolPhase::Deleting(destruction) => Some((Operation::PoolDelete, destruction.since)),
        PoolPhase::Present => {
            let growth = pool.growth.map(|growth| growth.since);
            let replacing = pool.replacing.as_ref().map(|replacing| replacing.since);
            let grows = growth.map(|since| (Operation::PoolGrow, since));
            grows.or_else(|| replacing.map(|since| (Operation::PoolReplace, since)))
        }
        PoolPhase::Creating | PoolPhase::Withdrawn => None,
    }
}

/// A pool that is no larger yet, or that is active on the disks it has, becomes what it was when
/// its new disks cannot be had. What the kernel did not do but may do later is no reason: the
/// pool's devices may be on them already.
/// Nor is it for keeping one that is being destroyed, of which disks may be blank already.
fn withdraw_pool(
    intent: &Intent,
    id: Uuid,
    span: Span,
    generation: u64,
    grounds: &Grounds,
) -> Vec<Edit> {
    // A device that is in use, which may pass too, is given up once that was waited for.
    let later = match grounds.problem.code {
        ProblemCode::Cancelled => true,
        ProblemCode::InUse => false,
        _ => grounds.problem.retryable,
    };
    match intent.pool(id).map(|entry| &entry.record) {
        Some(pool) if pool.phase == PoolPhase::Creating && pool.generation <= span.tried => {
            let phase = PoolPhase::Withdrawn;
            let record = PoolRecord {
                phase,
                generation,
                ..pool.clone()
            };
            vec![Edit::put(Record::Pool(id, record))]
        }
        Some(pool) if matches!(pool.phase, PoolPhase::Deleting(_)) => {
            if later || pool.generation > span.tried {
                return Vec::new();
            }
            let phase = PoolPhase::Present;
            let record = PoolRecord {
                phase,
                generation,
                ..pool.clone()
            };
            vec![Edit::put(Record::Pool(id, record))]
        }
        Some(pool) if pool.generation <= span.tried && !later => {
            let same = grounds.device.is_some() && grounds.device == pool.capacity;
            let before = as_before(pool, generation).filter(|_| same);
            let edit = before.map(|record| Edit::put(Record::Pool(id, record)));
            edit.into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// A pool as it was before its disks were to become others; nothing when they were not.
fn as_before(pool: &PoolRecord, generation: u64) -> Option<PoolRecord> {
    if let Some(growth) = pool.growth {
        return Some(shrunk(pool, growth, generation));
    }
    let given_up = pool.replacing.as_ref()?;
    let mut turns = pool.turns.clone();
    let had = pool.turns(given_up.place);
    let last = given_up.turn;
    turns.insert(given_up.place, Turns { last, ..had });
    // It may have had the place for a while.
    let mut stale = pool.stale.clone();
    let state = MemberState::Rebuilding;
    stale.entry(given_up.place).or_insert(state);
    Some(PoolRecord {
        replacing: None,
        turns,
        stale,
        generation,
        ..pool.clone()
    })
}

/// A pool as it was before it was to grow.
fn shrunk(pool: &PoolRecord, growth: Growing, generation: u64) -> PoolRecord {
    let mut record = PoolRecord {
        metadata_size: growth.metadata_size,
        low_water_blocks: growth.low_water_blocks,
        growth: None,
        generation,
        ..pool.clone()
    };
    record.made_on = record.made_on.filter(|made_on| *made_on < growth.disks);
    record.keep_disks(growth.disks);
    record
}

fn withdraw_volume(
    intent: &Intent,
    id: Uuid,
    span: Span,
    generation: u64,
    device: Option<u64>,
) -> Vec<Edit> {
    let Some(volume) = intent.volume(id).map(|entry| &entry.record) else {
        return Vec::new();
    };
    if span.contains(volume.generation)
        && let Some(record) = withdrawn(volume, generation)
    {
        return vec![Edit::put(Record::Volume(id, record))];
    }
    let smaller = device.and_then(|device| shrunk_back(volume, span, generation, device));
    let smaller = smaller.map(|record| Edit::put(Record::Volume(id, record)));
    // What is taken from a host waits for its I/O, and that for a volume at rest.
    let still = volume.moving.is_some_and(|moving| moving.still);
    let added = withdraw_connections(intent, Connected::Volume(id), span, generation);
    let added = added.into_iter().filter(|_| !still);
    smaller.into_iter().chain(added).collect()
}

/// Hosts that were to have access in `span`, and are not to have it.
fn withdraw_connections(intent: &Intent, of: Connected, span: Span, generation: u64) -> Vec<Edit> {
    intent
        .connections_of(of, None)
        .filter(|(_, c)| c.phase == ConnectionPhase::Wanted && span.contains(c.generation))
        .map(|(id, c)| rephased(id, c, ConnectionPhase::Withdrawn, generation))
        .collect()
}

/// Whether an edit makes a volume smaller than it was to be.
fn gives_back(intent: &Intent, edit: &Edit) -> bool {
    let Edit::Put(record) = edit else {
        return false;
    };
    match &**record {
        Record::Volume(id, volume) => {
            let before = intent.volume(*id).map(|entry| entry.record.growth.len());
            before.is_some_and(|before| volume.growth.len() < before)
        }
        _ => false,
    }
}

/// The volume without its extensions in `span`, but never smaller than its device is already:
/// that would be refused from then on. What was extended later stays.
fn shrunk_back(
    volume: &VolumeRecord,
    span: Span,
    generation: u64,
    device: u64,
) -> Option<VolumeRecord> {
    let mut record = volume.clone();
    let failed = |growth: &Growth| span.contains(growth.generation);
    let from = record.growth.iter().copied().find(failed)?.from.max(device);
    record.growth.retain(|growth| !failed(growth));
    let mut later = record.growth.iter_mut();
    let size = match later.find(|growth| growth.generation > span.tried) {
        Some(later) => &mut later.from,
        None => &mut record.size,
    };
    if *size <= from {
        return None;
    }
    *size = from;
    record.generation = generation;
    Some(record)
}

/// A volume without what was to be made for it; nothing when that is there.
fn withdrawn(volume: &VolumeRecord, generation: u64) -> Option<VolumeRecord> {
    let mut record = VolumeRecord {
        generation,
        origin: None,
        ..volume.clone()
    };
    match volume.phase {
        VolumePhase::Creating => record.phase = VolumePhase::Deleting,
        VolumePhase::Adopting => record.phase = VolumePhase::Releasing,
        VolumePhase::Reverting => {
            let made = ThinRef {
                pool: record.pool,
                thin_id: record.thin_id,
            };
            // The one it had is destroyed only once the volume is present with the new one.
            record.thin_id = record.retired.pop_first()?.thin_id;
            record.retired = [made].into();
            record.phase = VolumePhase::Present;
        }
        VolumePhase::Present
        | VolumePhase::Replacing
        | VolumePhase::Releasing
        | VolumePhase::Clearing(_)
        | VolumePhase::Deleting => return None,
    }
    Some(record)
}

fn withdraw_snapshot(intent: &Intent, id: Uuid, span: Span, generation: u64) -> Vec<Edit> {
    let added = || withdraw_connections(intent, Connected::Snapshot(id), span, generation);
    let concerned = |snapshot: &&SnapshotRecord| span.contains(snapshot.generation);
    let Some(snapshot) = intent.snapshot(id).filter(concerned) else {
        return added();
    };
    let phase = match snapshot.phase {
        SnapshotPhase::Creating => SnapshotPhase::Deleting,
        SnapshotPhase::Adopting => SnapshotPhase::Releasing,
        SnapshotPhase::Present | SnapshotPhase::Releasing | SnapshotPhase::Deleting => {
            return added();
        }
    };
    let record = SnapshotRecord {
        phase,
        generation,
        ..snapshot.clone()
    };
    vec![Edit::put(Record::Snapshot(id, record))]
}

/// What `unit` was to be made of is not its own: it is forgotten without touching anything in
/// the kernel, whoever was promised it, and the requests for it have failed.
pub fn forget(intent: &Intent, unit: Unit, span: Span, grounds: &Grounds) -> Vec<Edit> {
    let key = match unit {
        Unit::Volume(id) => intent
            .volume(id)
            .filter(|entry| entry.connections == 0)
            .filter(|entry| match entry.record.phase {
                // In vain it is being destroyed: it never was.
                VolumePhase::Creating | VolumePhase::Deleting => true,
                VolumePhase::Adopting
                | VolumePhase::Present
                | VolumePhase::Reverting
                | VolumePhase::Replacing
                | VolumePhase::Releasing
                | VolumePhase::Clearing(_) => false,
            })
            .map(|_| Key::Volume(id)),
        Unit::Pool(_)
        | Unit::Snapshot(_)
        | Unit::Group(_)
        | Unit::GroupSnapshot(_)
        | Unit::Host(_)
        | Unit::Portal(_) => None,
    };
    let edits = key.into_iter().map(Edit::Remove).collect();
    let span = Span { applied: 0, ..span };
    concluded(intent, edits, span, &grounds.problem, &ADDING)
}

/// Hosts still use what `unit` was to take from them in `span`: they keep it, and the requests
/// to take it have failed. Nothing to do when nothing was to be taken.
///
/// When the kernel named those hosts, it is they who keep it, since whenever they were to lose
/// it; whoever else was to lose it does.
pub fn restore(intent: &Intent, unit: Unit, span: Span, grounds: &Grounds) -> Vec<Edit> {
    let of = match unit {
        Unit::Volume(id) => Connected::Volume(id),
        Unit::Snapshot(id) => Connected::Snapshot(id),
        Unit::Pool(_)
        | Unit::Group(_)
        | Unit::GroupSnapshot(_)
        | Unit::Host(_)
        | Unit::Portal(_) => {
            return Vec::new();
        }
    };
    let kept = |c: &ConnectionRecord| match grounds.users.is_empty() {
        true => span.contains(c.generation),
        false => c.generation <= span.tried && uses(intent, c, &grounds.users),
    };
    let kept: Vec<_> = intent
        .connections_of(of, None)
        .filter(|(_, c)| c.phase == ConnectionPhase::Detaching && kept(c))
        .collect();
    // Those who asked again meanwhile wait for the same end.
    let since = kept.iter().map(|(_, c)| c.generation).min();
    let asked = Span {
        applied: since.unwrap_or_default().saturating_sub(1),
        tried: intent.generation(),
    };
    // One that the kernel has: what comes back is nothing new that could be withdrawn.
    let generation = span.applied;
    let edits = kept
        .into_iter()
        .map(|(id, c)| rephased(id, c, ConnectionPhase::Wanted, generation))
        .collect();
    let operations = [Operation::ConnectionDelete];
    concluded(intent, edits, asked, &grounds.problem, &operations)
}

fn uses(intent: &Intent, connection: &ConnectionRecord, users: &Accesses) -> bool {
    let Some(host) = intent.host(connection.host).map(|entry| &entry.record) else {
        return false;
    };
    match connection.transport {
        Transport::Iscsi | Transport::Iser => host
            .iqn
            .as_ref()
            .is_some_and(|iqn| users.iscsi.contains(iqn)),
        // Nothing tells who uses what.
        Transport::Fc => false,
        Transport::NvmeTcp | Transport::NvmeRdma | Transport::NvmeFc => host
            .nqn
            .as_ref()
            .is_some_and(|nqn| users.nvme.contains(nqn)),
    }
}

fn rephased(id: Uuid, record: &ConnectionRecord, phase: ConnectionPhase, generation: u64) -> Edit {
    let record = ConnectionRecord {
        phase,
        generation,
        ..*record
    };
    Edit::put(Record::Connection(id, record))
}

/// Adds what both have in common: the clock, and the requests of `span` for `operations` on the
/// objects that are edited, which failed.
fn concluded(
    intent: &Intent,
    mut edits: Vec<Edit>,
    span: Span,
    problem: &Problem,
    operations: &[Operation],
) -> Vec<Edit> {
    if edits.is_empty() {
        return edits;
    }
    let edited: BTreeSet<Key> = edits.iter().map(Edit::key).collect();
    let undone = |request: &RequestRecord| {
        let id = request.object.id;
        let key = match request.object.kind {
            ObjectKind::Pool => Key::Pool(id),
            ObjectKind::Volume => Key::Volume(id),
            ObjectKind::Snapshot => Key::Snapshot(id),
            ObjectKind::Group => Key::Group(id),
            ObjectKind::GroupSnapshot => Key::GroupSnapshot(id),
            ObjectKind::Connection => Key::Connection(id),
            ObjectKind::Host | ObjectKind::Portal | ObjectKind::Job | ObjectKind::System => {
                return false;
            }
        };
        operations.contains(&request.operation) && edited.contains(&key)
    };
    edits.push(Edit::put(Record::Clock(intent.generation() + 1)));
    let failed = Some(Box::new(problem.clone()));
    edits.extend(
        intent
            .requests_between(span.applied, span.tried)
            .filter(|(_, request)| request.failed.is_none() && undone(request))
            .map(|(id, request)| {
                let record = RequestRecord {
                    failed: failed.clone(),
                    ..request.clone()
                };
                Edit::put(Record::Request(id, record))
            }),
    );
    edits
}

#[cfg(test)]
mod tests;
