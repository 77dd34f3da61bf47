//! `ashlarctl support …`

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use ashlar_ctl::client::Download;
use ashlar_protocol::SupportSpec;
use clap::Subcommand;
use uuid::Uuid;

use super::identity::pem;
use super::output;
use super::progress::Progress;
use super::session::Session;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Gather what somebody needs who is to help with the box; only who has the key of a certificate can
    /// open it
    #[command(after_help = "Example:\n  \
        ashlarctl support bundle box1.cms --to support.pem\n\n\
        Whoever has the key opens it with\n  \
        openssl cms -decrypt -binary -inform DER -in box1.cms -recip support.pem -inkey support.key | tar xz")]
    Bundle {
        /// Where to put it
        file: PathBuf,
        /// Whose it is to be: a certificate, PEM, with an RSA key or one on P-256 or P-384
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
}

pub async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    let Verb::Bundle { file, to } = verb;
    let certificate = pem(&[to])?.context("a certificate is needed")?;
    let progress = Progress::start("gathering");
    let bundle = session
        .client
        .support_bundle(&SupportSpec { certificate })
        .await?;
    let taken = keep(bundle, &file).await;
    drop(progress);
    let bytes = taken.with_context(|| format!("failed to make {}", file.display()))?;
    let text = format!("{}: {bytes} bytes\n", file.display());
    output::done(session.format, &text)
}

/// Puts a bundle where it is to be once all of it is there.
async fn keep(bundle: Download, path: &Path) -> anyhow::Result<u64> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".{:.8}.partial", Uuid::new_v4().simple()));
    let partial = PathBuf::from(partial);
    let written = write(bundle, &partial).await;
    let kept = written.and_then(|bytes| {
        fs::rename(&partial, path)?;
        Ok(bytes)
    });
    if kept.is_err() {
        // Of no use to anybody; that it is there is told by the name.
        drop(fs::remove_file(&partial));
    }
    kept
}

async fn write(mut bundle: Download, path: &Path) -> anyhow::Result<u64> {
    let mut file = File::create_new(path)?;
    let mut bytes = 0;
    while let Some(piece) = bundle.next().await? {
        file.write_all(&piece)?;
        bytes += piece.len() as u64;
    }
    file.sync_all()?;
    Ok(bytes)
}
