//! Portals: looking at them, and at the addresses of the box.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ashlar_protocol::{
    Check, Connection, HealthStatus, ObjectKind, Page, Portal, PortalAddr, PortalSpec, PortalState,
    Problem, Transport,
};
use ashlar_targetd_protocol::{AddressState, Request, Response};
use uuid::Uuid;

use super::Engine;
use super::health::check;
use super::page::{PageQuery, after, page};
use super::watch::Watcher;
use crate::domain::outcome::missing;
use crate::domain::portals::configured;
use crate::domain::record::{ConnectionPhase, Unit};
use crate::domain::view;
use crate::domain::{Intent, Outcome, Site};
use crate::reconcile::{Desk, Lacking};
use crate::targetd::Targetd;

impl Engine {
    /// A portal, asked for or of the configuration file.
    ///
    /// # Errors
    /// When it does not exist.
    pub async fn portal(&self, id: Uuid) -> Result<Portal, Problem> {
        let mut all = self.all_portals().await;
        all.remove(&id)
            .ok_or_else(|| missing(ObjectKind::Portal, id))
    }

    /// Portals in order of id.
    ///
    /// # Errors
    /// When the cursor is not one of ours.
    pub async fn portals(&self, query: &PageQuery) -> Result<Page<Portal>, Problem> {
        let cursor = query.cursor()?;
        let all = self.all_portals().await;
        Ok(page(query, after(&all, cursor), |_, portal: &Portal| {
            portal.clone()
        }))
    }

    /// There are a handful.
    async fn all_portals(&self) -> BTreeMap<Uuid, Portal> {
        let intent = self.shared.intent.read().await;
        let of_file = configured(&self.shared.site, &intent).into_iter();
        let of_file = of_file.map(|(id, transport, address)| Portal {
            id,
            address,
            transport,
            configured: true,
            state: PortalState::Ready,
            detail: None,
            generation: 0,
        });
        let asked = intent.portals().iter();
        let asked = asked.map(|(id, record)| view::portal(*id, record));
        let all = of_file.chain(asked);
        all.map(|portal| (portal.id, self.as_it_is(portal)))
            .collect()
    }

    /// A portal, with what the kernel makes of it.
    fn as_it_is(&self, mut portal: Portal) -> Portal {
        if portal.state != PortalState::Ready {
            return portal;
        }
        let addresses = self.shared.reconciler.addresses();
        match addresses.lacking(portal.transport, portal.address) {
            Some(Lacking::Address) => {
                let ip = portal.address.socket().ip();
                portal.state = PortalState::Waiting;
                portal.detail = Some(format!("no interface of this box has {ip}"));
            }
            Some(Lacking::Refused(why)) => {
                portal.state = PortalState::Failed;
                portal.detail = Some(why);
            }
            None if !self
                .shared
                .ledger
                .has(Unit::Portal(portal.id), portal.generation) =>
            {
                portal.state = PortalState::Adding;
            }
            None => {}
        }
        portal
    }

