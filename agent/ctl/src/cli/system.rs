//! `ashlarctl system …`

use anyhow::bail;
use ashlar_protocol::{Check, FreezeSpec, Frozen, Health, HealthStatus, Name, System};
use clap::Subcommand;

use super::access::Format;
use super::output::{self, Facts, or_dash, word};
use super::session::Session;
use super::volume::moment;
use ashlar_ctl::size::human;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show identity, version and capabilities
    Show,
    /// Show health; fails when the box is not serving
    Health,
    /// Take no changes until thawed; hosts' I/O goes on
    Freeze {
        /// What for, told to whoever is refused
        #[arg(long)]
        reason: Option<Name>,
    },
    /// Take changes again
    Thaw,
    /// Start the box again; hosts wait meanwhile
    Restart,
}

pub async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Show => output::one(session.format, &session.client.system_show().await?),
        Verb::Freeze { reason } => {
            let spec = FreezeSpec { reason };
            let shown = async || session.client.under_new_ids().system_show().await;
            let change = session.client.system_freeze(&spec);
            session.change(change, shown).await
        }
        Verb::Thaw => {
            let shown = async || session.client.under_new_ids().system_show().await;
            session.change(session.client.system_thaw(), shown).await
        }
        Verb::Restart => {
            let restart = session.client.system_restart();
            session.removal(restart, "the box starts again\n").await
        }
        Verb::Health => {
            let health = session.client.health_show().await?;
            show_health(session.format, &health)?;
            match health.status {
                HealthStatus::Ok | HealthStatus::Degraded => Ok(()),
                HealthStatus::Failed => bail!("the box is not serving"),
            }
        }
    }
}

fn show_health(format: Format, health: &Health) -> anyhow::Result<()> {
    match format {
        Format::Json => output::one(format, health),
        Format::Table => {
            output::done(format, &format!("health  {}\n", word(&health.status)))?;
            output::many(format, &health.checks)
        }
    }
}

fn told(frozen: &Frozen) -> String {
    let since = moment(frozen.since);
    match &frozen.reason {
        Some(reason) => format!("since {since}: {reason}"),
        None => format!("since {since}"),
    }
}

impl Facts for System {
    const COLUMNS: &'static [&'static str] = &["id", "name", "version"];

    fn facts(&self) -> Vec<(&'static str, String)> {
        let able = &self.capabilities;
        let transports: Vec<_> = able.transports.iter().map(ToString::to_string).collect();
        vec![
            ("id", self.id.to_string()),
            ("name", self.name.to_string()),
            ("version", self.version.clone()),
            ("protocol", self.protocol.to_string()),
            ("kernel", or_dash(self.kernel.as_ref())),
            ("frozen", or_dash(self.frozen.as_ref().map(told))),
            ("transports", transports.join(", ")),
            ("largest volume", human(able.volume_max)),
            ("volume granularity", human(able.volume_granularity)),
            ("online extend", able.online_extend.to_string()),
            ("multiattach", able.multiattach.to_string()),
            ("limits", able.qos.to_string()),
        ]
    }
}

impl Facts for Health {
    const COLUMNS: &'static [&'static str] = &["status"];

    fn facts(&self) -> Vec<(&'static str, String)> {
        vec![("status", word(&self.status))]
    }
}

impl Facts for Check {
    const COLUMNS: &'static [&'static str] = &["check", "status", "detail"];

    fn facts(&self) -> Vec<(&'static str, String)> {
        vec![
            ("check", self.name.clone()),
            ("status", word(&self.status)),
            ("detail", self.detail.clone().unwrap_or_default()),
        ]
    }
}
