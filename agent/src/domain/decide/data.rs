//! Rules for moving what volumes and snapshots hold, and for what has to wait meanwhile.
//!
//! ```text
//! a volume    written or read: alone, and nothing else happens to it
//! a snapshot  read, by any number at once: it is not deleted
//! ```

use ashlar_protocol::volume::MAX_SIZE;
use ashlar_protocol::{ObjectKind, ObjectRef, Problem, ProblemCode};
use uuid::Uuid;

use super::scratch::{self, Scratch};
use super::{Facts, check_unneeded, connections, refuse, snapshot, volume};
use crate::domain::change::Edit;
use crate::domain::intent::Intent;
use crate::domain::record::Unit;

/// What is transferred begins, and unless it is the last ends, at multiples of so many bytes.
pub const ALIGNMENT: u64 = 4096;

/// Least bytes a second that work may be kept to: less would look like a peer that is gone.
pub const LEAST_BANDWIDTH: u64 = 64 << 10;

/// Whether work may be kept to so many bytes a second.
///
/// # Errors
/// When it would hardly ever come to an end.
pub fn check_bandwidth(object: ObjectRef, bandwidth: Option<u64>) -> Result<(), Problem> {
    match bandwidth {
        Some(bandwidth) if bandwidth < LEAST_BANDWIDTH => {
            let detail =
                format!("bandwidth {bandwidth} is less than {LEAST_BANDWIDTH} bytes a second");
            Err(refuse(ProblemCode::OutOfRange, object, detail))
        }
        _ => Ok(()),
    }
}

/// Whether a volume may be written to from `offset` on.
///
/// # Errors
/// When it may not; likewise below.
pub fn import(intent: &Intent, id: Uuid, offset: u64) -> Result<(), Problem> {
    let size = free_volume(intent, id)?;
    let object = Unit::Volume(id).object();
    check_unneeded(intent, object)?;
    check_offset(object, offset, size)
}

/// What an image is kept on until it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageRoom {
    /// The volume that is made for it.
    pub scratch: Uuid,
    /// How long it is, if that is known.
    pub length: Option<u64>,
}

/// Makes room for an image that is to be written to a volume, in the volume's pool.
pub fn import_image(
    intent: &Intent,
    id: Uuid,
    room: ImageRoom,
    generation: u64,
    facts: &Facts<'_>,
) -> Result<Vec<Edit>, Problem> {
    import(intent, id, 0)?;
    let object = Unit::Volume(id).object();
    let record = &volume::find(intent, id)?.record;
    let size = match room.length {
        Some(0) => {
            let detail = format!("{object}: the body is empty, which is no image");
            return Err(refuse(ProblemCode::MalformedRequest, object, detail));
        }
        Some(length) => length,
        None => usual_length(record.size),
    };
    let scratch = Scratch {
        id: room.scratch,
        pool: record.pool,
        size,
    };
    scratch::create(intent, object, &scratch, generation, facts)
}

/// As long as the image of a disk of so many bytes is, unless it holds snapshots as well.
fn usual_length(size: u64) -> u64 {
    size.saturating_add(size / 8 + (64 << 20)).min(MAX_SIZE)
}

/// Whether what an object holds may be read from `offset` on.
pub fn export(intent: &Intent, object: ObjectRef, offset: u64) -> Result<(), Problem> {
    let size = match object.kind {
        ObjectKind::Volume => free_volume(intent, object.id)?,
        _ => {
            let record = snapshot::find(intent, object.id)?;
            snapshot::check_taken(object.id, record)?;
            record.size
        }
    };
    check_offset(object, offset, size)
}

/// The size of a volume that nobody reaches.
fn free_volume(intent: &Intent, id: Uuid) -> Result<u64, Problem> {
    let object = Unit::Volume(id).object();
    let entry = volume::find(intent, id)?;
    volume::check_present(id, entry)?;
    if entry.connections > 0 {
        let count = connections(entry.connections);
        let detail = format!("{object} has {count}; a snapshot of it can be read");
        return Err(refuse(ProblemCode::InUse, object, detail));
    }
    check_idle(intent, object)?;
    Ok(entry.record.size)
}

fn check_offset(object: ObjectRef, offset: u64, size: u64) -> Result<(), Problem> {
    if !offset.is_multiple_of(ALIGNMENT) {
        let detail = format!("offset {offset} is not a multiple of {ALIGNMENT}");
        return Err(refuse(ProblemCode::OutOfRange, object, detail));
    }
    if offset > size {
        let detail = format!("offset {offset} is past the {size} bytes of {object}");
        return Err(refuse(ProblemCode::OutOfRange, object, detail));
    }
    Ok(())
}

/// Hosts come and go while a volume moves, but for the moment in which it rests.
pub(super) fn check_reachable(intent: &Intent, id: Uuid) -> Result<(), Problem> {
    let moving = intent.volume(id).and_then(|entry| entry.record.moving);
    match moving {
        Some(moving) if !moving.still => Ok(()),
        _ => check_idle(intent, Unit::Volume(id).object()),
    }
}

/// What long work is done on is left alone.
pub fn check_idle(intent: &Intent, object: ObjectRef) -> Result<(), Problem> {
    match intent.work_on(object) {
        Some(job) => {
            let detail = format!("job {job} is at work on {object}");
            Err(refuse(ProblemCode::Busy, object, detail))
        }
        None => Ok(()),
    }
}
