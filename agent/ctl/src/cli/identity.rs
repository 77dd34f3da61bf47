//! `ashlarctl identity …`

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use ashlar_ctl::{Change, Client, Identity as Ourselves};
use ashlar_protocol::identity::NoClaimSecret;
use ashlar_protocol::{
    ClaimSecret, ClaimSpec, Identity, InstallSpec, Pem, Phase, RequestSpec, ResetSpec, SealSpec,
    Serial, ServerName, SigningRequest,
};
use clap::Subcommand;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use super::access::{Access, Format};
use super::output::{self, Facts, or_dash, word};
use super::session::Session;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show who the box is, and whether it has an owner
    Show,
    /// Take a box that has no owner yet, with the secret from its label
    #[command(after_help = "Example:\n  \
        ashlarctl -e box1 --cert admin.pem identity claim --serial AX-000123 \\\n    \
        --secret label.txt --factory-ca maker.pem --authority ca.pem")]
    Claim {
        /// The box's serial number, which it has to prove
        #[arg(long)]
        serial: Serial,
        /// A file with the claim secret, such as the text of the label
        #[arg(long, value_name = "FILE")]
        secret: PathBuf,
        /// The authority of the box's maker, PEM
        #[arg(long, value_name = "FILE")]
        factory_ca: PathBuf,
        /// An authority whose clients manage the box from now on, PEM; may be given several times
        #[arg(long = "authority", value_name = "FILE", required = true)]
        authorities: Vec<PathBuf>,
    },
    /// Have the box make a key, and print a request for its certificate (PKCS #10, PEM)
    Request {
        /// A DNS name or address that the certificate should have; may be given several times
        #[arg(long = "name", value_name = "NAME")]
        names: Vec<ServerName>,
        /// Where to put it, instead of printing it
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Give the box the certificate that was requested, and come by it
    Install {
        /// The box's own, then those between it and its authority, PEM
        #[arg(value_name = "FILE")]
        certificates: PathBuf,
    },
    /// Forget the owner and all that is his; the box starts again, and is claimed anew by its label
    #[command(after_help = "Example:\n  \
        ashlarctl -e box1 identity reset --secret label.txt\n\n\
        What a box forgets: whom it lets in, its owner's certificate, hosts, volumes, events, jobs, the \
        audit trail. It keeps its device certificate and the secret on its label.")]
    Reset {
        /// A file with the claim secret, or the label: without it nobody could claim the box again
        #[arg(long, value_name = "FILE")]
        secret: PathBuf,
        /// Forget pools, too: they and what they hold stay on their disks
        #[arg(long)]
        abandon_pools: bool,
    },
    /// Give a new box its device certificate, and close it to the factory
    Seal {
        /// The device certificate, then those between it and its authority, PEM
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
        /// A file with the claim secret, of which the box is told the digest
        #[arg(long, value_name = "FILE")]
        claim: PathBuf,
    },
}

pub async fn run(access: Access, verb: Verb) -> anyhow::Result<()> {
    if let Verb::Claim {
        serial,
        secret,
        factory_ca,
        authorities,
    } = verb
    {
        let client = access.cert.clone();
        let client = client.ok_or_else(|| {
            super::usage("who is to manage it? the admin's --cert or ASHLAR_CERT")
        })?;
        let spec = ClaimSpec {
            secret: claim_secret(&secret)?,
            authorities: pem(&authorities)?.context("an authority is needed")?,
            client: pem(&[client])?.context("a certificate is needed")?,
        };
        return claim(&access, &serial, &factory_ca, &spec).await;
    }
    if matches!(verb, Verb::Show) && access.cert.is_none() {
        let client = stranger(&access)?;
        return output::one(access.output, &client.identity_show().await?);
    }
    let again = Client::new(access.endpoint()?, &access.identity()?);
    let named = access.server_name.clone();
    let session = Session::open(access)?;
    let client = &session.client;
    match verb {
        Verb::Show => output::one(session.format, &client.identity_show().await?),
        Verb::Claim { .. } => unreachable!("it is made by strangers"),
        Verb::Request { names, out } => {
            let request = done(client.identity_request(&RequestSpec { names }).await?)?;
            give(session.format, &request, out.as_deref())
        }
        Verb::Install { certificates } => {
            let certificates = pem(&[certificates])?.context("a certificate is needed")?;
            done(
                client
                    .identity_install(&InstallSpec { certificates })
                    .await?,
            )?;
            // An admin has to come by it, or the box goes back to the former one.
            let shown = again.identity_show().await.context(
                "the box shows the new certificate, and we do not take it: it goes back to the \
                 former one in a quarter of an hour, unless another admin comes by it",
            )?;
            let device = shown.serial.as_ref().map(Serial::device_name);
            if named.is_some_and(|named| Some(&*named.to_str()) == device.as_deref()) {
                eprintln!("it is kept once an admin has come by it, by one of its own names");
            }
            output::one(session.format, &shown)
        }
        Verb::Reset {
            secret,
            abandon_pools,
        } => {
            let spec = ResetSpec {
                secret: claim_secret(&secret)?,
                abandon_pools,
            };
            let text = "the box forgets its owner, and starts again\n";
            session.removal(client.identity_reset(&spec), text).await
        }
        Verb::Seal { certificate, claim } => {
            let serial = client.under_new_ids().identity_show().await?.serial;
            let serial = serial.context("the box has no serial number")?;
            let spec = SealSpec {
                certificates: pem(&[certificate])?.context("a certificate is needed")?,
                claim: claim_secret(&claim)?.digest(&serial),
            };
            output::one(session.format, &done(client.identity_seal(&spec).await?)?)
        }
    }
}

