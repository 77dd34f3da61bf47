//! `ashlarctl volume …`

use anyhow::bail;
use ashlar_protocol::{ConnectionSpec, ExtendSpec, Name, Transport, Volume, VolumeSpec};
use clap::Subcommand;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::output::{self, Facts, word};
use super::session::{Named, Session, resolve};
use super::{connection, host, pool};
use ashlar_ctl::size::{Size, human};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create a volume
    Create {
        /// A label for people
        name: Name,
        /// Its pool's id or name
        #[arg(long)]
        pool: String,
        /// Its size, rounded up to whole MiB
        #[arg(long)]
        size: Size,
        /// The volume's id; made up unless given
        #[arg(long)]
        id: Option<Uuid>,
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
    /// Destroy a volume and its data; refused while it is attached
    Delete {
        /// Its id or name
        volume: String,
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
    },
}

pub async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    let client = &session.client;
    match verb {
        Verb::Create {
            name,
            pool,
            size,
            id,
        } => {
            let id = id.unwrap_or_else(Uuid::new_v4);
            let spec = VolumeSpec {
                name,
                pool: pool::id(session, &pool).await?,
                size: size.0,
            };
            let shown = async || client.under_new_ids().volume_show(id).await;
            session.change(client.volume_create(id, &spec), shown).await
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
        Verb::Delete { volume } => {
            let id = self::id(session, &volume).await?;
            let text = format!("volume {id} is deleted");
            session.removal(client.volume_delete(id), &text).await
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
        } => {
            let spec = ConnectionSpec {
                volume: self::id(session, &volume).await?,
                host: host::id(session, &host).await?,
                transport,
            };
            connection::create(session, Uuid::new_v4(), &spec).await
        }
        Verb::Detach {
            volume,
            host,
            transport,
        } => {
            let volume = self::id(session, &volume).await?;
            let host = host::id(session, &host).await?;
            detach(session, volume, host, transport).await
        }
    }
}

async fn detach(
    session: &Session,
    volume: Uuid,
    host: Uuid,
    transport: Option<Transport>,
) -> anyhow::Result<()> {
    let looking = session.client.under_new_ids();
    let mut found = looking.connections_of(volume).await?;
    found.retain(|connection| {
        connection.host == host && transport.is_none_or(|t| connection.transport == t)
    });
    match found.as_slice() {
        [] => bail!("volume {volume} has no such connection to host {host}"),
        [connection] => connection::delete(session, connection.id).await,
        [_, ..] => bail!("volume {volume} has several connections to host {host}: --transport"),
    }
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
        vec![
            ("id", self.id.to_string()),
            ("name", self.name.to_string()),
            ("size", human(self.size)),
            ("state", word(&self.state)),
            ("connections", self.connections.to_string()),
            ("pool", self.pool.to_string()),
            ("created", moment(self.created)),
        ]
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
