//! How the box is.

use std::collections::BTreeMap;

use ashlar_protocol::{
    Check, Health, HealthStatus, Pool, PoolLevel, PoolState, Transport, Watermarks,
};
use ashlar_targetd_protocol::{Request, Response};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::Engine;
use super::keeper::StoreHealth;
use super::watch::LOOKS;
use crate::domain::fill::percents;
use crate::domain::view::{self, Look};
use crate::domain::{Intent, members, spares};
use crate::targetd::Link;

impl Engine {
    /// How the box is: the store, targetd, the kernel's features, each pool, what could not be
    /// reconciled, and what others have found.
    pub async fn health(&self, found: impl IntoIterator<Item = Check>) -> Health {
        let mut checks = vec![self.store_check().await];
        checks.extend(self.targetd_checks().await);
        checks.push(self.portals_check().await);
        checks.extend(self.pool_checks().await);
        checks.push(self.reconcile_check());
        checks.extend(self.frozen_check().await);
        checks.extend(self.audit_check());
        checks.extend(found);
        let status = checks.iter().map(|check| check.status).max();
        Health {
            status: status.unwrap_or(HealthStatus::Ok),
            checks,
        }
    }

    async fn store_check(&self) -> Check {
        let (status, detail) = match self.shared.desk.health().await {
            Some(StoreHealth { trouble: None }) => (HealthStatus::Ok, None),
            Some(StoreHealth { trouble }) => (HealthStatus::Degraded, trouble),
            None => (HealthStatus::Failed, Some("the store is closed".to_owned())),
        };
        check("store", status, detail)
    }

    async fn targetd_checks(&self) -> Vec<Check> {
        let site = self.shared.site.as_of(&*self.shared.intent.read().await);
        let link = self.shared.targetd.link();
        let link = link.borrow();
        match &*link {
            Link::Away(why) => vec![check("targetd", HealthStatus::Degraded, Some(why.clone()))],
            Link::Up(greeting) => {
                let mut checks = vec![check("targetd", HealthStatus::Ok, None)];
                // Nobody misses a transport that is not served.
                let unused = |name: &str| {
                    let transport = name.parse::<Transport>();
                    transport.is_ok_and(|transport| !site.serves(transport))
                };
                let features = greeting.features.iter();
                let needed = features.filter(|feature| !unused(&feature.name));
                checks.extend(needed.map(|feature| {
                    let status = match feature.problem {
                        None => HealthStatus::Ok,
                        Some(_) => HealthStatus::Degraded,
                    };
                    check(
                        &format!("kernel/{}", feature.name),
                        status,
                        feature.problem.clone(),
                    )
                }));
                checks
            }
        }
    }

    async fn pool_checks(&self) -> Vec<Check> {
        let ids: Vec<_> = {
            let intent = self.shared.intent.read().await;
            intent.pools().keys().copied().collect()
        };
        // All at once, but for what targetd takes: one that hangs does not hold up the others.
        let mut looks = JoinSet::new();
        let mut checks = BTreeMap::new();
        for id in ids {
            if looks.len() >= LOOKS {
                checks.extend(looks.join_next().await.and_then(Result::ok).flatten());
            }
            let engine = self.clone();
            looks.spawn(async move { Some((id, engine.pool_check(id).await?)) });
        }
        while let Some(look) = looks.join_next().await {
            checks.extend(look.ok().flatten());
        }
        checks.into_values().collect()
    }

