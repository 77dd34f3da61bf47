//! How the box is.

use ashlar_protocol::{Check, Health, HealthStatus, PoolState};

use super::Engine;
use super::keeper::StoreHealth;
use crate::domain::view;
use crate::targetd::Link;

impl Engine {
    /// How the box is: the store, targetd, the kernel's features, each pool, and what could
    /// not be reconciled.
    pub async fn health(&self) -> Health {
        let mut checks = vec![self.store_check().await];
        checks.extend(self.targetd_checks());
        checks.extend(self.pool_checks().await);
        checks.push(self.reconcile_check());
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

    fn targetd_checks(&self) -> Vec<Check> {
        let link = self.shared.targetd.link();
        let link = link.borrow();
        match &*link {
            Link::Away(why) => vec![check("targetd", HealthStatus::Degraded, Some(why.clone()))],
            Link::Up(greeting) => {
                let mut checks = vec![check("targetd", HealthStatus::Ok, None)];
                checks.extend(greeting.features.iter().map(|feature| {
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
        let mut checks = Vec::with_capacity(ids.len());
        for id in ids {
            let look = self.look_at_pool(id).await;
            let intent = self.shared.intent.read().await;
            let Some(entry) = intent.pool(id) else {
                continue;
            };
            let state = view::pool(id, entry, &look).state;
            let (status, detail) = match state {
                PoolState::Online | PoolState::Creating => (HealthStatus::Ok, None),
                PoolState::Offline => (HealthStatus::Degraded, Some("the pool is offline")),
                PoolState::Degraded => {
                    (HealthStatus::Degraded, Some("the pool refuses new blocks"))
                }
            };
            checks.push(check(
                &format!("pool/{id}"),
                status,
                detail.map(str::to_owned),
            ));
        }
        checks
    }

    fn reconcile_check(&self) -> Check {
        let troubled = self.shared.ledger.troubled();
        let strangers = self.shared.ledger.strangers();
        let Some((unit, problem)) = troubled.first() else {
            return match strangers.first() {
                Some(first) => {
                    let detail = format!(
                        "{} strangers in the kernel, first: {first}",
                        strangers.len()
                    );
                    check("reconcile", HealthStatus::Degraded, Some(detail))
                }
                None => check("reconcile", HealthStatus::Ok, None),
            };
        };
        let detail = format!(
            "{} objects are not as intended, first {}: {}",
            troubled.len(),
            unit.object(),
            problem.detail
        );
        check("reconcile", HealthStatus::Degraded, Some(detail))
    }
}

fn check(name: &str, status: HealthStatus, detail: Option<String>) -> Check {
    Check {
        name: name.to_owned(),
        status,
        detail,
    }
}
