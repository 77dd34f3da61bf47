//! `ashlarctl group …` and `ashlarctl group-snapshot …`

use ashlar_protocol::{
    Group, GroupSnapshot, GroupSnapshotSpec, GroupSnapshotUpdate, GroupSource, GroupSpec,
    GroupUpdate, MemberCopy, MemberSnapshot, Name,
};
use clap::Subcommand;
use uuid::Uuid;

use super::output::{self, Facts, word};
use super::session::{Named, Session, resolve};
use super::volume::{self, moment};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create a group of volumes, or of copies of another group's members
    Create {
        /// A label for people
        name: Name,
        /// A volume that joins it, by id or name; once for each
        #[arg(long = "volume", conflicts_with_all = ["from_group", "from_group_snapshot"])]
        volumes: Vec<String>,
        /// Its members are copies of this group's, by id or name, as they are now
        #[arg(long, conflicts_with = "from_group_snapshot")]
        from_group: Option<String>,
        /// Its members are copies of this group snapshot's, by id or name
        #[arg(long)]
        from_group_snapshot: Option<String>,
        /// The group's id; made up unless given
        #[arg(long)]
        id: Option<Uuid>,
    },
    /// Show a group
    Show {
        /// Its id or name
        group: String,
    },
    /// List groups
    List,
    /// Rename a group, add and remove members
    Update {
        /// Its id or name
        group: String,
        /// Another name
        #[arg(long)]
        name: Option<Name>,
        /// A volume that joins it, by id or name; once for each
        #[arg(long)]
        add: Vec<String>,
        /// A volume that leaves it, by id or name; once for each
        #[arg(long)]
        remove: Vec<String>,
    },
    /// Dissolve a group; its members stay
    Delete {
        /// Its id or name
        group: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum SnapshotVerb {
    /// Take a snapshot of every member of a group, at one instant
    Create {
        /// A label for people
        name: Name,
        /// The group's id or name
        #[arg(long)]
        group: String,
        /// The group snapshot's id; made up unless given
        #[arg(long)]
        id: Option<Uuid>,
    },
    /// Show a group snapshot
    Show {
        /// Its id or name
        group_snapshot: String,
    },
    /// List group snapshots
    List,
    /// Rename a group snapshot; its snapshots keep their names
    Update {
        /// Its id or name
        group_snapshot: String,
        /// Another name
        #[arg(long)]
        name: Name,
    },
    /// Destroy a group snapshot with its snapshots
    Delete {
        /// Its id or name
        group_snapshot: String,
    },
}

pub async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    let client = &session.client;
    match verb {
        Verb::Create {
            name,
            volumes,
            from_group,
            from_group_snapshot,
            id,
        } => {
            let spec = GroupSpec {
                name,
                volumes: ids(session, &volumes).await?,
                source: source(session, from_group, from_group_snapshot).await?,
            };
            let id = session.new_id(id);
            let shown = async || client.under_new_ids().group_show(id).await;
            session.change(client.group_create(id, &spec), shown).await
        }
        Verb::Show { group } => {
            let id = self::id(session, &group).await?;
            output::one(session.format, &client.group_show(id).await?)
        }
        Verb::List => output::many(session.format, &client.group_list().await?),
        Verb::Update {
            group,
            name,
            add,
            remove,
        } => {
            let id = self::id(session, &group).await?;
            let update = GroupUpdate {
                name,
                add: ids(session, &add).await?,
                remove: ids(session, &remove).await?,
            };
            let shown = async || client.under_new_ids().group_show(id).await;
            session
                .change(client.group_update(id, &update), shown)
                .await
        }
        Verb::Delete { group } => {
            let id = self::id(session, &group).await?;
            let text = format!("group {id} is dissolved");
            session.removal(client.group_delete(id), &text).await
        }
    }
}

