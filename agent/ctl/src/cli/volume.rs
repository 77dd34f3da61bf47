//! `ashlarctl volume …`

use anyhow::bail;
use ashlar_protocol::{
    AdoptSpec, Clear, Connected, ConnectionSpec, ExtendSpec, MoveSpec, Name, ObjectKind, ObjectRef,
    Parent, Provisioning, Qos, RevertSpec, ThinId, TransferSpec, Transport, Volume, VolumeSpec,
    VolumeUpdate,
};
use clap::Subcommand;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::label::{Label, labels, noted};
use super::output::{self, Facts, word};
use super::qos::{Limits, limited};
use super::session::{Named, Session, resolve};
use super::thin::thin_id;
use super::transfer::{self, Local};
use super::{connection, host, pool, snapshot};
use ashlar_ctl::size::{Size, human};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create a volume
    Create {
        /// A label for people
        name: Name,
        /// Its pool's id or name; its source's unless given
        #[arg(long, required_unless_present_any = ["from_snapshot", "from_volume"])]
        pool: Option<String>,
        /// Its size, rounded up to whole MiB; its source's unless given
        #[arg(long, required_unless_present_any = ["from_snapshot", "from_volume"])]
        size: Option<Size>,
        /// The snapshot it begins as, by id or name
        #[arg(long, value_name = "SNAPSHOT", conflicts_with = "from_volume")]
        from_snapshot: Option<String>,
        /// The volume it begins as, by id or name
        #[arg(long, value_name = "VOLUME")]
        from_volume: Option<String>,
        /// What to note beside it; may be given again
        #[arg(long, value_name = "NAME=TEXT")]
        label: Vec<Label>,
        #[command(flatten)]
        limits: Limits,
        /// Keep its whole size for it in the pool
        #[arg(long)]
        thick: bool,
        /// The volume's id; made up unless given
        #[arg(long)]
        id: Option<Uuid>,
    },
    /// Make a volume of a thin device that is in a pool already, with all that it holds
    Adopt {
        /// A label for people
        name: Name,
        /// The pool's id or name
        #[arg(long)]
        pool: String,
        /// The thin device's id there, as in `pool thin-devices`
        #[arg(long, value_name = "NUMBER", value_parser = thin_id)]
        thin_id: ThinId,
        /// Its size, rounded up to whole MiB [default: where what it maps ends]
        #[arg(long)]
        size: Option<Size>,
        /// What to note beside it; may be given again
        #[arg(long, value_name = "NAME=TEXT")]
        label: Vec<Label>,
        #[command(flatten)]
        limits: Limits,
        /// Keep its whole size for it in the pool
        #[arg(long)]
        thick: bool,
        /// The volume's id; made up unless given
        #[arg(long)]
        id: Option<Uuid>,
    },
    /// Forget a volume; its thin device stays in the pool with all that it holds
    Release {
        /// Its id or name
        volume: String,
    },
    /// Show a volume
    Show {
        /// Its id or name
        volume: String,
    },
    /// List volumes
    List,
    /// Grow a volume, attached or not
    Extend {
        /// Its id or name
        volume: String,
        /// The new size, rounded up to whole MiB
        #[arg(long)]
        size: Size,
    },
    /// Rename a volume, attached or not, or change its labels, its limits, what is kept for it
    Update {
        /// Its id or name
        volume: String,
        /// A new label for people
        #[arg(long)]
        name: Option<Name>,
        /// What to note beside it, in place of all that is noted; may be given again
        #[arg(long, value_name = "NAME=TEXT")]
        label: Vec<Label>,
        /// Note nothing beside it
        #[arg(long, conflicts_with = "label")]
        no_labels: bool,
        #[command(flatten)]
        limits: Limits,
        /// Lift all limits
        #[arg(long)]
        no_qos: bool,
        /// Keep its whole size for it in the pool, or let it take room as it is written
        #[arg(long, value_name = "thin|thick", value_parser = provisioning)]
        provisioning: Option<Provisioning>,
    },
    /// Show what hosts have done with a volume
    Statistics {
        /// Its id or name
        volume: String,
    },
    /// Show what a volume takes of its pool
    Usage {
        /// Its id or name
        volume: String,
    },
    /// List what a volume maps; what is in no extent reads as zeros
    Extents {
        /// Its id or name
        volume: String,
        /// List what differs from this snapshot instead, by id or name
        #[arg(long, value_name = "SNAPSHOT")]
        since: Option<String>,
    },
    /// Write a file to a volume that is not attached: all of it or, of an extents stream,
    /// what it speaks of. A transfer that breaks is taken up by itself, but for images
    Import {
        /// Its id or name
        volume: String,
        #[command(flatten)]
        local: Local,
    },
    /// Read what a volume holds that is not attached; a snapshot can be read any time
    Export {
        /// Its id or name
        volume: String,
        #[command(flatten)]
        local: Local,
    },
    /// Give a volume the content of one of its snapshots; it keeps its size
    Revert {
        /// Its id or name
        volume: String,
        /// The snapshot, by id or name
        #[arg(long)]
        snapshot: String,
        /// Even while hosts are connected: the content changes beneath them
        #[arg(long)]
        interrupt: bool,
    },
    /// Give a volume to another owner, with no host connected to it
    Transfer {
        /// Its id or name
        volume: String,
        /// Whom it belongs to from now on
        #[arg(long)]
        owner: Name,
        /// Even while hosts are connected: they are cut off
        #[arg(long)]
        interrupt: bool,
    },
    /// Bring a volume to another pool, attached or not; its hosts go on meanwhile
    Move {
        /// Its id or name
        volume: String,
        /// The other pool, by id or name
        pool: String,
        /// How much to copy a second at most
        #[arg(long)]
        bandwidth: Option<Size>,
    },
    /// Destroy a volume and its data; refused while it is attached
    Delete {
        /// Its id or name
        volume: String,
        /// What is done with the data before: nothing (none, unless given), the disks are told
        /// that it is not needed (discard), or it is overwritten (zero). What snapshots share
        /// stays
        #[arg(long, value_name = "none|discard|zero")]
        clear: Option<Clear>,
        /// Only with so much of it, from the beginning on; 0 means all
        #[arg(long, value_name = "SIZE", requires = "clear")]
        clear_size: Option<Size>,
        /// So much a second at most
        #[arg(long, value_name = "SIZE", requires = "clear")]
        bandwidth: Option<Size>,
    },
    /// Detach a volume from every host
    DetachAll {
        /// Its id or name
        volume: String,
    },
    /// Attach a volume to a host, as `connection create` does
    Attach {
        /// The volume's id or name
        volume: String,
        /// The host's id or name
        host: String,
        /// How the host reaches it
        #[arg(long, short)]
        transport: Transport,
        /// Have its writes fail; over iSCSI only
        #[arg(long)]
        read_only: bool,
    },
    /// Detach a volume from a host, as `connection delete` does
    Detach {
        /// The volume's id or name
        volume: String,
        /// The host's id or name
        host: String,
        /// Which connection, where there is one for each transport
        #[arg(long, short)]
        transport: Option<Transport>,
        /// Cut the host off if it uses the volume
        #[arg(long)]
        force: bool,
    },
}

