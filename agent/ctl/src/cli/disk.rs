//! `ashlarctl disk …`

use ashlar_protocol::Disk;
use clap::Subcommand;

use super::output::{self, Facts, or_dash};
use super::session::Session;
use ashlar_ctl::size::human;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the disks of the box, and what they appear to hold
    List,
}

pub async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::List => output::many(session.format, &session.client.disk_list().await?),
    }
}

impl Facts for Disk {
    const COLUMNS: &'static [&'static str] = &["id", "kernel", "size", "kind", "in use", "content"];

    fn facts(&self) -> Vec<(&'static str, String)> {
        let content = match (&self.content, self.pool) {
            (_, Some(pool)) => format!("pool {pool}"),
            (content, None) => or_dash(content.as_ref()),
        };
        vec![
            ("id", self.id.to_string()),
            ("kernel", self.kernel_name.clone()),
            ("size", human(self.size)),
            (
                "kind",
                if self.rotational { "spinning" } else { "solid" }.to_owned(),
            ),
            ("in use", if self.in_use { "yes" } else { "no" }.to_owned()),
            ("content", content),
        ]
    }
}