/// The box proves its serial number before it is told the secret.
async fn claim(
    access: &Access,
    serial: &Serial,
    factory_ca: &Path,
    spec: &ClaimSpec,
) -> anyhow::Result<()> {
    let name = rustls_pki_types::ServerName::try_from(serial.device_name())?;
    let endpoint = access.endpoint()?.known_as(&name);
    let client = Client::new(endpoint, &Ourselves::stranger(factory_ca)?);
    let client = match access.request_id {
        Some(id) => client.under(id),
        None => client,
    };
    let claimed = client.identity_claim(spec).await.context(
        "the box has not said that it is claimed; one that is lets in nobody without a \
         certificate, and tells its owner's clients by `identity show`",
    )?;
    output::one(access.output, &done(claimed)?)
}

fn stranger(access: &Access) -> anyhow::Result<Client> {
    let authority = access.ca.as_ref();
    let authority = authority.ok_or_else(|| super::usage("trusting whom? --ca or ASHLAR_CA"))?;
    let identity = Ourselves::stranger(authority)?;
    Ok(Client::new(access.endpoint()?, &identity))
}

fn done<T>(change: Change<T>) -> anyhow::Result<T> {
    match change {
        Change::Done { value, .. } => Ok(value),
        Change::Accepted(job) => bail!("the box answered with the job {}", job.id),
    }
}

fn give(format: Format, request: &SigningRequest, out: Option<&Path>) -> anyhow::Result<()> {
    let text = request.request.as_str();
    match out {
        Some(path) => {
            fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
        }
        None => output::line(format, request, text.trim_end()),
    }
}

/// What is in these files, one after the other.
pub fn pem(files: &[PathBuf]) -> anyhow::Result<Option<Pem>> {
    if files.is_empty() {
        return Ok(None);
    }
    let mut all = String::new();
    for file in files {
        let text = fs::read_to_string(file);
        let text = text.with_context(|| format!("failed to read {}", file.display()))?;
        let begin = text.find("-----BEGIN ");
        let begin = begin.with_context(|| format!("{} is not PEM", file.display()))?;
        all.push_str(&text[begin..]);
        if !all.ends_with('\n') {
            all.push('\n');
        }
    }
    Ok(Some(all.try_into()?))
}

/// Of a file with nothing else in it, or of a label, which has it as the last word of a line.
fn claim_secret(file: &Path) -> anyhow::Result<ClaimSecret> {
    let named = || format!("failed to read the claim secret in {}", file.display());
    let text = Zeroizing::new(fs::read_to_string(file).with_context(named)?);
    let words = text
        .lines()
        .filter_map(|line| line.split_whitespace().last());
    let mut candidates = std::iter::once(text.trim()).chain(words);
    let secret = candidates.find_map(|text| ClaimSecret::try_from(text.to_owned()).ok());
    secret.ok_or(NoClaimSecret).with_context(named)
}

/// A moment of a certificate's life, which may be before 1970 or in 9999.
pub fn day(seconds: i64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp(seconds);
    let text = moment.ok().and_then(|moment| moment.format(&Rfc3339).ok());
    text.unwrap_or_else(|| seconds.to_string())
}

impl Facts for Identity {
    const COLUMNS: &'static [&'static str] = &["serial", "phase", "certificate"];

    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("phase", word(&self.phase)),
            ("serial", or_dash(self.serial.as_ref())),
            ("certificate", self.certificate.subject.clone()),
            ("  sha256", self.certificate.sha256.to_string()),
            ("  until", day(self.certificate.not_after)),
        ];
        if let Some(device) = &self.device {
            facts.push(("device", device.subject.clone()));
            facts.push(("  sha256", device.sha256.to_string()));
        }
        if self.phase == Phase::Factory {
            facts.push(("proof", or_dash(self.proof.as_ref())));
        }
        facts
    }
}