pub async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    let client = &session.client;
    match verb {
        Verb::Create {
            name,
            pool,
            size,
            from_snapshot,
            from_volume,
            label,
            limits,
            thick,
            id,
        } => {
            let id = session.new_id(id);
            let source = source(session, from_snapshot, from_volume).await?;
            let spec = VolumeSpec {
                name,
                pool: home(session, pool, source).await?,
                size: size.map(|size| size.0),
                source,
                labels: labels(label)?,
                qos: limits.any().then(|| limits.over(Qos::default())),
                provisioning: kept(thick),
            };
            let shown = async || client.under_new_ids().volume_show(id).await;
            session.change(client.volume_create(id, &spec), shown).await
        }
        Verb::Adopt {
            name,
            pool,
            thin_id,
            size,
            label,
            limits,
            thick,
            id,
        } => {
            let id = session.new_id(id);
            let spec = AdoptSpec {
                name,
                pool: pool::id(session, &pool).await?,
                thin_id,
                size: size.map(|size| size.0),
                labels: labels(label)?,
                qos: limits.any().then(|| limits.over(Qos::default())),
                provisioning: kept(thick),
            };
            let shown = async || client.under_new_ids().volume_show(id).await;
            session.change(client.volume_adopt(id, &spec), shown).await
        }
        Verb::Release { volume } => {
            let id = self::id(session, &volume).await?;
            let text = format!("volume {id} is released");
            session.removal(client.volume_release(id), &text).await
        }
        Verb::Show { volume } => {
            let id = self::id(session, &volume).await?;
            output::one(session.format, &client.volume_show(id).await?)
        }
        Verb::List => output::many(session.format, &client.volume_list().await?),
        Verb::Extend { volume, size } => {
            let id = self::id(session, &volume).await?;
            let spec = ExtendSpec { size: size.0 };
            let shown = async || client.under_new_ids().volume_show(id).await;
            session.change(client.volume_extend(id, &spec), shown).await
        }
        Verb::Update {
            volume,
            name,
            label,
            no_labels,
            limits,
            no_qos,
            provisioning,
        } => {
            let id = self::id(session, &volume).await?;
            let spec = VolumeUpdate {
                name,
                labels: match label.is_empty() && !no_labels {
                    true => None,
                    false => Some(labels(label)?),
                },
                qos: qos(session, id, &limits, no_qos).await?,
                provisioning,
            };
            let shown = async || client.under_new_ids().volume_show(id).await;
            session.change(client.volume_update(id, &spec), shown).await
        }
        Verb::Statistics { volume } => {
            let id = self::id(session, &volume).await?;
            output::one(session.format, &client.volume_statistics(id).await?)
        }
        Verb::Usage { volume } => {
            let id = self::id(session, &volume).await?;
            output::one(session.format, &client.volume_usage(id).await?)
        }
        Verb::Extents { volume, since } => {
            let id = self::id(session, &volume).await?;
            let since = snapshot::id_if(session, since).await?;
            output::many(session.format, &client.volume_extents(id, since).await?)
        }
        Verb::Import { volume, local } => {
            let id = self::id(session, &volume).await?;
            transfer::import(session, id, &local).await
        }
        Verb::Export { volume, local } => {
            let object = ObjectRef {
                kind: ObjectKind::Volume,
                id: self::id(session, &volume).await?,
            };
            transfer::export(session, object, None, &local).await
        }
        Verb::Revert {
            volume,
            snapshot,
            interrupt,
        } => {
            let id = self::id(session, &volume).await?;
            let snapshot = snapshot::id(session, &snapshot).await?;
            let spec = RevertSpec {
                snapshot,
                interrupt,
            };
            let shown = async || client.under_new_ids().volume_show(id).await;
            session.change(client.volume_revert(id, &spec), shown).await
        }
        Verb::Transfer {
            volume,
            owner,
            interrupt,
        } => {
            let id = self::id(session, &volume).await?;
            let spec = TransferSpec { owner, interrupt };
            let shown = async || client.under_new_ids().volume_show(id).await;
            session
                .change(client.volume_transfer(id, &spec), shown)
                .await
        }
        Verb::Move {
            volume,
            pool,
            bandwidth,
        } => {
            let id = self::id(session, &volume).await?;
            let spec = MoveSpec {
                pool: pool::id(session, &pool).await?,
                bandwidth: bandwidth.map(|bandwidth| bandwidth.0),
            };
            let shown = async || client.under_new_ids().volume_show(id).await;
            session.change(client.volume_move(id, &spec), shown).await
        }
        Verb::Delete {
            volume,
            clear,
            clear_size,
            bandwidth,
        } => {
            let id = self::id(session, &volume).await?;
            let text = format!("volume {id} is deleted");
            let Some(clear) = clear else {
                return session.removal(client.volume_delete(id), &text).await;
            };
            let (size, bandwidth) = (clear_size.map(|s| s.0), bandwidth.map(|b| b.0));
            let change = client.volume_clear(id, clear, size, bandwidth);
            session.removal(change, &text).await
        }
        Verb::DetachAll { volume } => {
            let id = self::id(session, &volume).await?;
            let text = format!("volume {id} is detached from every host");
            session.removal(client.volume_detach_all(id), &text).await
        }
        Verb::Attach {
            volume,
            host,
            transport,
            read_only,
        } => {
            let of = Connected::Volume(self::id(session, &volume).await?);
            let spec = ConnectionSpec {
                of,
                host: host::id(session, &host).await?,
                transport,
                access: connection::access(of, read_only),
            };
            connection::create(session, session.new_id(None), &spec).await
        }
        Verb::Detach {
            volume,
            host,
            transport,
            force,
        } => {
            let of = Connected::Volume(self::id(session, &volume).await?);
            let host = host::id(session, &host).await?;
            let connection = connection::between(session, of, host, transport).await?;
            connection::delete(session, connection, force).await
        }
    }
}

