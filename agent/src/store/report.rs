//! What opening found and did, for the journal and the operator.

use std::fmt;

/// The outcome of [`super::Store::open`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenReport {
    /// The last committed generation; 0 in a new store.
    pub generation: u64,
    /// Entries in the store.
    pub entries: u64,
    /// Generation of the checkpoint that was built upon; 0 for none.
    pub checkpoint: u64,
    /// Journal records read after that checkpoint.
    pub records: u64,
    /// Bytes cut off the journal's end: a record a power cut left half-written, which nobody
    /// had been promised.
    pub torn_bytes: u64,
    /// Files that could not be used, with the reason; they are kept as `damaged-…`.
    pub damaged: Vec<(String, String)>,
    /// What became of the database copy.
    pub database: DatabaseOutcome,
}

/// What became of the sled copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseOutcome {
    /// Generation, count and digest were those of checkpoint and journal.
    Verified,
    /// It was put aside as `sled.damaged` and written anew from checkpoint and journal.
    Rebuilt {
        /// Why.
        reason: String,
    },
    /// Checkpoint or journal had lost records that it had: all were written anew from it.
    Rescued {
        /// What was lost.
        reason: String,
    },
}

impl OpenReport {
    /// Whether an operator should hear of it.
    pub fn is_clean(&self) -> bool {
        self.damaged.is_empty() && !matches!(self.database, DatabaseOutcome::Rescued { .. })
    }
}

impl fmt::Display for OpenReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "store at generation {} with {} entries: checkpoint {}, {} records",
            self.generation, self.entries, self.checkpoint, self.records
        )?;
        if self.torn_bytes > 0 {
            write!(f, ", {} torn bytes cut off", self.torn_bytes)?;
        }
        for (_, reason) in &self.damaged {
            write!(f, ", put aside: {reason}")?;
        }
        write!(f, ", database ")?;
        match &self.database {
            DatabaseOutcome::Verified => write!(f, "verified"),
            DatabaseOutcome::Rebuilt { reason } => write!(f, "rebuilt: {reason}"),
            DatabaseOutcome::Rescued { reason } => write!(f, "rescued the rest: {reason}"),
        }
    }
}
