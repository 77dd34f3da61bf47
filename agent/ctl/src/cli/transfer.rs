//! What volumes and snapshots hold, from and to files.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use ashlar_ctl::client::{Client, ImageFormat};
use ashlar_ctl::size::{Size, human};
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
    /// What the file is: the bytes of a disk, holes being holes, a stream of extents, or an
    /// image of a disk; auto has the appliance see which image it is
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// How much the appliance moves a second at most
    #[arg(long, value_name = "SIZE")]
    bandwidth: Option<Size>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Raw,
    Extents,
    Qcow2,
    Vmdk,
    Vhd,
    Vhdx,
    Auto,
}

/// How a file is moved.
enum Way {
    /// As extents.
    Made(Form),
    /// As it is.
    Image(ImageFormat),
}

impl From<Format> for Way {
    fn from(format: Format) -> Way {
        match format {
            Format::Raw => Way::Made(Form::Raw),
            Format::Extents => Way::Made(Form::Extents),
            Format::Qcow2 => Way::Image(ImageFormat::Qcow2),
            Format::Vmdk => Way::Image(ImageFormat::Vmdk),
            Format::Vhd => Way::Image(ImageFormat::Vhd),
            Format::Vhdx => Way::Image(ImageFormat::Vhdx),
            Format::Auto => Way::Image(ImageFormat::Auto),
        }
    }
}

impl Local {
    fn client(&self, session: &Session) -> Client {
        session.client.limited(self.bandwidth.map(|size| size.0))
    }

    fn is_pipe(&self) -> bool {
        self.path == Path::new("-")
    }

    fn source(&self, form: Form) -> anyhow::Result<Source> {
        Ok(match self.is_pipe() {
            true => {
                let stdin = own(&io::stdin()).context("failed to take standard input")?;
                Source::of("standard input".to_owned(), stdin, form)?
            }
            false => Source::open(&self.path, form)?,
        })
    }

    /// What differs from something is told in extents, everything as it is on a disk.
    fn way_out(&self, since: bool) -> anyhow::Result<Way> {
        match (self.format, since) {
            (Some(Format::Auto), _) => {
                Err(usage("--format auto is of a file that is there already"))
            }
            (None, false) => Ok(Way::Made(Form::Raw)),
            (None | Some(Format::Extents), true) => Ok(Way::Made(Form::Extents)),
            (Some(_), true) => Err(usage(
                "--since tells what differs, which only --format extents can",
            )),
            (Some(format), false) => Ok(format.into()),
        }
    }

    fn target(&self, form: Form) -> anyhow::Result<Target> {
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
    let client = &local.client(session);
    let done = match local.format.unwrap_or(Format::Raw).into() {
        Way::Made(form) => {
            let source = local.source(form)?;
            transfer::import(client, volume, source, watch(&bar)).await?
        }
        Way::Image(format) => {
            let image = (local.source(Form::Raw)?, format);
            transfer::import_image(client, volume, image, watch(&bar)).await?
        }
    };
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
    let client = &local.client(session);
    let done = match local.way_out(since.is_some())? {
        Way::Made(form) => {
            let target = local.target(form)?;
            transfer::export(client, what, target, watch(&bar)).await?
        }
        Way::Image(format) => {
            let image = (local.target(Form::Raw)?, format);
            transfer::export_image(client, what, image, watch(&bar)).await?
        }
    };
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
