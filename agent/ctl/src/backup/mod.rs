//! Backups in files: a full one, and others that tell what differs from the one before.
//!
//! ```text
//! backup    snapshot ─ export, since the one before ─► FILE, FILE.json
//! restore   FILE… ─ put in order, checked ─► new volume ◄─ import, one after the other
//! ```
//!
//! A file is a stream of extents and nothing else. Beside it, a [`Manifest`] says which snapshot
//! it is of and upon which it builds: those make the chain.

mod chain;
mod manifest;

pub use chain::{ChainError, chain, newest};
pub use manifest::{Backup, Manifest, ManifestError};

use std::path::{Path, PathBuf};

use ashlar_protocol::{
    Labels, Name, ObjectKind, ObjectRef, Provisioning, Snapshot, SnapshotSpec, VolumeSpec,
};
use uuid::Uuid;

use crate::client::{CallError, Change, Client};
use crate::transfer::{self, Export, Form, Patience, Source, Target, TransferError, Watch};

/// What snapshots that are taken for backups are labelled with, so that nobody's own is taken
/// for one.
const LABEL: &str = "taken-for";
const BACKUP: &str = "backup";

/// Why a backup was not made, or not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The appliance said no, or was lost.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A file was not moved.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// What is beside a file is no manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// It builds upon a backup of something else.
    #[error("{} is a backup of volume {theirs}, not {ours}", file.display())]
    OtherVolume {
        /// The one before.
        file: PathBuf,
        /// What it is of.
        theirs: Uuid,
        /// What is to be backed up.
        ours: Uuid,
    },
}

/// What is to be backed up, and how.
#[derive(Clone, Debug)]
pub struct Plan<'p> {
    /// The volume, attached or not.
    pub volume: Uuid,
    /// Where to.
    pub file: &'p Path,
    /// Tell only what differs from this one.
    pub since: Option<&'p Backup>,
    /// Of this snapshot of it; of one that is taken now unless given.
    pub snapshot: Option<Uuid>,
}

/// Backs a volume up. The snapshot stays, for the next one to build upon. When that fails,
/// neither file nor snapshot is left.
///
/// # Errors
/// When the volume cannot be read, or the file not written.
pub async fn backup(client: &Client, plan: &Plan<'_>, watch: Watch) -> Result<Backup, BackupError> {
    let volume = client.under_new_ids().volume_show(plan.volume).await?;
    if let Some(before) = plan.since.filter(|b| b.manifest.volume != plan.volume) {
        return Err(BackupError::OtherVolume {
            file: before.file.clone(),
            theirs: before.manifest.volume,
            ours: plan.volume,
        });
    }
    let snapshot = match plan.snapshot {
        Some(id) => client.under_new_ids().snapshot_show(id).await?,
        None => take(client, plan.volume).await?,
    };
    let written = write(client, plan, &volume.name, &snapshot, watch).await;
    if written.is_err() && plan.snapshot.is_none() {
        let looking = client.under_new_ids();
        // What is worth telling is why there is no backup.
        let gone = persist(async || looking.snapshot_delete(snapshot.id).await).await;
        drop(gone);
    }
    written
}

/// Takes the snapshot.
async fn take(client: &Client, volume: Uuid) -> Result<Snapshot, BackupError> {
    let id = client.request_id().unwrap_or_else(Uuid::new_v4);
    let labels = [(LABEL.to_owned(), BACKUP.to_owned())];
    let spec = SnapshotSpec {
        name: Name::try_from(BACKUP.to_owned()).expect("a name"),
        volume,
        labels: Labels::try_from(std::collections::BTreeMap::from(labels)).expect("a label"),
    };
    let taken = client.snapshot_create(id, &spec).await?;
    let looking = client.under_new_ids();
    looking.settle(&taken).await?;
    Ok(looking.snapshot_show(id).await?)
}

