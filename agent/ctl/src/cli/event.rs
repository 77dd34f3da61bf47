//! `ashlarctl event …`

use std::time::Duration;

use ashlar_ctl::CallError;
use ashlar_ctl::client::{Failure, Told};
use ashlar_protocol::{Event, ProblemCode};
use clap::Subcommand;
use serde::Serialize;

use super::output::{self, Facts, or_dash};
use super::session::Session;
use super::volume::moment;

/// Before a stream that broke is asked for again.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the events kept, the oldest first
    List {
        /// Only those after this one
        #[arg(long, value_name = "ID")]
        after: Option<u64>,
    },
    /// Tell events as they happen, one a line, until interrupted
    Watch {
        /// Begin after this one, rather than now
        #[arg(long, value_name = "ID")]
        after: Option<u64>,
    },
}

pub async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::List { after } => {
            let events = session.client.events_since(after).await?;
            output::many(session.format, &events)
        }
        Verb::Watch { after } => follow(session, after, line).await,
    }
}

/// A stream that breaks is taken up where it was; what was missed meanwhile is told then.
pub async fn follow<T: Told + Serialize>(
    session: &Session,
    after: Option<u64>,
    line: fn(&T) -> String,
) -> anyhow::Result<()> {
    let client = session.client.under_new_ids();
    let mut last = after;
    let mut heard = false;
    loop {
        let broken = match client.stream::<T>(last).await {
            Ok(mut stream) => {
                heard = true;
                loop {
                    match stream.next().await {
                        Ok(told) => {
                            output::line(session.format, &told, &line(&told))?;
                            last = Some(told.id());
                        }
                        Err(error) => break error,
                    }
                }
            }
            Err(error) => error,
        };
        if !heard || !passing(&broken) {
            return Err(broken.into());
        }
        eprintln!("ashlarctl: {:#}; asking again", anyhow::Error::from(broken));
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether asking again helps. Lost events do not come back, whoever asks.
fn passing(error: &CallError) -> bool {
    match &error.failure {
        Failure::Problem(problem) => problem.retryable && problem.code != ProblemCode::EventsLost,
        Failure::Transport { .. } | Failure::Timeout { .. } => true,
        Failure::Protocol { .. } => false,
    }
}

fn line(event: &Event) -> String {
    let detail = event.detail.as_deref().unwrap_or_default();
    let Event {
        id,
        time,
        kind,
        object,
        ..
    } = event;
    format!("{id}  {}  {kind}  {}  {detail}", moment(*time), object.id)
}

impl Facts for Event {
    const COLUMNS: &'static [&'static str] = &["id", "time", "kind", "object", "detail"];

    fn facts(&self) -> Vec<(&'static str, String)> {
        vec![
            ("id", self.id.to_string()),
            ("time", moment(self.time)),
            ("kind", self.kind.to_string()),
            ("object", self.object.to_string()),
            ("request", or_dash(self.request)),
            ("detail", self.detail.clone().unwrap_or_default()),
        ]
    }
}
