//! What systemd is told, and the watchdog's proof of life.

use std::time::Duration;

use ashlar_protocol::HealthStatus;
use sd_notify::NotifyState;
use tracing::{debug, warn};

use crate::engine::Engine;

/// We serve.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// We take no more requests.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// We read files again; [`ready`] follows.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => debug!(%error, "no monotonic clock for systemd"),
    }
}

/// Pings the watchdog, when there is one, for as long as the engine answers.
///
/// The answer takes the reactor, the store thread and the connection to targetd, so a hang in
/// any of them stops the pings. targetd being away is no reason to restart the agent, which
/// would not bring it back.
pub async fn watchdog(engine: Engine) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut tick = tokio::time::interval(limit / 3);
    loop {
        tick.tick().await;
        if alive(&engine, limit / 3).await {
            tell(&[NotifyState::Watchdog]);
        } else {
            warn!("the engine does not answer; no sign of life for the watchdog");
        }
    }
}

async fn alive(engine: &Engine, within: Duration) -> bool {
    match tokio::time::timeout(within, engine.health(None)).await {
        Ok(health) => health.status != HealthStatus::Failed,
        Err(_) => false,
    }
}

/// Without systemd there is nobody to tell; with it, failing to is worth a line.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "failed to tell systemd");
    }
}