async fn source(
    session: &Session,
    snapshot: Option<String>,
    volume: Option<String>,
) -> anyhow::Result<Option<Parent>> {
    Ok(match (snapshot, volume) {
        (Some(text), _) => Some(Parent::Snapshot(snapshot::id(session, &text).await?)),
        (None, Some(text)) => Some(Parent::Volume(self::id(session, &text).await?)),
        (None, None) => None,
    })
}

/// The pool of a new volume: the one given, or its source's.
async fn home(
    session: &Session,
    pool: Option<String>,
    source: Option<Parent>,
) -> anyhow::Result<Uuid> {
    let looking = session.client.under_new_ids();
    match (pool, source) {
        (Some(pool), _) => pool::id(session, &pool).await,
        (None, Some(Parent::Snapshot(id))) => Ok(looking.snapshot_show(id).await?.pool),
        (None, Some(Parent::Volume(id))) => Ok(looking.volume_show(id).await?.pool),
        (None, None) => bail!("which pool? --pool"),
    }
}

fn kept(thick: bool) -> Provisioning {
    match thick {
        true => Provisioning::Thick,
        false => Provisioning::Thin,
    }
}

fn provisioning(text: &str) -> Result<Provisioning, &'static str> {
    match text {
        "thin" => Ok(Provisioning::Thin),
        "thick" => Ok(Provisioning::Thick),
        _ => Err("it is thin or thick"),
    }
}

