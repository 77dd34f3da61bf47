//! Rules for bringing a volume to another pool while it is in use.
//!
//! ```text
//! begin ──► copy ──► copy … ──► stop ──► switch ──► there
//!   ▲         │                  │ go_on: it took too long
//!   └─────────┴── gave up ◄──────┘
//! ```
//!
//! `copy` takes the next copy, of which only what is not in the one before has to be brought
//! over; `stop` takes the last, and the volume does no I/O from then on. With `switch` it is
//! elsewhere for good, whatever happens: the kernel learns of it afterwards.
//!
//! Giving up, whoever does it and why, is the end of the job; see [`end`](super::work::end).

use ashlar_protocol::{MoveSpec, ObjectRef, Problem, ProblemCode};
use ashlar_targetd_protocol::{ThinId, ThinRef};
use uuid::Uuid;

use super::data::{check_bandwidth, check_idle};
use super::room::{Promise, check_fill, check_room};
use super::thin::{another_thin, check_counted, next_thin};
use super::volume::{check_present, find};
use super::{Facts, busy, check_online, check_unneeded, kernel_away, refuse};
use crate::domain::change::Edit;
use crate::domain::intent::{Intent, VolumeEntry};
use crate::domain::record::{Moving, Record, Unit, VolumeRecord};

/// The volume is to be moved by the job that begins.
///
/// # Errors
/// When it may not be; likewise below.
pub fn begin(
    intent: &Intent,
    id: Uuid,
    spec: &MoveSpec,
    generation: u64,
    facts: &Facts<'_>,
) -> Result<Vec<Edit>, Problem> {
    let object = Unit::Volume(id).object();
    check_bandwidth(object, spec.bandwidth)?;
    let entry = find(intent, id)?;
    check_movable(intent, id, entry)?;
    let volume = &entry.record;
    if volume.pool == spec.pool {
        let detail = format!("{object} is in pool {} already", spec.pool);
        return Err(refuse(ProblemCode::WrongState, object, detail));
    }
    let promise = Promise {
        pool: spec.pool,
        provisioning: volume.provisioning,
        more: volume.size,
        size: volume.size,
    };
    check_room(intent, object, &promise)?;
    check_fill(intent, object, spec.pool, facts)?;
    for pool in [volume.pool, spec.pool] {
        check_online(object, pool, facts)?;
    }
    if !facts.kernel {
        return Err(kernel_away(object));
    }
    // Where the copies are made.
    check_counted(object, volume.pool, facts)?;
    let (thin_id, counter) = next_thin(intent, object, spec.pool, facts)?;
    let moving = Moving {
        job: facts.request.id,
        to: ThinRef {
            pool: spec.pool,
            thin_id,
        },
        base: None,
        copy: None,
        still: false,
    };
    Ok(vec![counter, put(id, volume, Some(moving), generation)])
}

fn check_movable(intent: &Intent, id: Uuid, entry: &VolumeEntry) -> Result<(), Problem> {
    let object = Unit::Volume(id).object();
    check_present(id, entry)?;
    check_idle(intent, object)?;
    check_unneeded(intent, object)?;
    if !entry.record.growth.is_empty() {
        return Err(busy(object.kind, id, "extended"));
    }
    if !entry.record.retired.is_empty() {
        // What it was on before is not gone yet.
        return Err(busy(object.kind, id, "tidied up"));
    }
    match entry.snapshots {
        0 => Ok(()),
        count => {
            let detail = format!("{object} has {}, which stay in its pool", snapshots(count));
            Err(refuse(ProblemCode::InUse, object, detail))
        }
    }
}

/// Another copy is to be taken, as all of the one before was brought over; with `still`, the
/// last one.
pub fn copy(
    intent: &Intent,
    id: Uuid,
    job: Uuid,
    still: bool,
    generation: u64,
) -> Result<Vec<Edit>, Problem> {
    let (volume, moving) = of(intent, id, job)?;
    let (thin_id, counter) = another_thin(intent, Unit::Volume(id).object(), volume.pool)?;
    let next = Moving {
        base: moving.copy,
        copy: Some(thin_id),
        still,
        ..moving
    };
    let before = here(volume, moving.base);
    let mut volume = volume.clone();
    volume.retired.extend(before);
    Ok(vec![counter, put(id, &volume, Some(next), generation)])
}

/// The volume does I/O again; the last copy was not the last.
pub fn go_on(intent: &Intent, id: Uuid, job: Uuid, generation: u64) -> Result<Vec<Edit>, Problem> {
    let (volume, moving) = of(intent, id, job)?;
    let moving = Moving {
        still: false,
        ..moving
    };
    Ok(vec![put(id, volume, Some(moving), generation)])
}

/// All of the last copy was brought over, so the volume is elsewhere.
pub fn switch(intent: &Intent, id: Uuid, job: Uuid, generation: u64) -> Result<Vec<Edit>, Problem> {
    let (volume, moving) = of(intent, id, job)?;
    if !moving.still {
        let detail = format!("{} was not at rest", Unit::Volume(id).object());
        return Err(refuse(
            ProblemCode::Internal,
            Unit::Volume(id).object(),
            detail,
        ));
    }
    let mut record = volume.clone();
    let before = moving.copies().chain([volume.thin_id]);
    record.retired.extend(here(volume, before));
    record.pool = moving.to.pool;
    record.thin_id = moving.to.thin_id;
    // Nothing there shares anything with it.
    record.family = None;
    Ok(vec![put(id, &record, None, generation)])
}

/// The volume stays where it is, and what was made for the move by `job` goes. Nothing when it
/// is there, or never set out.
pub(super) fn given_up(intent: &Intent, id: Uuid, job: Uuid, generation: u64) -> Option<Edit> {
    let (volume, moving) = of(intent, id, job).ok()?;
    let copies = here(volume, moving.copies());
    let mut volume = volume.clone();
    volume.retired.extend(copies);
    volume.retired.insert(moving.to);
    Some(put(id, &volume, None, generation))
}

/// "1 snapshot", "2 snapshots".
fn snapshots(count: u64) -> String {
    match count {
        1 => "1 snapshot".to_owned(),
        _ => format!("{count} snapshots"),
    }
}

fn of(intent: &Intent, id: Uuid, job: Uuid) -> Result<(&VolumeRecord, Moving), Problem> {
    let volume = &find(intent, id)?.record;
    match volume.moving.filter(|moving| moving.job == job) {
        Some(moving) => Ok((volume, moving)),
        None => {
            let object = Unit::Volume(id).object();
            let detail = format!("{object} is not being moved by job {job}");
            Err(refuse(ProblemCode::WrongState, object, detail))
        }
    }
}

/// Thin devices of the volume's present pool.
fn here(volume: &VolumeRecord, thins: impl IntoIterator<Item = ThinId>) -> Vec<ThinRef> {
    let pool = volume.pool;
    let thins = thins.into_iter();
    thins.map(|thin_id| ThinRef { pool, thin_id }).collect()
}

fn put(id: Uuid, volume: &VolumeRecord, moving: Option<Moving>, generation: u64) -> Edit {
    let record = VolumeRecord {
        moving,
        generation,
        ..volume.clone()
    };
    Edit::put(Record::Volume(id, record))
}

/// A volume that is written faster than it can be brought over.
pub fn outrun(object: ObjectRef, left: u64) -> Problem {
    let detail = format!(
        "{object} is written faster than it is copied: {left} bytes were left, which is more than \
         hosts can wait for"
    );
    refuse(ProblemCode::Busy, object, detail)
}
