//! `ashlarctl snapshot …`

use ashlar_protocol::{
    AdoptSnapshotSpec, Connected, ConnectionSpec, Name, ObjectKind, ObjectRef, Snapshot,
    SnapshotSpec, SnapshotUpdate, ThinId, Transport,
};
use clap::Subcommand;
use uuid::Uuid;

use super::label::{Label, labels, noted};
use super::output::{self, Facts, word};
use super::session::{Named, Session, resolve};
use super::thin::thin_id;
use super::transfer::{self, Local};
use super::volume::{self, moment};
use super::{connection, host};
use ashlar_ctl::size::{Size, human};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Take a snapshot of a volume, attached or not
    Create {
        /// A label for people
        name: Name,
        /// The volume's id or name
        #[arg(long)]
        volume: String,
        /// What to note beside it; may be given again
        #[arg(long, value_name = "NAME=TEXT")]
        label: Vec<Label>,
        /// The snapshot's id; made up unless given
        #[arg(long)]
        id: Option<Uuid>,
    },
    /// Make a snapshot of a thin device that is in its volume's pool already
    Adopt {
        /// A label for people
        name: Name,
        /// The id or name of the volume it is one of
        #[arg(long)]
        volume: String,
        /// The thin device's id, as in `pool thin-devices`
        #[arg(long, value_name = "NUMBER", value_parser = thin_id)]
        thin_id: ThinId,
        /// Its size, rounded up to whole MiB [default: where what it maps ends]
        #[arg(long)]
        size: Option<Size>,
        /// What to note beside it; may be given again
        #[arg(long, value_name = "NAME=TEXT")]
        label: Vec<Label>,
        /// The snapshot's id; made up unless given
        #[arg(long)]
        id: Option<Uuid>,
    },
    /// Forget a snapshot; its thin device stays in the pool with all that it holds
    Release {
        /// Its id or name
        snapshot: String,
    },
    /// Rename a snapshot, or change its labels
    Update {
        /// Its id or name
        snapshot: String,
        /// A new label for people
        #[arg(long)]
        name: Option<Name>,
        /// What to note beside it, in place of all that is noted; may be given again
        #[arg(long, value_name = "NAME=TEXT")]
        label: Vec<Label>,
        /// Note nothing beside it
        #[arg(long, conflicts_with = "label")]
        no_labels: bool,
    },
    /// Show a snapshot
    Show {
        /// Its id or name
        snapshot: String,
    },
    /// List snapshots
    List {
        /// Of this volume only, by id or name; by id if the volume is gone
        #[arg(long)]
        volume: Option<String>,
    },
    /// Show what a snapshot takes of its pool
    Usage {
        /// Its id or name
        snapshot: String,
    },
    /// List what a snapshot maps; what is in no extent reads as zeros
    Extents {
        /// Its id or name
        snapshot: String,
        /// List what differs from this snapshot instead, by id or name
        #[arg(long, value_name = "SNAPSHOT")]
        since: Option<String>,
    },
    /// Read what a snapshot holds, or what in it differs from an earlier one
    Export {
        /// Its id or name
        snapshot: String,
        #[command(flatten)]
        local: Local,
        /// Only what differs from this snapshot, by id or name, as extents
        #[arg(long, value_name = "SNAPSHOT")]
        since: Option<String>,
    },
    /// Destroy a snapshot; its volume and what was made of it stay
    Delete {
        /// Its id or name
        snapshot: String,
    },
    /// Attach a snapshot to a host, which can only read it; over iSCSI
    Attach {
        /// The snapshot's id or name
        snapshot: String,
        /// The host's id or name
        host: String,
        /// How the host reaches it
        #[arg(long, short)]
        transport: Transport,
    },
    /// Detach a snapshot from a host
    Detach {
        /// The snapshot's id or name
        snapshot: String,
        /// The host's id or name
        host: String,
        /// Cut the host off if it uses the snapshot
        #[arg(long)]
        force: bool,
    },
}