    /// How a pool is, if it is still there.
    async fn pool_check(&self, id: Uuid) -> Option<Check> {
        let look = self.look_at_pool(id).await;
        let spares = self.spares_trouble(id).await;
        let intent = self.shared.intent.read().await;
        let entry = intent.pool(id)?;
        let members = match &look {
            Look::Report(report) => members::trouble(&entry.record, report),
            Look::Busy | Look::Gone => None,
        };
        let pool = view::pool(id, entry, &look);
        let degraded = |detail: &str| (HealthStatus::Degraded, Some(detail.to_owned()));
        let (status, detail) = match pool.state {
            PoolState::Online if let Some(why) = self.shared.ledger.uncounted(id) => {
                degraded(&format!("the pool takes nothing new: {}", why.detail))
            }
            PoolState::Online if let Some(how) = filling(&pool, &look) => degraded(&how),
            PoolState::Online | PoolState::Creating | PoolState::Deleting => {
                (HealthStatus::Ok, None)
            }
            PoolState::Offline => degraded("the pool is offline"),
            PoolState::Degraded => degraded("the pool refuses new blocks"),
        };
        let catalog = self.shared.catalogs.trouble(id);
        let catalog = catalog.map(|why| format!("the catalog is behind: {why}"));
        let more = members.into_iter().chain(spares).chain(catalog);
        let more: Vec<String> = more.collect();
        let status = match more.is_empty() {
            true => status,
            false => status.max(HealthStatus::Degraded),
        };
        let details: Vec<String> = detail.into_iter().chain(more).collect();
        let detail = (!details.is_empty()).then(|| details.join(". "));
        Some(check(&format!("pool/{id}"), status, detail))
    }

    /// What keeps spares of a pool from helping, as far as anybody knows.
    async fn spares_trouble(&self, id: Uuid) -> Option<String> {
        let has = |intent: &Intent| Some(!intent.pool(id)?.record.spares.is_empty());
        if !has(&*self.shared.intent.read().await)? {
            return None;
        }
        let disks = self.shared.targetd.call(Request::ListDisks).await;
        let Ok(Response::Disks(disks)) = disks else {
            return None;
        };
        let intent = self.shared.intent.read().await;
        spares::trouble(&intent.pool(id)?.record, &disks)
    }

    fn reconcile_check(&self) -> Check {
        let strangers = self.shared.ledger.strangers();
        let detail = match (self.shared.ledger.troubled(), strangers.first()) {
            ((count, Some((unit, problem))), _) => Some(format!(
                "{count} objects are not as intended, first {}: {}",
                unit.object(),
                problem.detail
            )),
            ((_, None), Some(first)) => Some(format!(
                "{} strangers in the kernel, first: {first}",
                strangers.len()
            )),
            ((_, None), None) => None,
        };
        let status = match detail {
            Some(_) => HealthStatus::Degraded,
            None => HealthStatus::Ok,
        };
        check("reconcile", status, detail)
    }

    /// Only when calls are not recorded: there is nothing to say otherwise.
    fn audit_check(&self) -> Option<Check> {
        let trouble = self.shared.audit.trouble()?;
        Some(check("audit", HealthStatus::Degraded, Some(trouble)))
    }

    /// Being frozen is no fault, but nobody should have to guess why changes are refused.
    async fn frozen_check(&self) -> Option<Check> {
        let intent = self.shared.intent.read().await;
        let reason = intent.frozen()?.reason.as_ref();
        let detail = match reason {
            Some(reason) => format!("no changes are taken until the box is thawed: {reason}"),
            None => "no changes are taken until the box is thawed".to_owned(),
        };
        Some(check("frozen", HealthStatus::Degraded, Some(detail)))
    }
}

/// How full a pool is that is past a watermark.
fn filling(pool: &Pool, look: &Look) -> Option<String> {
    let Watermarks {
        warn,
        critical,
        stop,
    } = pool.watermarks;
    let (what, percent) = match pool.level {
        PoolLevel::Ok => return None,
        PoolLevel::Warn => ("is filling up", warn),
        PoolLevel::Critical => ("is nearly full", critical),
        PoolLevel::Stop => ("takes nothing new", stop),
    };
    let now = match look {
        Look::Report(report) => report.usage.as_ref().map(percents),
        Look::Busy | Look::Gone => None,
    };
    let now = now.map_or_else(String::new, |now| format!(": {now}"));
    Some(format!(
        "the pool {what}, past its watermark of {percent} %{now}"
    ))
}

pub(super) fn check(name: &str, status: HealthStatus, detail: Option<String>) -> Check {
    Check {
        name: name.to_owned(),
        status,
        detail,
    }
}
