//! Where log lines go: the journal when there is one, else standard error.
//!
//! Bodies and secrets are never logged: their types print as `<secret>`, and no code passes a
//! body to a log line.

pub mod messages;

use std::io::IsTerminal;

use ashlar_protocol::Event;
use tracing::info;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// What is logged unless `ASHLAR_LOG` says otherwise.
const DEFAULT_FILTER: &str = "info";

/// Why nothing can be logged.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `ASHLAR_LOG` is no filter.
    #[error("ASHLAR_LOG is not a filter such as `info` or `ashlar_agent=debug`")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    /// Somebody set up logging before.
    #[error("failed to set up logging")]
    Init(#[source] tracing_subscriber::util::TryInitError),
}

/// An error and its causes on one line.
pub struct Chain<'a>(pub &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Tells the journal of an event.
pub fn tell(event: &Event) {
    let message = messages::of_event(&event.kind);
    debug_assert!(message.is_some(), "{} has no message", event.kind);
    let id = message.map(messages::Message::id).unwrap_or_default();
    let (kind, object) = (&event.kind, event.object.id);
    let object_kind = event.object.kind;
    let request = event.request.map(|request| request.to_string());
    let request = request.as_deref().unwrap_or("-");
    let detail = event.detail.as_deref().unwrap_or_default();
    info!(MESSAGE_ID = id, event = %kind, event_id = event.id, %object, %object_kind, request, detail,
        "{kind} {detail}");
}

/// Sets up logging for the whole process. `ASHLAR_LOG` filters it.
///
/// # Errors
/// When the filter is not valid, or logging is set up already.
pub fn init() -> Result<(), TelemetryError> {
    let filter = match std::env::var("ASHLAR_LOG") {
        Ok(text) => EnvFilter::try_new(text).map_err(TelemetryError::Filter)?,
        Err(_) => EnvFilter::new(DEFAULT_FILTER),
    };
    // systemd sets JOURNAL_STREAM when our standard error is the journal; a person who runs
    // us by hand wants to read lines, journal or not.
    let journal = std::env::var_os("JOURNAL_STREAM")
        .and_then(|_| tracing_journald::layer().ok())
        .map(|layer| layer.with_field_prefix(None));
    let lines = journal.is_none().then(|| {
        fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
    });
    tracing_subscriber::registry()
        .with(filter)
        .with(journal)
        .with(lines)
        .try_init()
        .map_err(TelemetryError::Init)
}
