//! The rules: what a command changes, or why it must not.
//!
//! Every function here is pure and looks only at the objects its command names, so its cost
//! does not depend on how many others there are.

pub mod adopt;
mod connection;
pub mod data;
mod fc;
mod group;
mod group_snapshot;
mod host;
mod import;
pub mod moving;
mod pool;
mod portal;
mod redundancy;
mod replace;
mod request;
mod room;
pub mod scratch;
mod snapshot;
mod system;
mod thin;
mod transfer;
mod update;
mod volume;
pub mod work;

use std::collections::BTreeSet;

use ashlar_protocol::{ObjectKind, ObjectRef, PortalAddr, Problem, ProblemCode, Transport};
use ashlar_targetd_protocol::{AddressState, DiskReport, PoolUsage, SetReport};
use uuid::Uuid;

use crate::domain::change::{Change, Decision, Edit, Reply};
use crate::domain::command::{Command, RequestContext};
use crate::domain::import::Found;
use crate::domain::intent::Intent;
use crate::domain::outcome::missing;
use crate::domain::record::{Record, RequestRecord, Unit};
use crate::domain::secrets::Random;
use crate::domain::site::Site;

pub(crate) use host::complete as complete_secrets;
pub(crate) use pool::check_spec;
pub use pool::{DEFAULT_BLOCK_SIZE, MAX_DISKS, MAX_METADATA, MIN_METADATA};
pub use replace::{check_scrub, fits_place};
pub use request::KEPT_REQUESTS;
pub(crate) use snapshot::check_taken;
pub(crate) use volume::check_present;

/// What a command is judged by besides the intent.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// Who asks.
    pub request: &'a RequestContext,
    /// Seconds since 1970.
    pub now: u64,
    /// Whether targetd is there to carry changes out.
    pub kernel: bool,
    /// The disks of the box; needed for pools only.
    pub disks: &'a [DiskReport],
    /// How full the pool is that is to grow, where that is known.
    pub usage: Option<PoolUsage>,
    /// How the sets are of the pool that is to be given another disk; none where that is not
    /// known.
    pub sets: &'a [SetReport],
    /// How full a pool was when it was last looked at, if it was.
    pub seen: &'a dyn Fn(Uuid) -> Option<PoolUsage>,
    /// Where what the thin device maps that is to be adopted ends, in bytes, or why that is not
    /// known; absent when nobody looked.
    pub thin_end: Option<&'a Result<u64, Problem>>,
    /// The catalog of the pool that is to be imported, or why there is none; absent when nobody
    /// looked.
    pub catalog: Option<&'a Result<Found, Problem>>,
    /// Transports with an address to listen on.
    pub transports: &'a BTreeSet<Transport>,
    /// The box as it is configured.
    pub site: &'a Site,
    /// How the address is at which a portal is to be, if somebody looked.
    pub address: Option<AddressState>,
    /// Whether a portal is known not to serve.
    pub lacking: &'a dyn Fn(Transport, PortalAddr) -> bool,
    /// Whether the kernel has all that the intent says of a unit.
    pub settled: &'a dyn Fn(Unit) -> bool,
    /// What keeps the kernel from having a unit, when the last attempt failed.
    pub trouble: &'a dyn Fn(Unit) -> Option<Problem>,
    /// Why it is not known that the thin ids of a pool are free from its counter on, unless it
    /// is.
    pub uncounted: &'a dyn Fn(Uuid) -> Option<Problem>,
    /// Why the kernel lacks a feature, if it is known to.
    pub missing: &'a dyn Fn(&str) -> Option<String>,
    /// Whether the kernel has all that a request asked for.
    pub ended: &'a dyn Fn(&RequestRecord) -> bool,
}

/// What one rule says; [`decide`] adds what all changes have in common.
enum Verdict {
    /// All is as asked, once the unit has settled.
    Already(Option<Unit>),
    /// What is asked for is under way.
    Underway(Unit),
    /// Records change, and then the unit.
    Changed(Vec<Edit>, Option<Unit>),
}