async fn write(
    client: &Client,
    plan: &Plan<'_>,
    name: &Name,
    snapshot: &Snapshot,
    watch: Watch,
) -> Result<Backup, BackupError> {
    let what = Export {
        object: ObjectRef {
            kind: ObjectKind::Snapshot,
            id: snapshot.id,
        },
        since: plan.since.map(|before| before.manifest.snapshot),
    };
    let target = Target::create(plan.file, Form::Extents)?;
    let done = transfer::export(&client.under_new_ids(), what, target, watch).await?;
    let manifest = Manifest {
        version: manifest::VERSION,
        volume: plan.volume,
        name: name.clone(),
        snapshot: snapshot.id,
        since: what.since,
        size: done.size,
        length: done.written,
        sha256: done.sha256.expect("extents have one"),
        taken: snapshot.created,
    };
    let backup = Backup {
        file: plan.file.to_owned(),
        manifest,
    };
    match backup.write() {
        Ok(()) => Ok(backup),
        Err(error) => {
            // Without its manifest it is nothing.
            drop(std::fs::remove_file(plan.file));
            Err(error.into())
        }
    }
}

/// Destroys the snapshot that a backup was made of, if it was taken for that: the next backup
/// builds upon a later one. Whether there was one.
///
/// # Errors
/// When the appliance refuses.
pub async fn forget(client: &Client, backup: &Backup) -> Result<bool, CallError> {
    let looking = client.under_new_ids();
    let Some(snapshot) = kept(&looking, backup).await? else {
        return Ok(false);
    };
    if !snapshot.labels.iter().any(|label| label == (LABEL, BACKUP)) {
        return Ok(false);
    }
    let change = looking.snapshot_delete(snapshot.id).await?;
    looking.settle(&change).await?;
    Ok(true)
}

/// The snapshot that a backup was made of, if it is there still, for another to build upon.
///
/// # Errors
/// When the call fails.
pub async fn kept(client: &Client, backup: &Backup) -> Result<Option<Snapshot>, CallError> {
    let looking = client.under_new_ids();
    match looking.snapshot_show(backup.manifest.snapshot).await {
        Ok(snapshot) => Ok(Some(snapshot)),
        Err(error) => match error.problem().map(|problem| problem.code) {
            Some(ashlar_protocol::ProblemCode::NotFound) => Ok(None),
            _ => Err(error),
        },
    }
}

/// What a restored volume is to be.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Its id.
    pub id: Uuid,
    /// Its label.
    pub name: Name,
    /// Its pool.
    pub pool: Uuid,
    /// What is kept for it in the pool.
    pub provisioning: Provisioning,
}

/// Makes a new volume of a chain, the full one first. When that fails, no volume is left.
///
/// # Errors
/// When the volume cannot be made, or a file is not what its manifest says.
///
/// # Panics
/// Of an empty chain, which [`chain`] never gives.
pub async fn restore(
    client: &Client,
    what: &Restored,
    chain: &[Backup],
    watch: Watch,
) -> Result<(), BackupError> {
    let last = chain.last().expect("a chain has a backup");
    let spec = VolumeSpec {
        provisioning: what.provisioning,
        ..VolumeSpec::blank(what.name.clone(), what.pool, last.manifest.size)
    };
    let created = client.volume_create(what.id, &spec).await?;
    let looking = client.under_new_ids();
    looking.settle(&created).await?;
    for backup in chain {
        let filled = fill(&looking, what.id, backup, watch.clone()).await;
        if let Err(error) = filled {
            // What is worth telling is why there is no volume.
            let gone = persist(async || looking.volume_delete(what.id).await).await;
            drop(gone);
            return Err(error);
        }
    }
    Ok(())
}

/// Removes what a transfer may still be letting go of.
async fn persist(
    remove: impl AsyncFn() -> Result<Change<()>, CallError>,
) -> Result<Change<()>, CallError> {
    let mut patience = Patience::new();
    loop {
        match remove().await {
            Ok(change) => return Ok(change),
            Err(error) => patience.bear(error).await?,
        }
    }
}

async fn fill(
    client: &Client,
    volume: Uuid,
    backup: &Backup,
    watch: Watch,
) -> Result<(), BackupError> {
    let source = Source::open(&backup.file, Form::Extents)?;
    let source = source.expecting(backup.manifest.sha256.clone());
    transfer::import(client, volume, source, watch).await?;
    Ok(())
}