pub async fn run_snapshot(session: &Session, verb: SnapshotVerb) -> anyhow::Result<()> {
    let client = &session.client;
    match verb {
        SnapshotVerb::Create { name, group, id } => {
            let group = self::id(session, &group).await?;
            let spec = GroupSnapshotSpec {
                name,
                group,
                snapshots: snapshots(session, group).await?,
            };
            let id = session.new_id(id);
            let shown = async || client.under_new_ids().group_snapshot_show(id).await;
            let change = client.group_snapshot_create(id, &spec);
            session.change(change, shown).await
        }
        SnapshotVerb::Show { group_snapshot } => {
            let id = snapshot_id(session, &group_snapshot).await?;
            output::one(session.format, &client.group_snapshot_show(id).await?)
        }
        SnapshotVerb::List => output::many(session.format, &client.group_snapshot_list().await?),
        SnapshotVerb::Update {
            group_snapshot,
            name,
        } => {
            let id = snapshot_id(session, &group_snapshot).await?;
            let spec = GroupSnapshotUpdate { name: Some(name) };
            let shown = async || client.under_new_ids().group_snapshot_show(id).await;
            let change = client.group_snapshot_update(id, &spec);
            session.change(change, shown).await
        }
        SnapshotVerb::Delete { group_snapshot } => {
            let id = snapshot_id(session, &group_snapshot).await?;
            let text = format!("group snapshot {id} is deleted");
            session
                .removal(client.group_snapshot_delete(id), &text)
                .await
        }
    }
}

async fn source(
    session: &Session,
    group: Option<String>,
    group_snapshot: Option<String>,
) -> anyhow::Result<Option<GroupSource>> {
    let looking = session.client.under_new_ids();
    let (group, group_snapshot, members) = match (group, group_snapshot) {
        (Some(text), _) => {
            let id = id(session, &text).await?;
            (Some(id), None, looking.group_show(id).await?.volumes)
        }
        (None, Some(text)) => {
            let id = snapshot_id(session, &text).await?;
            let snapshots = looking.group_snapshot_show(id).await?.snapshots;
            (None, Some(id), snapshots)
        }
        (None, None) => return Ok(None),
    };
    let copy = |source| MemberCopy {
        source,
        volume: session.part_id(source),
    };
    Ok(Some(GroupSource {
        group,
        group_snapshot,
        volumes: members.into_iter().map(copy).collect(),
    }))
}

/// New ids for the snapshots of a group's members.
async fn snapshots(session: &Session, group: Uuid) -> anyhow::Result<Vec<MemberSnapshot>> {
    let group = session.client.under_new_ids().group_show(group).await?;
    let new = |volume| MemberSnapshot {
        volume,
        snapshot: session.part_id(volume),
    };
    Ok(group.volumes.into_iter().map(new).collect())
}

async fn ids(session: &Session, volumes: &[String]) -> anyhow::Result<Vec<Uuid>> {
    let mut ids = Vec::with_capacity(volumes.len());
    for volume in volumes {
        ids.push(volume::id(session, volume).await?);
    }
    Ok(ids)
}

/// The id of a group given by id or name.
async fn id(session: &Session, text: &str) -> anyhow::Result<Uuid> {
    let looking = session.client.under_new_ids();
    resolve(text, async || looking.group_list().await).await
}

/// The id of a group snapshot given by id or name.
async fn snapshot_id(session: &Session, text: &str) -> anyhow::Result<Uuid> {
    let looking = session.client.under_new_ids();
    resolve(text, async || looking.group_snapshot_list().await).await
}

impl Named for Group {
    const KIND: &'static str = "group";

    fn id(&self) -> Uuid {
        self.id
    }

    fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl Named for GroupSnapshot {
    const KIND: &'static str = "group snapshot";

    fn id(&self) -> Uuid {
        self.id
    }

    fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl Facts for Group {
    const COLUMNS: &'static [&'static str] = &["id", "name", "state", "members", "snapshots"];

    fn facts(&self) -> Vec<(&'static str, String)> {
        vec![
            ("id", self.id.to_string()),
            ("name", self.name.to_string()),
            ("state", word(&self.state)),
            ("members", self.volumes.len().to_string()),
            ("snapshots", self.group_snapshots.to_string()),
            ("volumes", lines(&self.volumes)),
            ("created", moment(self.created)),
        ]
    }
}

impl Facts for GroupSnapshot {
    const COLUMNS: &'static [&'static str] = &["id", "name", "state", "group", "members"];

    fn facts(&self) -> Vec<(&'static str, String)> {
        vec![
            ("id", self.id.to_string()),
            ("name", self.name.to_string()),
            ("state", word(&self.state)),
            ("group", self.group.to_string()),
            ("members", self.snapshots.len().to_string()),
            ("snapshots", lines(&self.snapshots)),
            ("created", moment(self.created)),
        ]
    }
}

fn lines(ids: &[Uuid]) -> String {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    ids.join("\n")
}