    /// An answer, with what the kernel makes of a portal now.
    pub(super) async fn with_state(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Portal { portal, created } => {
                self.shared.watcher.look_at_addresses().await;
                Outcome::Portal {
                    portal: self.as_it_is(portal),
                    created,
                }
            }
            Outcome::Connection {
                connection,
                created,
            } => Outcome::Connection {
                connection: self.best_first(connection),
                created,
            },
            other => other,
        }
    }

    /// A connection with the portals last that do not serve: many hosts come by the first alone.
    pub(super) fn best_first(&self, mut connection: Connection) -> Connection {
        let transport = connection.transport;
        let addresses = self.shared.reconciler.addresses();
        let iscsi = connection
            .iscsi
            .iter_mut()
            .map(|access| &mut access.portals);
        let nvme = connection.nvme.iter_mut().map(|access| &mut access.portals);
        for portals in iscsi.chain(nvme) {
            portals.sort_by_key(|at| addresses.lacking(transport, *at).is_some());
        }
        connection
    }

    /// How the address is at which a portal is to be, if that can be told.
    pub(super) async fn look_at_address(&self, spec: PortalSpec) -> Option<AddressState> {
        self.let_go_of_usual(spec.transport).await;
        let PortalSpec { transport, address } = spec;
        let request = Request::TryAddress { transport, address };
        let Ok(Response::Address(state)) = self.shared.targetd.call(request).await else {
            return None;
        };
        Some(state)
    }

    /// The kernel keeps an iSCSI address open once a volume was served there, and the usual ones
    /// overlap with any other. They are let go of when nothing is connected that would miss them;
    /// if the portal is not made after all, the next volume has them opened again.
    async fn let_go_of_usual(&self, transport: Transport) {
        let usual = {
            let intent = self.shared.intent.read().await;
            let site = self.shared.site.as_of(&intent);
            let unused = !intent
                .connections()
                .values()
                .any(|c| !c.transport.is_nvme());
            match unused && site.iscsi.usual && transport == Transport::Iscsi {
                true => site.iscsi.portals,
                false => BTreeSet::new(),
            }
        };
        for address in usual {
            let request = Request::ReleaseAddress { address };
            if let Err(error) = self.shared.targetd.call(request).await {
                tracing::debug!(%address, %error, "not let go of");
            }
        }
    }

    /// How the portals are.
    pub(super) async fn portals_check(&self) -> Check {
        let mut lacking = self.all_portals().await;
        lacking
            .retain(|_, portal| matches!(portal.state, PortalState::Waiting | PortalState::Failed));
        let detail = lacking.values().next().map(|first| {
            let why = first.detail.as_deref().unwrap_or("it cannot be had");
            format!(
                "{} portals do not serve, first {} at {}: {why}",
                lacking.len(),
                first.transport,
                first.address
            )
        });
        let status = match detail.is_some() || self.is_shut().await {
            true => HealthStatus::Degraded,
            false => HealthStatus::Ok,
        };
        let shut = "hosts have no portal to come by, as the last was taken away by force";
        let detail = detail.or((status != HealthStatus::Ok).then(|| shut.to_owned()));
        check("portals", status, detail)
    }

    /// Whether something is connected over a transport of which no portal is left.
    async fn is_shut(&self) -> bool {
        let intent = self.shared.intent.read().await;
        let site = self.shared.site.as_of(&intent);
        let shut: BTreeSet<Transport> = Transport::ALL
            .into_iter()
            .filter(|transport| site.is_shut(*transport))
            .collect();
        !shut.is_empty()
            && intent.connections().values().any(|connection| {
                connection.phase == ConnectionPhase::Wanted && shut.contains(&connection.transport)
            })
    }
}

impl Watcher {
    /// Looks at the addresses of the box whenever they may have changed, and at first.
    pub(super) async fn watch_addresses(&self) {
        loop {
            self.look_at_addresses().await;
            tokio::select! {
                () = self.addresses.notified() => {}
                () = self.reconciler.addresses().doubted() => {}
            }
        }
    }

    /// Looks once. One after the other, so that what was seen last is what is kept.
    async fn look_at_addresses(&self) {
        let _alone = self.looking.lock().await;
        let portals = places(&self.site, &*self.intent.read().await);
        let asked = self.reconciler.addresses().of_interest(portals);
        // That nobody can be asked is no news of an address.
        if let Some(absent) = absent(&self.targetd, asked).await
            && self.reconciler.addresses().found(absent)
        {
            // Also what cannot be served at all without the address that came.
            self.ledger.wake_troubled();
        }
    }

    /// Has that applied once more which lacked an address that may be had now.
    pub(super) async fn serve_again(&self) {
        let desk: Arc<dyn Desk> = Arc::new(self.desk.clone());
        loop {
            self.reconciler.addresses().news().await;
            for unit in self.reconciler.addresses().take_again() {
                self.reconciler.doubt(unit, &desk).await;
            }
        }
    }
}

/// Where the box is to be served.
fn places(site: &Site, intent: &Intent) -> BTreeSet<PortalAddr> {
    let site = site.as_of(intent);
    let all = Transport::ALL.into_iter();
    all.flat_map(|transport| site.listen(transport).portals.clone())
        .collect()
}

async fn absent(targetd: &Targetd, asked: BTreeSet<IpAddr>) -> Option<BTreeSet<IpAddr>> {
    match targetd.call(Request::FindAddresses(asked)).await {
        Ok(Response::Absent(absent)) => Some(absent),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(%error, "the box's addresses were not looked at");
            None
        }
    }
}
