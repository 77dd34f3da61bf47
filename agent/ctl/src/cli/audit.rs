//! `ashlarctl audit …`

use ashlar_protocol::AuditRecord;
use clap::Subcommand;

use super::event::follow;
use super::output::{self, Facts, or_dash};
use super::session::Session;
use super::volume::moment;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the records kept, the oldest first; with `-o json` whole
    Export {
        /// Only those after this one
        #[arg(long, value_name = "ID")]
        after: Option<u64>,
    },
    /// Tell of calls as they end, one a line, until interrupted
    Follow {
        /// Begin after this one, rather than now
        #[arg(long, value_name = "ID")]
        after: Option<u64>,
    },
}

pub async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Export { after } => {
            let records: Vec<AuditRecord> = session.client.told_since(after).await?;
            output::many(session.format, &records)
        }
        Verb::Follow { after } => follow(session, after, line).await,
    }
}

fn line(record: &AuditRecord) -> String {
    let facts = record.facts();
    let facts: Vec<&str> = facts.iter().map(|(_, fact)| fact.as_str()).collect();
    facts.join("  ")
}

impl Facts for AuditRecord {
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "time",
        "subject",
        "role",
        "operation",
        "object",
        "result",
    ];

    fn facts(&self) -> Vec<(&'static str, String)> {
        let result = match (self.status, self.code) {
            (None, _) => "the caller left".to_owned(),
            (Some(status), None) => status.to_string(),
            (Some(status), Some(code)) => format!("{status} {code}"),
        };
        vec![
            ("id", self.id.to_string()),
            ("time", moment(self.time)),
            ("subject", self.subject.clone()),
            ("role", or_dash(self.role)),
            ("from", self.from.clone()),
            ("operation", or_dash(self.operation)),
            ("object", or_dash(self.object)),
            ("result", result),
            ("request", self.request.to_string()),
            ("ms", self.ms.to_string()),
        ]
    }
}
