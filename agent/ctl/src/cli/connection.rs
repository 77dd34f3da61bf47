//! `ashlarctl connection …`

use ashlar_protocol::{Access, Connection, ConnectionSpec, PortalAddr, Transport};
use clap::Subcommand;
use uuid::Uuid;

use super::output::{self, Facts, word};
use super::session::Session;
use super::{host, volume};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Attach a volume to a host
    Create {
        /// The volume's id or name
        #[arg(long)]
        volume: String,
        /// The host's id or name
        #[arg(long)]
        host: String,
        /// How the host reaches it
        #[arg(long, short)]
        transport: Transport,
        /// Have its writes fail; over iSCSI only
        #[arg(long)]
        read_only: bool,
        /// The connection's id; made up unless given
        #[arg(long)]
        id: Option<Uuid>,
    },
    /// Show a connection and how to reach the volume
    Show {
        /// Its id
        connection: Uuid,
    },
    /// List connections
    List {
        /// Of this volume only, by id or name
        #[arg(long)]
        volume: Option<String>,
    },
    /// Detach a volume from a host
    Delete {
        /// The connection's id
        connection: Uuid,
        /// Cut the host off if it uses the volume
        #[arg(long)]
        force: bool,
    },
}

pub async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    let client = &session.client;
    match verb {
        Verb::Create {
            volume,
            host,
            transport,
            read_only,
            id,
        } => {
            let spec = ConnectionSpec {
                volume: volume::id(session, &volume).await?,
                host: host::id(session, &host).await?,
                transport,
                access: access(read_only),
            };
            create(session, session.new_id(id), &spec).await
        }
        Verb::Show { connection } => {
            output::one(session.format, &client.connection_show(connection).await?)
        }
        Verb::List { volume: None } => {
            output::many(session.format, &client.connection_list().await?)
        }
        Verb::List {
            volume: Some(volume),
        } => {
            let id = volume::id(session, &volume).await?;
            output::many(session.format, &client.connections_of(id).await?)
        }
        Verb::Delete { connection, force } => delete(session, connection, force).await,
    }
}

pub fn access(read_only: bool) -> Access {
    match read_only {
        true => Access::ReadOnly,
        false => Access::ReadWrite,
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
    const COLUMNS: &'static [&'static str] = &["id", "volume", "host", "transport", "state"];

    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("id", self.id.to_string()),
            ("volume", self.volume.to_string()),
            ("host", self.host.to_string()),
            ("transport", self.transport.to_string()),
            ("access", word(&self.access)),
            ("state", word(&self.state)),
        ];
        if let Some(iscsi) = &self.iscsi {
            facts.push(("target", iscsi.target.to_string()));
            facts.push(("LUN", iscsi.lun.to_string()));
            facts.push(("serial", iscsi.serial.clone()));
            facts.push(("portals", portals(&iscsi.portals)));
        }
        if let Some(nvme) = &self.nvme {
            facts.push(("subsystem", nvme.subsystem.to_string()));
            facts.push(("namespace", nvme.nsid.to_string()));
            facts.push(("uuid", nvme.uuid.to_string()));
            facts.push(("portals", portals(&nvme.portals)));
        }
        facts
    }
}

fn portals(portals: &[PortalAddr]) -> String {
    let portals: Vec<_> = portals.iter().map(ToString::to_string).collect();
    portals.join("\n")
}