/// What `command` comes to.
///
/// # Errors
/// When a rule forbids it; the intent is to stay as it is.
pub fn decide(
    intent: &Intent,
    command: &Command,
    facts: &Facts<'_>,
    random: &mut dyn Random,
) -> Result<Decision, Problem> {
    if let Some(known) = intent.request(facts.request.id) {
        return request::repeated(known, facts.request);
    }
    let generation = intent.generation() + 1;
    let verdict = match command {
        Command::SystemFreeze { spec, .. } => Ok(system::freeze(intent, spec, facts.now)),
        Command::SystemThaw { .. } => Ok(system::thaw(intent)),
        _ if let Some(frozen) = intent.frozen() => Err(system::refusal(command.object(), frozen)),
        Command::PoolCreate { id, spec } => pool::create(intent, *id, spec, generation, facts),
        Command::VolumeCreate { id, spec } => volume::create(intent, *id, spec, generation, facts),
        Command::VolumeAdopt { id, spec } => adopt::adopt(intent, *id, spec, generation, facts),
        Command::VolumeRelease { id } => adopt::release(intent, *id, generation),
        Command::VolumeExtend { id, spec } => volume::extend(intent, *id, spec, generation, facts),
        Command::VolumeRevert { id, spec } => {
            snapshot::revert(intent, *id, spec, generation, facts)
        }
        Command::VolumeTransfer { id, spec } => transfer::volume(intent, *id, spec, generation),
        Command::PoolGrow { id, spec } => pool::grow(intent, *id, spec, generation, facts),
        Command::PoolReplace { id, spec } => replace::replace(intent, *id, spec, generation, facts),
        Command::PoolImport { id, spec } => {
            import::import(intent, *id, *spec, generation, facts, random)
        }
        Command::PoolDelete { id, force } => pool::delete(intent, *id, *force, generation),
        Command::PoolUpdate { id, spec } => update::pool(intent, *id, spec, generation, facts),
        Command::VolumeUpdate { id, spec } => update::volume(intent, *id, spec, generation, facts),
        Command::VolumeDelete { id } => volume::delete(intent, *id, None, generation),
        Command::VolumeClear { id, clearing } => {
            volume::delete(intent, *id, Some(*clearing), generation)
        }
        Command::VolumeDetachAll { id } => connection::delete_all(intent, *id, generation),
        Command::SnapshotCreate { id, spec } => {
            snapshot::create(intent, *id, spec, generation, facts)
        }
        Command::SnapshotAdopt { id, spec } => {
            adopt::adopt_snapshot(intent, *id, spec, generation, facts)
        }
        Command::SnapshotUpdate { id, spec } => update::snapshot(intent, *id, spec, generation),
        Command::SnapshotRelease { id } => adopt::release_snapshot(intent, *id, generation),
        Command::SnapshotDelete { id } => snapshot::delete(intent, *id, generation),
        Command::GroupCreate { id, spec } => group::create(intent, *id, spec, generation, facts),
        Command::GroupUpdate { id, update } => group::update(intent, *id, update, generation),
        Command::GroupDelete { id } => group::delete(intent, *id),
        Command::GroupSnapshotCreate { id, spec } => {
            group_snapshot::create(intent, *id, spec, generation, facts)
        }
        Command::GroupSnapshotUpdate { id, spec } => {
            update::group_snapshot(intent, *id, spec, generation)
        }
        Command::GroupSnapshotDelete { id } => group_snapshot::delete(intent, *id, generation),
        Command::PortalCreate { id, spec } => portal::create(intent, *id, spec, generation, facts),
        Command::PortalDelete { id, force } => {
            portal::delete(intent, *id, *force, generation, facts)
        }
        Command::HostCreate { id, spec } => host::create(intent, *id, spec, generation, random),
        Command::HostRotate { id, spec } => {
            host::rotate(intent, *id, spec, generation, facts, random)
        }
        Command::HostDelete { id } => host::delete(intent, *id),
        Command::ConnectionCreate { id, spec } => {
            connection::create(intent, *id, spec, generation, facts)
        }
        Command::ConnectionDelete { id, force } => {
            connection::delete(intent, *id, *force, generation)
        }
    }?;
    let (edits, unit, made) = match verdict {
        Verdict::Already(Some(unit)) if !(facts.settled)(unit) => (Vec::new(), Some(unit), false),
        Verdict::Already(_) => (Vec::new(), None, false),
        Verdict::Underway(unit) => (Vec::new(), Some(unit), false),
        Verdict::Changed(edits, unit) => (edits, unit, true),
    };
    if unit.is_some() && !facts.kernel {
        return Err(kernel_away(command.object()));
    }
    let reply = Reply {
        operation: command.operation(),
        object: command.object(),
        made,
        generation,
    };
    let change = Change {
        edits: with_request(intent, edits, unit, &reply, generation, facts),
        generation,
        unit,
    };
    Ok(Decision::Change(change, reply))
}

/// The answer to a change that would have to wait for targetd.
pub fn kernel_away(object: ObjectRef) -> Problem {
    let detail = format!("{object} cannot be changed while targetd is not answering");
    Problem::new(ProblemCode::TargetdUnavailable, detail).about(object)
}

fn with_request(
    intent: &Intent,
    mut edits: Vec<Edit>,
    unit: Option<Unit>,
    reply: &Reply,
    generation: u64,
    facts: &Facts<'_>,
) -> Vec<Edit> {
    edits.push(Edit::put(Record::Clock(generation)));
    edits.extend(request::evictions(intent, facts));
    let record = request::record(reply, unit, generation, facts);
    edits.push(Edit::put(Record::Request(facts.request.id, record)));
    edits
}

/// New things are not begun in a pool that the kernel does not have.
fn check_online(object: ObjectRef, pool: Uuid, facts: &Facts<'_>) -> Result<(), Problem> {
    match (facts.trouble)(Unit::Pool(pool)) {
        Some(trouble) => {
            let detail = format!("pool {pool} is not online: {}", trouble.detail);
            let code = match trouble.code {
                // Nothing is known of the pool but that it was not asked.
                ProblemCode::TargetdUnavailable => ProblemCode::TargetdUnavailable,
                _ => ProblemCode::WrongState,
            };
            Err(refuse(code, object, detail))
        }
        None => Ok(()),
    }
}

/// What something is being made of stays as it is until that is made.
fn check_unneeded(intent: &Intent, object: ObjectRef) -> Result<(), Problem> {
    match intent.made_of(object.id) {
        Some(made) => {
            let detail = format!("{made} is being made of {object}");
            Err(refuse(ProblemCode::Busy, object, detail))
        }
        None => Ok(()),
    }
}

fn refuse(code: ProblemCode, object: ObjectRef, detail: impl Into<String>) -> Problem {
    Problem::new(code, detail).about(object)
}

fn taken(kind: ObjectKind, id: Uuid) -> Problem {
    let object = ObjectRef { kind, id };
    let detail = format!("{object} exists and is not as asked for");
    refuse(ProblemCode::AlreadyExists, object, detail)
}

fn busy(kind: ObjectKind, id: Uuid, doing: &str) -> Problem {
    let object = ObjectRef { kind, id };
    refuse(
        ProblemCode::Busy,
        object,
        format!("{object} is being {doing}"),
    )
}

/// "1 connection", "2 connections".
fn connections(count: u64) -> String {
    match count {
        1 => "1 connection".to_owned(),
        _ => format!("{count} connections"),
    }
}

#[cfg(test)]
mod tests;
