//! Pools on disks that this box does not have yet: which there are, and what their catalogs say.

use std::collections::BTreeMap;

use ashlar_protocol::{ImportablePool, ObjectRef, Page, Problem, ProblemCode};
use ashlar_targetd_protocol::{
    DesiredPool, DiskReport, MemberReport, PoolDisk, PoolFormat, Redundancy, Request, Response,
    Sectors,
};
use uuid::Uuid;

use super::catalog::was_exported;
use super::{Engine, internal};
use crate::catalog::{DeviceMedium, read};
use crate::domain::import::Found;
use crate::domain::record::{Record, Unit};
use crate::reconcile::problem_of;

impl Engine {
    /// The pools that disks carry and this box does not have.
    ///
    /// # Errors
    /// When the disks cannot be listed.
    pub async fn importable(&self) -> Result<Page<ImportablePool>, Problem> {
        let disks = self.list_disks().await?;
        let intent = self.shared.intent.read().await;
        let mut pools: BTreeMap<Uuid, Vec<&DiskReport>> = BTreeMap::new();
        for disk in &disks {
            if let Some(pool) = disk.pool.filter(|pool| intent.pool(*pool).is_none()) {
                pools.entry(pool).or_default().push(disk);
            }
        }
        let items = pools.into_iter().map(|(id, disks)| {
            let put_together = assembled(id, &disks);
            ImportablePool {
                id,
                disks: disks.iter().map(|disk| disk.id.clone()).collect(),
                problem: put_together.err().map(|problem| problem.detail),
            }
        });
        Ok(Page {
            items: items.collect(),
            next: None,
        })
    }

