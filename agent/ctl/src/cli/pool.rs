//! `ashlarctl pool …`

use ashlar_protocol::{DiskId, Name, Pool, PoolSpec};
use clap::Subcommand;
use uuid::Uuid;

use super::output::{self, Facts, or_dash, word};
use super::session::{Named, Session, resolve};
use ashlar_ctl::size::{Size, human};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create a pool on blank disks
    Create {
        /// A label for people
        name: Name,
        /// A disk's id as in `disk list`; given for each disk, in order
        #[arg(long = "disk", value_name = "ID", required = true)]
        disks: Vec<DiskId>,
        /// The pool's id; made up unless given
        #[arg(long)]
        id: Option<Uuid>,
        /// Allocation unit, a multiple of 64KiB [default: 64KiB]
        #[arg(long, value_name = "SIZE")]
        block_size: Option<Size>,
        /// Room for metadata [default: chosen from the disks' size]
        #[arg(long, value_name = "SIZE")]
        metadata_size: Option<Size>,
        /// Destroy whatever the disks hold
        #[arg(long)]
        wipe: bool,
    },
    /// Show a pool
    Show {
        /// Its id or name
        pool: String,
    },
    /// List pools
    List,
}

pub async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    let client = &session.client;
    match verb {
        Verb::Create {
            name,
            disks,
            id,
            block_size,
            metadata_size,
            wipe,
        } => {
            let id = id.unwrap_or_else(Uuid::new_v4);
            let spec = PoolSpec {
                name,
                disks,
                block_size: block_size.map(|size| size.0),
                metadata_size: metadata_size.map(|size| size.0),
                wipe,
            };
            let shown = async || client.under_new_ids().pool_show(id).await;
            session.change(client.pool_create(id, &spec), shown).await
        }
        Verb::Show { pool } => {
            let id = self::id(session, &pool).await?;
            output::one(session.format, &client.pool_show(id).await?)
        }
        Verb::List => output::many(session.format, &client.pool_list().await?),
    }
}

/// The id of a pool given by id or name.
pub async fn id(session: &Session, text: &str) -> anyhow::Result<Uuid> {
    resolve(text, async || {
        session.client.under_new_ids().pool_list().await
    })
    .await
}

impl Named for Pool {
    const KIND: &'static str = "pool";

    fn id(&self) -> Uuid {
        self.id
    }

    fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl Facts for Pool {
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "name",
        "state",
        "capacity",
        "used",
        "provisioned",
        "volumes",
    ];

    fn facts(&self) -> Vec<(&'static str, String)> {
        let disks: Vec<_> = self.disks.iter().map(DiskId::as_str).collect();
        vec![
            ("id", self.id.to_string()),
            ("name", self.name.to_string()),
            ("state", word(&self.state)),
            ("capacity", or_dash(self.capacity.map(human))),
            ("used", or_dash(self.used.map(human))),
            ("provisioned", human(self.provisioned)),
            ("volumes", self.volumes.to_string()),
            ("metadata", human(self.metadata_size)),
            ("metadata used", or_dash(self.metadata_used.map(human))),
            ("block size", human(self.block_size)),
            ("disks", disks.join("\n")),
        ]
    }
}
