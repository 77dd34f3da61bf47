//! `ashlarctl backup` and `ashlarctl restore`

use std::path::{Path, PathBuf};

use anyhow::Context;
use ashlar_ctl::backup::{self, Backup, Plan, Restored};
use ashlar_ctl::size::{Size, human};
use ashlar_protocol::{Name, Provisioning};
use clap::Args;
use serde::Serialize;
use uuid::Uuid;

use super::output::{self, Facts, or_dash};
use super::progress::Bar;
use super::session::Session;
use super::transfer::watch;
use super::volume::moment;
use super::{pool, snapshot, usage, volume};

#[derive(Debug, Args)]
pub struct Make {
    /// The volume, attached or not, by id or name
    volume: String,
    /// A new file; or a folder, where it builds upon the newest backup of the volume if it can
    #[arg(value_name = "FILE|FOLDER")]
    place: PathBuf,
    /// Tell only what differs from this backup
    #[arg(long, value_name = "FILE", conflicts_with = "full")]
    since: Option<PathBuf>,
    /// Tell everything, whatever is in the folder
    #[arg(long)]
    full: bool,
    /// Of this snapshot, by id or name; of one that is taken now unless given
    #[arg(long)]
    snapshot: Option<String>,
    /// Keep the snapshot of the backup before, which no backup needs any more
    #[arg(long)]
    keep_snapshots: bool,
    /// How much the appliance moves a second at most
    #[arg(long, value_name = "SIZE")]
    bandwidth: Option<Size>,
}

#[derive(Debug, Args)]
pub struct Restore {
    /// A label for people
    name: Name,
    /// The files of one chain in any order, or the folder they are in
    #[arg(required = true, value_name = "FILE|FOLDER")]
    places: Vec<PathBuf>,
    /// Its pool's id or name
    #[arg(long)]
    pool: String,
    /// As it was in this snapshot; as in the newest backup unless given
    #[arg(long, value_name = "SNAPSHOT-ID")]
    until: Option<Uuid>,
    /// Keep its whole size for it in the pool
    #[arg(long)]
    thick: bool,
    /// The volume's id; made up unless given
    #[arg(long)]
    id: Option<Uuid>,
    /// How much the appliance moves a second at most
    #[arg(long, value_name = "SIZE")]
    bandwidth: Option<Size>,
}

pub async fn make(session: &Session, arguments: Make) -> anyhow::Result<()> {
    let client = &session
        .client
        .limited(arguments.bandwidth.map(|size| size.0));
    let volume = volume::id(session, &arguments.volume).await?;
    let snapshot = snapshot::id_if(session, arguments.snapshot.clone()).await?;
    let before = before(session, &arguments, volume).await?;
    let file = match arguments.place.is_dir() {
        true => unused(&arguments.place),
        false => arguments.place.clone(),
    };
    if file.exists() {
        return Err(usage("a backup is made in a new file; this one is there"));
    }
    let plan = Plan {
        volume,
        file: &file,
        since: before.as_ref(),
        snapshot,
    };
    let bar = Bar::start("backing up");
    let made = backup::backup(client, &plan, watch(&bar)).await?;
    drop(bar);
    if let Some(before) = before.filter(|_| !arguments.keep_snapshots) {
        let forgotten = backup::forget(client, &before).await;
        forgotten.context("the backup is made; the snapshot of the one before stays")?;
    }
    output::one(session.format, &Told::from(made))
}

/// What the backup is to build upon.
async fn before(
    session: &Session,
    arguments: &Make,
    volume: Uuid,
) -> anyhow::Result<Option<Backup>> {
    if let Some(file) = &arguments.since {
        return Ok(Some(Backup::open(file)?));
    }
    if arguments.full || !arguments.place.is_dir() {
        return Ok(None);
    }
    let Some(newest) = backup::newest(&arguments.place, volume)? else {
        return Ok(None);
    };
    match backup::kept(&session.client, &newest).await? {
        Some(_) => Ok(Some(newest)),
        None => {
            eprintln!(
                "ashlarctl: the snapshot of {} is gone; this is a full backup",
                newest.file.display()
            );
            Ok(None)
        }
    }
}

/// The next number that no file has.
fn unused(folder: &Path) -> PathBuf {
    let names = (1_u32..).map(|n| folder.join(format!("{n:04}.extents")));
    let mut free = names.filter(|file| !file.exists());
    free.next().expect("numbers do not end")
}

pub async fn restore(session: &Session, arguments: Restore) -> anyhow::Result<()> {
    let chain = backup::chain(&arguments.places, arguments.until)?;
    let what = Restored {
        id: session.new_id(arguments.id),
        name: arguments.name,
        pool: pool::id(session, &arguments.pool).await?,
        provisioning: match arguments.thick {
            true => Provisioning::Thick,
            false => Provisioning::Thin,
        },
    };
    let bar = Bar::start("restoring");
    let client = session
        .client
        .limited(arguments.bandwidth.map(|size| size.0));
    backup::restore(&client, &what, &chain, watch(&bar)).await?;
    drop(bar);
    let looking = session.client.under_new_ids();
    output::one(session.format, &looking.volume_show(what.id).await?)
}

/// A backup as it is shown.
#[derive(Serialize)]
struct Told {
    file: PathBuf,
    #[serde(flatten)]
    manifest: backup::Manifest,
}

impl From<Backup> for Told {
    fn from(Backup { file, manifest }: Backup) -> Told {
        Told { file, manifest }
    }
}

impl Facts for Told {
    const COLUMNS: &'static [&'static str] = &[];

    fn facts(&self) -> Vec<(&'static str, String)> {
        let manifest = &self.manifest;
        vec![
            ("file", self.file.display().to_string()),
            ("snapshot", manifest.snapshot.to_string()),
            ("since", or_dash(manifest.since)),
            ("size", human(manifest.size)),
            ("length", human(manifest.length)),
            ("sha256", manifest.sha256.to_string()),
            ("taken", moment(manifest.taken)),
        ]
    }
}
