//! `ashlarctl host …`

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use ashlar_protocol::{
    Authentication, ChapCredentials, DhGroup, DhHash, DhchapExchange, Host, HostCreated,
    HostRotation, HostSecrets, HostSpec, Iqn, Name, Nqn, Wwn,
};
use clap::{Args, Subcommand, ValueEnum};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::output::{self, Facts, or_dash, word};
use super::session::{Named, Session, resolve};

/// Secrets are short; this is far above them.
const MAX_SECRETS: u64 = 64 * 1024;

const SECRETS_FILE: &str = "The secrets file is JSON, every part optional:\n  \
    {\"chap\": {\"name\": \"user\", \"secret\": \"12 to 16 characters\"},\n   \
    \"chap_mutual\": {\"name\": …, \"secret\": …},\n   \
    \"dhchap\": \"DHHC-1:00:…:\", \"dhchap_controller\": \"DHHC-1:00:…:\"}";

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create a host; generated secrets are shown this once
    #[command(after_help = SECRETS_FILE)]
    Create {
        /// A label for people
        name: Name,
        /// Its iSCSI name
        #[arg(long)]
        iqn: Option<Iqn>,
        /// Its NVMe name
        #[arg(long)]
        nqn: Option<Nqn>,
        /// The name of one of its Fibre Channel ports; may be repeated
        #[arg(long = "wwpn", value_name = "WWPN")]
        wwpns: Vec<Wwn>,
        #[command(flatten)]
        proof: Proof,
        /// The host's id; made up unless given
        #[arg(long)]
        id: Option<Uuid>,
    },
    /// Give a host new secrets, all of them; those generated are shown this once
    ///
    /// What is connected goes on. Whoever logs in or connects from now on needs the new secrets,
    /// also to come back after an interruption.
    #[command(after_help = SECRETS_FILE)]
    Rotate {
        /// Its id or name
        host: String,
        /// Have it prove who it is, and the box nothing; as before unless given
        #[arg(long, conflicts_with_all = ["mutual", "no_authentication"])]
        one_way: bool,
        #[command(flatten)]
        proof: Proof,
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

/// How host and box prove to each other who they are.
#[derive(Debug, Args)]
pub struct Proof {
    /// Have the box prove itself to the host, too
    #[arg(long)]
    mutual: bool,
    /// Let it in by its name alone; for isolated networks only
    #[arg(long, conflicts_with = "mutual")]
    no_authentication: bool,
    /// The hash of the proof over NVMe; sha256 unless given
    #[arg(long, value_name = "HASH")]
    dhchap_hash: Option<Hash>,
    /// The Diffie-Hellman group of the proof over NVMe; none unless given
    #[arg(long, value_name = "GROUP")]
    dhchap_group: Option<Group>,
    /// Read its secrets from this file, `-` for standard input; generated unless given
    #[arg(long, value_name = "FILE")]
    secrets_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Group {
    None,
    Ffdhe2048,
    Ffdhe3072,
    Ffdhe4096,
    Ffdhe6144,
    Ffdhe8192,
}

impl Proof {
    fn authentication(&self) -> Option<Authentication> {
        match (self.mutual, self.no_authentication) {
            (true, _) => Some(Authentication::Mutual),
            (_, true) => Some(Authentication::None),
            (false, false) => None,
        }
    }

    fn says_how(&self) -> bool {
        self.dhchap_hash.is_some() || self.dhchap_group.is_some()
    }

    /// What was said of it over NVMe, and the rest as it is `before`.
    fn exchange(&self, before: DhchapExchange) -> DhchapExchange {
        DhchapExchange {
            hash: match self.dhchap_hash {
                None => before.hash,
                Some(Hash::Sha256) => DhHash::Sha256,
                Some(Hash::Sha384) => DhHash::Sha384,
                Some(Hash::Sha512) => DhHash::Sha512,
            },
            group: match self.dhchap_group {
                None => before.group,
                Some(Group::None) => DhGroup::None,
                Some(Group::Ffdhe2048) => DhGroup::Ffdhe2048,
                Some(Group::Ffdhe3072) => DhGroup::Ffdhe3072,
                Some(Group::Ffdhe4096) => DhGroup::Ffdhe4096,
                Some(Group::Ffdhe6144) => DhGroup::Ffdhe6144,
                Some(Group::Ffdhe8192) => DhGroup::Ffdhe8192,
            },
        }
    }

    fn secrets(&self) -> anyhow::Result<HostSecrets> {
        let file = self.secrets_file.as_deref();
        file.map_or_else(|| Ok(HostSecrets::default()), read)
    }
}

pub async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    let client = &session.client;
    match verb {
        Verb::Create {
            name,
            iqn,
            nqn,
            wwpns,
            proof,
            id,
        } => {
            let id = session.new_id(id);
            let spec = HostSpec {
                name,
                iqn,
                nqn,
                wwpns: wwpns.into_iter().collect(),
                authentication: proof.authentication().unwrap_or_default(),
                dhchap: proof.exchange(DhchapExchange::default()),
                secrets: proof.secrets()?,
            };
            let shown = async || client.under_new_ids().host_show(id).await;
            session.change(client.host_create(id, &spec), shown).await
        }
        Verb::Rotate {
            host,
            one_way,
            proof,
        } => {
            let id = self::id(session, &host).await?;
            let dhchap = match proof.says_how() {
                false => None,
                true => Some(client.under_new_ids().host_show(id).await?.dhchap),
            };
            let one_way = one_way.then_some(Authentication::Required);
            let spec = HostRotation {
                authentication: one_way.or(proof.authentication()),
                dhchap: dhchap.map(|before| proof.exchange(before)),
                secrets: proof.secrets()?,
            };
            // Asked again under the same id, so that a job that took its time tells the secrets.
            let request = client.request_id().unwrap_or_else(Uuid::new_v4);
            let rotating = client.under(request);
            let told = async || -> anyhow::Result<HostCreated> {
                let asked = rotating.host_rotate(id, &spec).await?;
                asked
                    .done()
                    .ok_or_else(|| anyhow!("the secrets are not told yet"))
            };
            let rotated = session.change(rotating.host_rotate(id, &spec), told).await;
            rotated.with_context(|| {
                format!(
                    "asked for under --request-id {request}: the same once more is told the \
                     secrets when all volumes have them"
                )
            })
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
        let wwpns: Vec<_> = self.wwpns.iter().map(ToString::to_string).collect();
        let wwpns = match wwpns.is_empty() {
            true => "-".to_owned(),
            false => wwpns.join("\n"),
        };
        vec![
            ("id", self.id.to_string()),
            ("name", self.name.to_string()),
            ("iqn", or_dash(self.iqn.as_ref())),
            ("nqn", or_dash(self.nqn.as_ref())),
            ("wwpns", wwpns),
            ("authentication", word(&self.authentication)),
            ("DH-CHAP", self.dhchap.to_string()),
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
