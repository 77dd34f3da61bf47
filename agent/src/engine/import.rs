//! Looking at a pool that this box does not have: what its labels say, and what its catalog.
//!
//! ```text
//! labels ─► let go of, or force? ─► sets and catalog put together ─► read ─► taken down again
//! ```
//!
//! Putting sets together writes to their disks, so nothing is before the labels say that it may be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ashlar_protocol::{ImportSpec, ObjectRef, Problem, ProblemCode};
use ashlar_targetd_protocol::{
    DesiredPool, DiskReport, MemberReport, PoolDisk, PoolFormat, Redundancy, Request, Response,
    Sectors,
};
use uuid::Uuid;

use super::catalog::chain;
use super::desk::Looked;
use super::{Engine, internal};
use crate::catalog::{DeviceMedium, read};
use crate::domain::RequestContext;
use crate::domain::import::{Found, check_released};
use crate::domain::record::{Record, Unit};
use crate::reconcile::problem_of;

/// A pool as the labels of its disks say.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Labelled {
    desired: DesiredPool,
    missing: BTreeSet<u32>,
    released: bool,
}

impl Engine {
    /// What a pool is taken over by. Nothing is looked at for who asks once more, or is refused
    /// whatever is found.
    pub(super) async fn look_at_catalog(
        &self,
        context: &RequestContext,
        id: Uuid,
        spec: ImportSpec,
    ) -> Looked {
        let alone = Arc::clone(&self.shared.importing).lock_owned().await;
        {
            let intent = self.shared.intent.read().await;
            let known = intent.request(context.id).is_some() || intent.pool(id).is_some();
            if known || intent.frozen().is_some() {
                return Looked::default();
            }
        }
        let found = self.catalog_of(id, spec.force).await;
        Looked {
            catalog: Some(Arc::new(found)),
            _alone: Some(Arc::new(alone)),
            ..Looked::default()
        }
    }

    async fn catalog_of(&self, id: Uuid, force: bool) -> Result<Found, Problem> {
        let object = Unit::Pool(id).object();
        let disks = self.disks_of(id).await?;
        let labelled = assembled(id, self.id(), &disks)?;
        check_released(object, labelled.released, force)?;
        let found = match self.apply_catalog(&labelled.desired).await {
            Ok(()) => self.read_catalog(id, labelled.clone()).await,
            Err(problem) => Err(problem),
        };
        let lowered = DesiredPool {
            absent: true,
            ..labelled.desired
        };
        // The pool takes over what stays, or the next attempt does.
        if let Err(problem) = self.apply_catalog(&lowered).await {
            tracing::warn!(pool = %id, %problem, "its catalog stays active");
        }
        found
    }

    async fn apply_catalog(&self, desired: &DesiredPool) -> Result<(), Problem> {
        let request = Request::ApplyCatalog(Box::new(desired.clone()));
        match self.shared.targetd.call(request).await {
            Ok(Response::Applied(_)) => Ok(()),
            Ok(_) => Err(internal(
                "targetd answered apply-catalog with something else",
            )),
            Err(error) => Err(problem_of(Unit::Pool(desired.id).object(), &error)),
        }
    }

    async fn read_catalog(&self, id: Uuid, labelled: Labelled) -> Result<Found, Problem> {
        let object = Unit::Pool(id).object();
        let device = self.shared.targetd.open_catalog(id, false).await;
        let device = device.map_err(|error| problem_of(object, &error))?;
        let whole = tokio::task::spawn_blocking(move || {
            let catalog = read(&mut DeviceMedium::new(device), id)
                .map_err(|error| wrong(object, chain(&error)))?;
            let entries = catalog.entries.iter();
            let records = entries.map(|(key, value)| Record::parse(key, value));
            let records = records.collect::<Result<_, _>>();
            let Labelled {
                desired,
                missing,
                released,
            } = labelled;
            Ok(Found {
                labelled: desired,
                missing,
                records: records.map_err(|error| wrong(object, chain(&error)))?,
                released,
                lost: catalog.lost,
            })
        });
        whole
            .await
            .map_err(|error| internal(&format!("reading a catalog was cut short: {error}")))?
    }

    async fn disks_of(&self, id: Uuid) -> Result<Vec<DiskReport>, Problem> {
        match self.shared.targetd.call(Request::ListDisks).await {
            Ok(Response::Disks(mut disks)) => {
                disks.retain(|disk| disk.pool == Some(id));
                Ok(disks)
            }
            Ok(_) => Err(internal("targetd answered list-disks with something else")),
            Err(error) => Err(problem_of(Unit::Pool(id).object(), &error)),
        }
    }
}

fn wrong(object: ObjectRef, detail: String) -> Problem {
    let detail = format!("{object} cannot be imported: {detail}");
    Problem::new(ProblemCode::WrongState, detail).about(object)
}

/// Disks by their place; of two with the same place, the one that has it now.
type Places<'d> = BTreeMap<u32, (&'d DiskReport, &'d MemberReport)>;

