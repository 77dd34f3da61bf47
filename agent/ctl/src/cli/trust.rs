//! `ashlarctl trust …`

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, bail};
use ashlar_ctl::Change;
use ashlar_protocol::{Certificate, RevocationList, Sha256, Trust, TrustUpdate, TrustUpdated};
use clap::{Args, Subcommand};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::Digest;
use x509_parser::parse_x509_certificate;

use super::access::Format;
use super::identity::{day, pem};
use super::output::{self, Facts, or_dash};
use super::session::Session;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show the authorities, their lists of revoked certificates, and what is denied
    Show,
    /// Change some of it; whoever is not let in any more is cut off
    #[command(after_help = "Examples:\n  \
        ashlarctl trust update --list ca.crl\n  \
        ashlarctl trust update --deny alice.pem\n  \
        ashlarctl trust update --authority old.pem --authority new.pem --dry-run")]
    Update(Update),
}

#[derive(Debug, Args)]
pub struct Update {
    /// An authority whose clients are let in, PEM; all that there are to be have to be named
    #[arg(long = "authority", value_name = "FILE")]
    authorities: Vec<PathBuf>,
    /// An authority's list of revoked certificates, PEM, in place of its former one
    #[arg(long = "list", value_name = "FILE")]
    lists: Vec<PathBuf>,
    /// Do not let in a key: a certificate's file, or the SHA-256 of its key
    #[arg(long, value_name = "FILE|SHA256")]
    deny: Vec<Denied>,
    /// Let a denied key in again
    #[arg(long, value_name = "FILE|SHA256")]
    allow: Vec<Denied>,
    /// Only show what it would come to, and who would be cut off
    #[arg(long)]
    dry_run: bool,
}

/// A key by its digest.
#[derive(Clone, Debug)]
struct Denied(Sha256);

impl FromStr for Denied {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Denied> {
        if let Ok(digest) = Sha256::try_from(text.to_ascii_lowercase().replace(':', "")) {
            return Ok(Denied(digest));
        }
        let neither = || format!("{text} is neither 64 hexadecimal digits nor a certificate");
        let certificate = CertificateDer::from_pem_file(text).with_context(neither)?;
        let (_, certificate) = parse_x509_certificate(&certificate).with_context(neither)?;
        let digest: [u8; 32] = sha2::Sha256::digest(certificate.public_key().raw).into();
        Ok(Denied(digest.into()))
    }
}

pub async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Show => show(session.format, &session.client.trust_show().await?),
        Verb::Update(arguments) => {
            let prints = |denied: Vec<Denied>| denied.into_iter().map(|d| d.0).collect();
            let update = TrustUpdate {
                authorities: pem(&arguments.authorities)?,
                lists: pem(&arguments.lists)?,
                deny: prints(arguments.deny),
                allow: prints(arguments.allow),
                dry_run: arguments.dry_run,
            };
            match session.client.trust_update(&update).await? {
                Change::Done { value, .. } => updated(session.format, &value),
                Change::Accepted(job) => bail!("the box answered with the job {}", job.id),
            }
        }
    }
}

fn updated(format: Format, updated: &TrustUpdated) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::line(format, updated, "");
    }
    show(format, &updated.trust)?;
    for subject in &updated.cut {
        output::done(format, &format!("cut off: {subject}\n"))?;
    }
    Ok(())
}

fn show(format: Format, trust: &Trust) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::line(format, trust, "");
    }
    output::many(format, &trust.authorities)?;
    if !trust.lists.is_empty() {
        output::many(format, &trust.lists)?;
    }
    for print in &trust.denied {
        output::done(format, &format!("denied  {print}\n"))?;
    }
    Ok(())
}

impl Facts for Certificate {
    const COLUMNS: &'static [&'static str] = &["subject", "key", "until"];

    fn facts(&self) -> Vec<(&'static str, String)> {
        vec![
            ("subject", self.subject.clone()),
            ("key", self.key_sha256.to_string()),
            ("until", day(self.not_after)),
        ]
    }
}

impl Facts for RevocationList {
    const COLUMNS: &'static [&'static str] = &["list of", "number", "revoked", "made", "next"];

    fn facts(&self) -> Vec<(&'static str, String)> {
        vec![
            ("list of", self.issuer.clone()),
            ("number", self.number.clone()),
            ("revoked", self.revoked.to_string()),
            ("made", day(self.this_update)),
            ("next", or_dash(self.next_update.map(day))),
        ]
    }
}