/// The limits to ask for: the present ones with those given in their place.
async fn qos(
    session: &Session,
    id: Uuid,
    limits: &Limits,
    none: bool,
) -> anyhow::Result<Option<Qos>> {
    if !limits.any() {
        return Ok(none.then(Qos::default));
    }
    let present = match none {
        true => None,
        false => session.client.under_new_ids().volume_show(id).await?.qos,
    };
    Ok(Some(limits.over(present.unwrap_or_default())))
}

/// The id of a volume given by id or name.
pub async fn id(session: &Session, text: &str) -> anyhow::Result<Uuid> {
    resolve(text, async || {
        session.client.under_new_ids().volume_list().await
    })
    .await
}

impl Named for Volume {
    const KIND: &'static str = "volume";

    fn id(&self) -> Uuid {
        self.id
    }

    fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl Facts for Volume {
    const COLUMNS: &'static [&'static str] =
        &["id", "name", "size", "state", "connections", "pool"];

    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("id", self.id.to_string()),
            ("name", self.name.to_string()),
            ("size", human(self.size)),
            ("state", word(&self.state)),
            ("connections", self.connections.to_string()),
            ("snapshots", self.snapshots.to_string()),
            ("pool", self.pool.to_string()),
        ];
        facts.extend(
            self.owner
                .as_ref()
                .map(|owner| ("owner", owner.to_string())),
        );
        facts.extend(self.parent.map(|parent| ("parent", described(parent))));
        facts.extend(noted(&self.labels));
        facts.extend(limited(self.qos));
        facts.push(("provisioning", word(&self.provisioning)));
        facts.push(("created", moment(self.created)));
        facts
    }
}

fn described(parent: Parent) -> String {
    match parent {
        Parent::Volume(id) => format!("volume {id}"),
        Parent::Snapshot(id) => format!("snapshot {id}"),
    }
}

/// Seconds since 1970 as a date.
pub fn moment(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .unwrap_or_else(|| seconds.to_string())
}