/// A pool as the labels of its disks say. A set may lack what it can do without; targetd says how
/// much that is.
fn assembled(id: Uuid, holder: Uuid, disks: &[DiskReport]) -> Result<Labelled, Problem> {
    let object = Unit::Pool(id).object();
    let places = places(object, disks)?;
    let Some((_, (_, first))) = places.first_key_value() else {
        let detail = format!("no disk of this box carries {object}");
        return Err(Problem::new(ProblemCode::NotFound, detail).about(object));
    };
    let alike = |member: &MemberReport| {
        let set = |member: &MemberReport| member.set.as_ref().map(|set| set.level);
        let says = |m: &MemberReport| (m.count, m.metadata, m.block, set(m));
        says(member) == says(first)
    };
    if let Some((disk, _)) = places.values().find(|(_, member)| !alike(member)) {
        let detail = format!("disk {} says something else of it than the others", disk.id);
        return Err(wrong(object, detail));
    }
    let missing: BTreeSet<u32> = (0..first.count.min(MAX_PLACES))
        .filter(|place| !places.contains_key(place))
        .collect();
    let (redundancy, disks) = match first.set {
        Some(_) => on_sets(object, first, &places)?,
        None => match missing.first() {
            Some(place) => {
                let detail = format!("disk number {place} of {} is missing", first.count);
                return Err(wrong(object, detail));
            }
            None => (None, plain(&places)),
        },
    };
    if disks.iter().all(|disk| disk.catalog.0 == 0) {
        let detail = "it carries no catalog: it was made by an older version".to_owned();
        return Err(wrong(object, detail));
    }
    let told = places
        .values()
        .map(|(_, member)| (member.tenure, member.holder));
    let told = told.max();
    Ok(Labelled {
        desired: DesiredPool {
            id,
            generation: 0,
            disks,
            redundancy,
            metadata: first.metadata,
            block: first.block,
            low_water_blocks: 0,
            format: PoolFormat::Never,
            absent: false,
            destroy: None,
            grows_from: None,
            holder,
            takes: true,
        },
        missing,
        released: told.is_some_and(|(count, holder)| count > 0 && holder.is_nil()),
    })
}

/// Most disks in a pool.
const MAX_PLACES: u32 = 64;

fn places<'d>(object: ObjectRef, disks: &'d [DiskReport]) -> Result<Places<'d>, Problem> {
    let turn = |member: &MemberReport| member.set.as_ref().map_or(0, |set| set.turn);
    let mut places: Places<'d> = BTreeMap::new();
    let whole = disks.iter().filter_map(|disk| {
        let member = disk.member.as_ref()?;
        member.complete.then_some((disk, member))
    });
    for (disk, member) in whole {
        if member.count > MAX_PLACES || member.index >= member.count {
            let detail = format!("disk {} says that it has {} disks", disk.id, member.count);
            return Err(wrong(object, detail));
        }
        match places.get(&member.index) {
            Some((there, same)) if turn(same) == turn(member) => {
                let detail = format!(
                    "disks {} and {} are both number {} of it",
                    there.id, disk.id, member.index
                );
                return Err(wrong(object, detail));
            }
            // The other one gave up its place.
            Some((_, later)) if turn(later) > turn(member) => {}
            _ => drop(places.insert(member.index, (disk, member))),
        }
    }
    Ok(places)
}

fn plain(places: &Places<'_>) -> Vec<PoolDisk> {
    let disks = places.values().map(|(disk, member)| PoolDisk {
        catalog: member.catalog,
        ..PoolDisk::new(disk.id.clone(), member.metadata_room)
    });
    disks.collect()
}

/// The sets, in their order, with a name that no disk has where one is missing. The room on a set is
/// told by all of its disks, and is that of its first one.
fn on_sets(
    object: ObjectRef,
    first: &MemberReport,
    places: &Places<'_>,
) -> Result<(Option<Redundancy>, Vec<PoolDisk>), Problem> {
    let torn = |place: u32| wrong(object, format!("disk number {place} is of another set"));
    let mut disks = Vec::new();
    let mut sets = Vec::new();
    let mut begins = 0;
    while begins < first.count {
        let of_set = places.range(begins..).next();
        let Some((at, (_, told))) = of_set else {
            return Err(wrong(
                object,
                format!("the set of disk number {begins} is missing"),
            ));
        };
        let Some(set) = told.set.as_ref().filter(|set| {
            let ends = begins.saturating_add(set.width);
            set.number as usize == sets.len() && set.width > 0 && *at < ends && ends <= first.count
        }) else {
            return Err(torn(*at));
        };
        for place in begins..begins + set.width {
            let room = Sectors(if place == begins {
                told.metadata_room.0
            } else {
                0
            });
            let catalog = Sectors(if place == begins { told.catalog.0 } else { 0 });
            let disk = match places.get(&place) {
                Some((disk, member)) => {
                    let same = member.set.as_ref().is_some_and(|of| {
                        (of.number, of.width, of.leg) == (set.number, set.width, set.leg)
                    });
                    let rooms = (member.metadata_room, member.catalog);
                    if !same || rooms != (told.metadata_room, told.catalog) {
                        return Err(torn(place));
                    }
                    PoolDisk {
                        turn: member.set.as_ref().map_or(0, |set| set.turn),
                        ..PoolDisk::new(disk.id.clone(), room)
                    }
                }
                None => {
                    let name = format!("serial-missing-{place}-of-{}", object.id);
                    let name = name.parse().map_err(|_| torn(place))?;
                    PoolDisk::new(name, room)
                }
            };
            disks.push(PoolDisk { catalog, ..disk });
        }
        sets.push(set.width);
        begins += set.width;
    }
    let level = first.set.as_ref().map(|set| set.level);
    Ok((level.map(|level| Redundancy { level, sets }), disks))
}
