//! What volumes and snapshots hold, from and to files.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use ashlar_ctl::size::human;
use ashlar_ctl::transfer::{self, Export, Exported, Form, Source, Target, Watch};
use ashlar_protocol::{JobResult, ObjectRef};
use clap::{Args, ValueEnum};
use serde_json::json;
use uuid::Uuid;

use super::output::{self, Facts, or_dash};
use super::progress::Bar;
use super::session::Session;
use super::usage;

#[derive(Debug, Args)]
pub struct Local {
    /// The file, a block device, or - for a pipe
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// What the file is: the bytes of a disk, holes being holes, or a stream of extents
    #[arg(long, value_enum)]
    format: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Raw,
    Extents,
}

impl From<Format> for Form {
    fn from(format: Format) -> Form {
        match format {
            Format::Raw => Form::Raw,
            Format::Extents => Form::Extents,
        }
    }
}

impl Local {
    fn is_pipe(&self) -> bool {
        self.path == Path::new("-")
    }

    fn source(&self) -> anyhow::Result<Source> {
        let form = self.format.unwrap_or(Format::Raw).into();
        Ok(match self.is_pipe() {
            true => {
                let stdin = own(&io::stdin()).context("failed to take standard input")?;
                Source::of("standard input".to_owned(), stdin, form)?
            }
            false => Source::open(&self.path, form)?,
        })
    }

    /// What differs from something is told in extents, everything as it is on a disk.
    fn target(&self, since: bool) -> anyhow::Result<Target> {
        let form = match (self.format, since) {
            (Some(Format::Raw), true) => {
                return Err(usage(
                    "--since tells what differs, which --format raw cannot",
                ));
            }
            (Some(format), _) => format.into(),
            (None, true) => Form::Extents,
            (None, false) => Form::Raw,
        };
        Ok(match self.is_pipe() {
            true => {
                let stdout = own(&io::stdout()).context("failed to take standard output")?;
                Target::pipe("standard output".to_owned(), stdout, form)
            }
            false => Target::create(&self.path, form)?,
        })
    }
}

fn own(pipe: &impl AsFd) -> io::Result<File> {
    Ok(File::from(pipe.as_fd().try_clone_to_owned()?))
}

/// Writes a file to a volume.
pub async fn import(session: &Session, volume: Uuid, local: &Local) -> anyhow::Result<()> {
    let bar = Bar::start("importing");
    let source = local.source()?;
    let done = transfer::import(&session.client, volume, source, watch(&bar)).await?;
    drop(bar);
    output::one(session.format, &done)
}

/// Reads a volume or snapshot into a file.
pub async fn export(
    session: &Session,
    object: ObjectRef,
    since: Option<Uuid>,
    local: &Local,
) -> anyhow::Result<()> {
    let bar = Bar::start("exporting");
    let what = Export { object, since };
    let target = local.target(since.is_some())?;
    let done = transfer::export(&session.client, what, target, watch(&bar)).await?;
    drop(bar);
    match local.is_pipe() {
        // Nothing else belongs there.
        true => Ok(()),
        false => output::one(session.format, &Told(done)),
    }
}

/// Has a bar follow a transfer.
pub fn watch(bar: &Bar) -> Watch {
    let line = bar.line();
    Arc::new(move |progress| line.tell(progress))
}

impl Facts for JobResult {
    const COLUMNS: &'static [&'static str] = &[];

    fn facts(&self) -> Vec<(&'static str, String)> {
        vec![
            ("written", or_dash(self.written.map(human))),
            ("zeroed", or_dash(self.zeroed.map(human))),
            ("sha256", or_dash(self.sha256.as_ref())),
        ]
    }
}

/// An export as it is shown.
struct Told(Exported);

impl serde::Serialize for Told {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Exported {
            size,
            moved,
            sha256,
            ..
        } = &self.0;
        json!({"size": size, "moved": moved, "sha256": sha256}).serialize(serializer)
    }
}

impl Facts for Told {
    const COLUMNS: &'static [&'static str] = &[];

    fn facts(&self) -> Vec<(&'static str, String)> {
        vec![
            ("size", human(self.0.size)),
            ("moved", human(self.0.moved)),
            ("sha256", or_dash(self.0.sha256.as_ref())),
        ]
    }
}
