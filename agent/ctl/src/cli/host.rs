//! `ashlarctl host …`

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use ashlar_protocol::{
    Authentication, ChapCredentials, Host, HostCreated, HostSecrets, HostSpec, Iqn, Name, Nqn,
};
use clap::Subcommand;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::output::{self, Facts, or_dash, word};
use super::session::{Named, Session, resolve};

/// Secrets are short; this is far above them.
const MAX_SECRETS: u64 = 64 * 1024;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create a host; generated secrets are shown this once
    #[command(after_help = "The secrets file is JSON, every part optional:\n  \
        {\"chap\": {\"name\": \"user\", \"secret\": \"12 to 16 characters\"},\n   \
        \"chap_mutual\": {\"name\": …, \"secret\": …},\n   \
        \"dhchap\": \"DHHC-1:00:…:\", \"dhchap_controller\": \"DHHC-1:00:…:\"}")]
    Create {
        /// A label for people
        name: Name,
        /// Its iSCSI name
        #[arg(long)]
        iqn: Option<Iqn>,
        /// Its NVMe name
        #[arg(long)]
        nqn: Option<Nqn>,
        /// Let it in by its name alone; for isolated networks only
        #[arg(long)]
        no_authentication: bool,
        /// Read its secrets from this file, `-` for standard input; generated unless given
        #[arg(long, value_name = "FILE")]
        secrets_file: Option<PathBuf>,
        /// The host's id; made up unless given
        #[arg(long)]
        id: Option<Uuid>,
    },
    /// Show a host, without its secrets
    Show {
        /// Its id or name
        host: String,
    },
    /// List hosts
    List,
    /// Forget a host; refused while a volume is attached to it
    Delete {
        /// Its id or name
        host: String,
    },
}

pub async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    let client = &session.client;
    match verb {
        Verb::Create {
            name,
            iqn,
            nqn,
            no_authentication,
            secrets_file,
            id,
        } => {
            let id = session.new_id(id);
            let spec = HostSpec {
                name,
                iqn,
                nqn,
                authentication: if no_authentication {
                    Authentication::None
                } else {
                    Authentication::Required
                },
                secrets: secrets_file.map_or_else(|| Ok(HostSecrets::default()), |p| read(&p))?,
            };
            let shown = async || client.under_new_ids().host_show(id).await;
            session.change(client.host_create(id, &spec), shown).await
        }
        Verb::Show { host } => {
            let id = self::id(session, &host).await?;
            output::one(session.format, &client.host_show(id).await?)
        }
        Verb::List => output::many(session.format, &client.host_list().await?),
        Verb::Delete { host } => {
            let id = self::id(session, &host).await?;
            let text = format!("host {id} is forgotten");
            session.removal(client.host_delete(id), &text).await
        }
    }
}

/// The id of a host given by id or name.
pub async fn id(session: &Session, text: &str) -> anyhow::Result<Uuid> {
    resolve(text, async || {
        session.client.under_new_ids().host_list().await
    })
    .await
}

fn read(path: &Path) -> anyhow::Result<HostSecrets> {
    let mut text = Zeroizing::new(String::new());
    let read = if path == Path::new("-") {
        std::io::stdin().take(MAX_SECRETS).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_SECRETS).read_to_string(&mut text))
    };
    read.with_context(|| format!("failed to read secrets from {}", path.display()))?;
    // serde quotes what it did not expect, which may be a secret: the place must do.
    serde_json::from_str(&text).map_err(|error| {
        anyhow!(
            "the secrets in {} are not valid at line {}, column {}; see `ashlarctl host create --help`",
            path.display(),
            error.line(),
            error.column()
        )
    })
}

impl Named for Host {
    const KIND: &'static str = "host";

    fn id(&self) -> Uuid {
        self.id
    }

    fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl Facts for Host {
    const COLUMNS: &'static [&'static str] = &["id", "name", "connections", "iqn", "nqn"];

    fn facts(&self) -> Vec<(&'static str, String)> {
        vec![
            ("id", self.id.to_string()),
            ("name", self.name.to_string()),
            ("iqn", or_dash(self.iqn.as_ref())),
            ("nqn", or_dash(self.nqn.as_ref())),
            ("authentication", word(&self.authentication)),
            ("connections", self.connections.to_string()),
        ]
    }
}

impl Facts for HostCreated {
    const COLUMNS: &'static [&'static str] = Host::COLUMNS;

    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = self.host.facts();
        let mut chap = |name, secret, credentials: &Option<ChapCredentials>| {
            if let Some(credentials) = credentials {
                facts.push((name, credentials.name.as_str().to_owned()));
                facts.push((secret, credentials.secret.expose().to_owned()));
            }
        };
        let secrets = &self.secrets;
        chap("CHAP name", "CHAP secret", &secrets.chap);
        chap(
            "mutual CHAP name",
            "mutual CHAP secret",
            &secrets.chap_mutual,
        );
        if let Some(key) = &secrets.dhchap {
            facts.push(("DH-CHAP key", key.expose().to_owned()));
        }
        if let Some(key) = &secrets.dhchap_controller {
            facts.push(("DH-CHAP controller key", key.expose().to_owned()));
        }
        facts
    }
}
