//! A portal: there once everything that is connected over its transport is served there, gone once
//! nothing is.
//!
//! Volumes and snapshots are wanted together with the portal and have drivers of their own; the
//! portal's waits for them. What is in trouble for its own reasons does not hold up a portal that
//! comes; one that goes is gone when it is gone everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use ashlar_protocol::{PortalAddr, Progress, Transport};
use ashlar_targetd_protocol::{Request, Response};
use uuid::Uuid;

use super::attempt::End;
use super::driver::Reconciler;
use super::failure::trouble;
use super::host::stuck;
use crate::domain::record::{PortalPhase, PortalRecord, Unit};
use crate::domain::settle::Span;
use crate::targetd::CallError;

/// How far portals are that come or go.
#[derive(Debug, Default)]
pub(super) struct Underway(Mutex<BTreeMap<Uuid, Progress>>);

impl Underway {
    fn set(&self, portal: Uuid, progress: Option<Progress>) {
        let mut all = self.0.lock().expect("no holder of this lock panics");
        match progress {
            Some(progress) => all.insert(portal, progress),
            None => all.remove(&portal),
        };
    }

    fn of(&self, portal: Uuid) -> Option<Progress> {
        let all = self.0.lock().expect("no holder of this lock panics");
        all.get(&portal).copied()
    }
}

impl Reconciler {
    /// How many volumes and snapshots a portal has come to, or gone from.
    pub fn portal_progress(&self, unit: Unit) -> Option<Progress> {
        match unit {
            Unit::Portal(id) => self.shared.portals.of(id),
            _ => None,
        }
    }

    /// Waits for what is connected over a portal's transport. `None` when the engine stops before
    /// that.
    pub(super) async fn attempt_portal(&self, portal: Uuid) -> Option<(Span, End)> {
        let (span, record, units) = {
            let intent = self.shared.intent.read().await;
            let span = self.shared.ledger.begin(Unit::Portal(portal));
            let Some(record) = intent.portal(portal).copied() else {
                return Some((span, End::Forgotten));
            };
            let connections = intent.connections().values();
            let over = connections.filter(|c| c.transport == record.spec.transport);
            let units: BTreeSet<Unit> = over.map(|c| Unit::of(c.of)).collect();
            (span, record, units)
        };
        let total = Some(units.len() as u64);
        for (done, unit) in (0..).zip(units) {
            self.shared
                .portals
                .set(portal, Some(Progress { done, total }));
            if let Err(end) = self.followed(unit, portal, &record, span).await {
                self.shared.portals.set(portal, None);
                return Some((span, end));
            }
        }
        self.shared.portals.set(portal, None);
        if record.phase == PortalPhase::Removing
            && let Err(error) = self.let_go(&record).await
        {
            let trouble = trouble(Unit::Portal(portal).object(), &error);
            return Some((span, End::Failed(trouble)));
        }
        // Nobody is told that it is done when all that ended is the waiting.
        (!*self.shared.stopped.borrow()).then_some((span, End::Settled(None)))
    }

    async fn followed(
        &self,
        unit: Unit,
        portal: Uuid,
        record: &PortalRecord,
        span: Span,
    ) -> Result<(), End> {
        let ledger = &self.shared.ledger;
        match record.phase {
            PortalPhase::Present => ledger.attempted(unit).await,
            PortalPhase::Removing => {
                // A closed channel means that no more was wanted of it, or that the engine is
                // stopping.
                if let Ok(Err(problem)) = ledger.wait(unit, span.tried).await {
                    return Err(End::Failed(stuck(Unit::Portal(portal), &problem)));
                }
            }
        }
        Ok(())
    }

    /// The kernel keeps an iSCSI address open for the volumes to come. None will.
    async fn let_go(&self, record: &PortalRecord) -> Result<(), CallError> {
        let (transport, address) = (record.spec.transport, record.spec.address);
        if transport.is_nvme() || self.is_iscsi_address(address).await {
            return Ok(());
        }
        let request = Request::ReleaseAddress { address };
        match self.shared.targetd.call(request).await? {
            Response::Released => Ok(()),
            _ => Err(CallError::Unexpected {
                request: "release-address",
            }),
        }
    }

    async fn is_iscsi_address(&self, address: PortalAddr) -> bool {
        let site = self.shared.site.as_of(&*self.shared.intent.read().await);
        let both = [Transport::Iscsi, Transport::Iser];
        both.iter()
            .any(|transport| site.listen(*transport).portals.contains(&address))
    }
}