    /// What the catalog of a pool says, of which this box has nothing but the disks.
    pub(super) async fn look_at_catalog(&self, id: Uuid) -> Result<Found, Problem> {
        let disks = self.list_disks().await?;
        let own: Vec<&DiskReport> = disks.iter().filter(|d| d.pool == Some(id)).collect();
        let desired = assembled(id, &own)?;
        self.apply_catalog(&desired).await?;
        let found = self.read_catalog(id).await;
        let lowered = DesiredPool {
            absent: true,
            ..desired.clone()
        };
        // The pool takes over what stays, or the next attempt does.
        if let Err(problem) = self.apply_catalog(&lowered).await {
            tracing::warn!(pool = %id, %problem, "its catalog stays active");
        }
        let found = found?;
        same_disks(Unit::Pool(id).object(), &desired, &found)?;
        Ok(found)
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

    async fn read_catalog(&self, id: Uuid) -> Result<Found, Problem> {
        let object = Unit::Pool(id).object();
        let device = self.shared.targetd.open_catalog(id, false).await;
        let device = device.map_err(|error| problem_of(object, &error))?;
        let whole = tokio::task::spawn_blocking(move || {
            let mut catalog = read(&mut DeviceMedium::new(device), id)
                .map_err(|error| wrong(object, super::catalog::chain(&error)))?;
            let exported = was_exported(&mut catalog.entries);
            let records = catalog
                .entries
                .iter()
                .map(|(key, value)| Record::parse(key, value));
            let records: Result<_, _> = records.collect();
            let records = records.map_err(|error| wrong(object, super::catalog::chain(&error)))?;
            Ok(Found {
                records,
                exported,
                lost: catalog.lost,
            })
        });
        whole
            .await
            .map_err(|error| internal(&format!("reading a catalog was cut short: {error}")))?
    }

    async fn list_disks(&self) -> Result<Vec<DiskReport>, Problem> {
        match self.shared.targetd.call(Request::ListDisks).await {
            Ok(Response::Disks(disks)) => Ok(disks),
            Ok(_) => Err(internal("targetd answered list-disks with something else")),
            Err(error) => {
                let code = ProblemCode::TargetdUnavailable;
                Err(Problem::new(code, error.to_string()))
            }
        }
    }
}

fn wrong(object: ObjectRef, detail: String) -> Problem {
    Problem::new(ProblemCode::WrongState, detail).about(object)
}

/// A pool as the labels of its disks say, with none missing.
fn assembled(id: Uuid, disks: &[&DiskReport]) -> Result<DesiredPool, Problem> {
    let object = Unit::Pool(id).object();
    let mut places: BTreeMap<u32, (&DiskReport, &MemberReport)> = BTreeMap::new();
    let turn = |member: &MemberReport| member.set.as_ref().map_or(0, |set| set.turn);
    for disk in disks {
        let Some(member) = disk.member.as_ref().filter(|member| member.complete) else {
            let detail = format!("disk {} is an unfinished part of {object}", disk.id);
            return Err(wrong(object, detail));
        };
        match places.get(&member.index) {
            Some((there, same)) if turn(same) == turn(member) => {
                let (place, one) = (member.index, &there.id);
                let detail = format!(
                    "disks {one} and {} are both number {place} of {object}",
                    disk.id
                );
                return Err(wrong(object, detail));
            }
            // The other one gave up its place.
            Some((_, later)) if turn(later) > turn(member) => {}
            _ => drop(places.insert(member.index, (disk, member))),
        }
    }
    let Some((_, (_, first))) = places.first_key_value() else {
        let detail = format!("no disk of this box carries {object}");
        return Err(Problem::new(ProblemCode::NotFound, detail).about(object));
    };
    if let Some(missing) = (0..first.count).find(|place| !places.contains_key(place)) {
        let detail = format!(
            "disk number {missing} of {} of {object} is missing",
            first.count
        );
        return Err(wrong(object, detail));
    }
    let alike = |member: &MemberReport| {
        (member.count, member.metadata, member.block) == (first.count, first.metadata, first.block)
    };
    if let Some((disk, _)) = places.values().find(|(_, member)| !alike(member)) {
        let detail = format!(
            "disk {} says something else of {object} than the others",
            disk.id
        );
        return Err(wrong(object, detail));
    }
    let level = first.set.as_ref().map(|set| set.level);
    let mut sets = BTreeMap::new();
    for set in places
        .values()
        .filter_map(|(_, member)| member.set.as_ref())
    {
        sets.insert(set.number, set.width);
    }
    Ok(DesiredPool {
        id,
        generation: 0,
        disks: pool_disks(&places),
        redundancy: level.map(|level| Redundancy {
            level,
            sets: sets.into_values().collect(),
        }),
        metadata: first.metadata,
        block: first.block,
        low_water_blocks: 0,
        format: PoolFormat::Never,
        absent: false,
        destroy: None,
        grows_from: None,
    })
}

/// The room on a set is told by all of its disks, and is that of its first one.
fn pool_disks(places: &BTreeMap<u32, (&DiskReport, &MemberReport)>) -> Vec<PoolDisk> {
    let mut before = None;
    let mut disks = Vec::new();
    for (disk, member) in places.values() {
        let set = member.set.as_ref().map(|set| set.number);
        let first = set.is_none() || before != set;
        before = set;
        let none = Sectors(0);
        let room = if first { member.metadata_room } else { none };
        disks.push(PoolDisk {
            catalog: if first { member.catalog } else { none },
            turn: member.set.as_ref().map_or(0, |set| set.turn),
            ..PoolDisk::new(disk.id.clone(), room)
        });
    }
    disks
}

/// What the catalog says of the pool's disks is what the disks say.
fn same_disks(object: ObjectRef, desired: &DesiredPool, found: &Found) -> Result<(), Problem> {
    let mut pools = found.records.iter().filter_map(|record| match record {
        Record::Pool(id, pool) if *id == object.id => Some(pool),
        _ => None,
    });
    let Some(pool) = pools.next() else {
        return Ok(());
    };
    let labelled = desired.disks.iter().map(|disk| &disk.id);
    let differs = pool
        .spec
        .disks
        .iter()
        .zip(labelled)
        .find(|(says, is)| says != is);
    match differs {
        Some((says, is)) => {
            let detail = format!("the catalog of {object} names disk {says}, where disk {is} is");
            Err(wrong(object, detail))
        }
        None if pool.spec.disks.len() != desired.disks.len() => {
            let (says, is) = (pool.spec.disks.len(), desired.disks.len());
            let detail = format!("the catalog of {object} names {says} disks, and there are {is}");
            Err(wrong(object, detail))
        }
        None => Ok(()),
    }
}
