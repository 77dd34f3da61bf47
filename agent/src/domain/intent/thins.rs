//! Which thin devices records name, and which of them have a common origin.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_protocol::ObjectRef;
use ashlar_targetd_protocol::{ThinId, ThinRef};
use uuid::Uuid;

use crate::domain::record::VolumeRecord;

/// Thin devices by pool and id, and by family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Thins {
    owners: BTreeMap<ThinRef, ObjectRef>,
    families: BTreeSet<(Uuid, ThinRef)>,
}

impl Thins {
    pub(super) fn owner(&self, thin: ThinRef) -> Option<ObjectRef> {
        self.owners.get(&thin).copied()
    }

    /// Thin devices of a pool, in order.
    pub(super) fn of_pool(&self, pool: Uuid) -> impl Iterator<Item = ThinId> + '_ {
        let thins = self.owners.range(first(pool)..);
        thins
            .take_while(move |(thin, _)| thin.pool == pool)
            .map(|(thin, _)| thin.thin_id)
    }

    /// Those of them in a family.
    pub(super) fn family(&self, family: Uuid, pool: Uuid) -> impl Iterator<Item = ThinId> + '_ {
        let thins = self.families.range((family, first(pool))..);
        thins
            .take_while(move |(of, thin)| *of == family && thin.pool == pool)
            .map(|(_, thin)| thin.thin_id)
    }

    pub(super) fn put(
        &mut self,
        owner: ObjectRef,
        family: Uuid,
        thins: impl IntoIterator<Item = ThinRef>,
    ) {
        for thin in thins {
            self.owners.insert(thin, owner);
            self.families.insert((family, thin));
        }
    }

    pub(super) fn remove(
        &mut self,
        owner: ObjectRef,
        family: Uuid,
        thins: impl IntoIterator<Item = ThinRef>,
    ) {
        for thin in thins {
            if self.owner(thin) == Some(owner) {
                self.owners.remove(&thin);
            }
            self.families.remove(&(family, thin));
        }
    }
}

fn first(pool: Uuid) -> ThinRef {
    let thin_id = ThinId::try_from(0).expect("0 is a thin id");
    ThinRef { pool, thin_id }
}

/// All that a volume has: its own, those it retires, and those it moves with.
pub(super) fn of_volume(record: &VolumeRecord) -> impl Iterator<Item = ThinRef> + '_ {
    let own = record.thin();
    let copies = record.moving.into_iter().flat_map(move |moving| {
        let copy = move |thin_id| ThinRef { thin_id, ..own };
        moving.copies().map(copy).chain([moving.to])
    });
    record.retired.iter().copied().chain(copies).chain([own])
}