pub async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    let client = &session.client;
    match verb {
        Verb::Create {
            name,
            volume,
            label,
            id,
        } => {
            let id = session.new_id(id);
            let spec = SnapshotSpec {
                name,
                volume: volume::id(session, &volume).await?,
                labels: labels(label)?,
            };
            let shown = async || client.under_new_ids().snapshot_show(id).await;
            session
                .change(client.snapshot_create(id, &spec), shown)
                .await
        }
        Verb::Adopt {
            name,
            volume,
            thin_id,
            size,
            label,
            id,
        } => {
            let id = session.new_id(id);
            let spec = AdoptSnapshotSpec {
                name,
                volume: volume::id(session, &volume).await?,
                thin_id,
                size: size.map(|size| size.0),
                labels: labels(label)?,
            };
            let shown = async || client.under_new_ids().snapshot_show(id).await;
            session
                .change(client.snapshot_adopt(id, &spec), shown)
                .await
        }
        Verb::Release { snapshot } => {
            let id = self::id(session, &snapshot).await?;
            let text = format!("snapshot {id} is released");
            session.removal(client.snapshot_release(id), &text).await
        }
        Verb::Update {
            snapshot,
            name,
            label,
            no_labels,
        } => {
            let id = self::id(session, &snapshot).await?;
            let spec = SnapshotUpdate {
                name,
                labels: match label.is_empty() && !no_labels {
                    true => None,
                    false => Some(labels(label)?),
                },
            };
            let shown = async || client.under_new_ids().snapshot_show(id).await;
            session
                .change(client.snapshot_update(id, &spec), shown)
                .await
        }
        Verb::Show { snapshot } => {
            let id = self::id(session, &snapshot).await?;
            output::one(session.format, &client.snapshot_show(id).await?)
        }
        Verb::List { volume: None } => output::many(session.format, &client.snapshot_list().await?),
        Verb::List {
            volume: Some(volume),
        } => {
            let id = volume::id(session, &volume).await?;
            output::many(session.format, &client.snapshots_of(id).await?)
        }
        Verb::Usage { snapshot } => {
            let id = self::id(session, &snapshot).await?;
            output::one(session.format, &client.snapshot_usage(id).await?)
        }
        Verb::Extents { snapshot, since } => {
            let id = self::id(session, &snapshot).await?;
            let since = id_if(session, since).await?;
            output::many(session.format, &client.snapshot_extents(id, since).await?)
        }
        Verb::Export {
            snapshot,
            local,
            since,
        } => {
            let object = ObjectRef {
                kind: ObjectKind::Snapshot,
                id: self::id(session, &snapshot).await?,
            };
            let since = id_if(session, since).await?;
            transfer::export(session, object, since, &local).await
        }
        Verb::Delete { snapshot } => {
            let id = self::id(session, &snapshot).await?;
            let text = format!("snapshot {id} is deleted");
            session.removal(client.snapshot_delete(id), &text).await
        }
        Verb::Attach {
            snapshot,
            host,
            transport,
        } => {
            let of = Connected::Snapshot(self::id(session, &snapshot).await?);
            let spec = ConnectionSpec {
                of,
                host: host::id(session, &host).await?,
                transport,
                access: connection::access(of, true),
            };
            connection::create(session, session.new_id(None), &spec).await
        }
        Verb::Detach {
            snapshot,
            host,
            force,
        } => {
            let of = Connected::Snapshot(self::id(session, &snapshot).await?);
            let host = host::id(session, &host).await?;
            let connection = connection::between(session, of, host, None).await?;
            connection::delete(session, connection, force).await
        }
    }
}

/// The id of a snapshot, if one is given.
pub async fn id_if(session: &Session, text: Option<String>) -> anyhow::Result<Option<Uuid>> {
    match text {
        Some(text) => id(session, &text).await.map(Some),
        None => Ok(None),
    }
}

/// The id of a snapshot given by id or name.
pub async fn id(session: &Session, text: &str) -> anyhow::Result<Uuid> {
    resolve(text, async || {
        session.client.under_new_ids().snapshot_list().await
    })
    .await
}

impl Named for Snapshot {
    const KIND: &'static str = "snapshot";

    fn id(&self) -> Uuid {
        self.id
    }

    fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl Facts for Snapshot {
    const COLUMNS: &'static [&'static str] = &["id", "name", "volume", "size", "state"];

    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("id", self.id.to_string()),
            ("name", self.name.to_string()),
            ("volume", self.volume.to_string()),
            ("size", human(self.size)),
            ("state", word(&self.state)),
            ("pool", self.pool.to_string()),
        ];
        facts.extend(self.group.map(|group| ("group", group.to_string())));
        facts.extend(noted(&self.labels));
        facts.push(("created", moment(self.created)));
        facts
    }
}
