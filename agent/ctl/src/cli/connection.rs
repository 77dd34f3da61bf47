//! `ashlarctl connection …`

use anyhow::bail;
use ashlar_protocol::{Access, Connected, Connection, ConnectionSpec, Transport};
use clap::Subcommand;
use uuid::Uuid;

use super::output::{self, Facts, or_dash, word};
use super::session::Session;
use super::{host, snapshot, volume};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Attach a volume, or a snapshot to read it, to a host
    Create {
        /// The volume's id or name
        #[arg(
            long,
            required_unless_present = "snapshot",
            conflicts_with = "snapshot"
        )]
        volume: Option<String>,
        /// The snapshot's id or name, instead
        #[arg(long)]
        snapshot: Option<String>,
        /// The host's id or name
        #[arg(long)]
        host: String,
        /// How the host reaches it
        #[arg(long, short)]
        transport: Transport,
        /// Have its writes fail; over iSCSI only. Of a snapshot they do anyway
        #[arg(long)]
        read_only: bool,
        /// The connection's id; made up unless given
        #[arg(long)]
        id: Option<Uuid>,
    },
    /// Show a connection and how to reach what is connected
    Show {
        /// Its id
        connection: Uuid,
    },
    /// List connections
    List {
        /// Of this volume only, by id or name
        #[arg(long, conflicts_with = "snapshot")]
        volume: Option<String>,
        /// Of this snapshot only, by id or name
        #[arg(long)]
        snapshot: Option<String>,
    },
    /// Detach a volume or a snapshot from a host
    Delete {
        /// The connection's id
        connection: Uuid,
        /// Cut the host off if it uses it
        #[arg(long)]
        force: bool,
    },
}

pub async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    let client = &session.client;
    match verb {
        Verb::Create {
            volume,
            snapshot,
            host,
            transport,
            read_only,
            id,
        } => {
            let of = match (volume, snapshot) {
                (Some(volume), _) => Connected::Volume(volume::id(session, &volume).await?),
                (None, Some(snapshot)) => {
                    Connected::Snapshot(snapshot::id(session, &snapshot).await?)
                }
                (None, None) => bail!("which volume? --volume, or --snapshot"),
            };
            let spec = ConnectionSpec {
                of,
                host: host::id(session, &host).await?,
                transport,
                access: access(of, read_only),
            };
            create(session, session.new_id(id), &spec).await
        }
        Verb::Show { connection } => {
            output::one(session.format, &client.connection_show(connection).await?)
        }
        Verb::List { volume, snapshot } => {
            let found = match (volume, snapshot) {
                (Some(volume), _) => {
                    let id = volume::id(session, &volume).await?;
                    client.connections_of(id).await?
                }
                (None, Some(snapshot)) => {
                    let id = snapshot::id(session, &snapshot).await?;
                    client.connections_of_snapshot(id).await?
                }
                (None, None) => client.connection_list().await?,
            };
            output::many(session.format, &found)
        }
        Verb::Delete { connection, force } => delete(session, connection, force).await,
    }
}

/// What a host may do: no more than is asked for, and of a snapshot read.
pub fn access(of: Connected, read_only: bool) -> Access {
    match (of, read_only) {
        (Connected::Volume(_), false) => Access::ReadWrite,
        (Connected::Volume(_), true) | (Connected::Snapshot(_), _) => Access::ReadOnly,
    }
}

/// The one connection of a volume or a snapshot to a host, over that transport if there is one for
/// each.
pub async fn between(
    session: &Session,
    of: Connected,
    host: Uuid,
    transport: Option<Transport>,
) -> anyhow::Result<Uuid> {
    let looking = session.client.under_new_ids();
    let mut found = match of {
        Connected::Volume(id) => looking.connections_of(id).await?,
        Connected::Snapshot(id) => looking.connections_of_snapshot(id).await?,
    };
    found.retain(|connection| {
        connection.host == host && transport.is_none_or(|t| connection.transport == t)
    });
    match found.as_slice() {
        [] => bail!("{of} has no such connection to host {host}"),
        [connection] => Ok(connection.id),
        [_, ..] => bail!("{of} has several connections to host {host}: --transport"),
    }
}

pub async fn create(session: &Session, id: Uuid, spec: &ConnectionSpec) -> anyhow::Result<()> {
    let client = &session.client;
    let shown = async || client.under_new_ids().connection_show(id).await;
    let change = client.connection_create(id, spec);
    session.change(change, shown).await
}

pub async fn delete(session: &Session, id: Uuid, force: bool) -> anyhow::Result<()> {
    let text = format!("connection {id} is gone");
    let client = &session.client;
    match force {
        true => session.removal(client.connection_cut(id), &text).await,
        false => session.removal(client.connection_delete(id), &text).await,
    }
}

impl Facts for Connection {
    const COLUMNS: &'static [&'static str] =
        &["id", "volume", "host", "transport", "state", "snapshot"];

    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("id", self.id.to_string()),
            ("volume", or_dash(self.volume)),
            ("snapshot", or_dash(self.snapshot)),
            ("host", self.host.to_string()),
            ("transport", self.transport.to_string()),
            ("access", word(&self.access)),
            ("state", word(&self.state)),
        ];
        if let Some(iscsi) = &self.iscsi {
            facts.push(("target", iscsi.target.to_string()));
            facts.push(("LUN", iscsi.lun.to_string()));
            facts.push(("serial", iscsi.serial.clone()));
            facts.push(("portals", lines(&iscsi.portals)));
        }
        if let Some(fc) = &self.fc {
            facts.push(("LUN", fc.lun.to_string()));
            facts.push(("serial", fc.serial.clone()));
            facts.push(("ports", lines(&fc.ports)));
        }
        if let Some(nvme) = &self.nvme {
            facts.push(("subsystem", nvme.subsystem.to_string()));
            facts.push(("namespace", nvme.nsid.to_string()));
            facts.push(("uuid", nvme.uuid.to_string()));
            match nvme.fc_ports.is_empty() {
                true => facts.push(("portals", lines(&nvme.portals))),
                false => facts.push(("ports", lines(&nvme.fc_ports))),
            }
        }
        facts
    }
}

fn lines(all: &[impl ToString]) -> String {
    let all: Vec<_> = all.iter().map(ToString::to_string).collect();
    all.join("\n")
}
