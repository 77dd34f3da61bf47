//! Who the box is, whose it is, and whom it lets in.
//!
//! ```text
//! factory partition   seed, device key ── sealed: device certificate, digest of the claim secret
//! state partition     trust.toml, made by the claim ── own.pem, the owner's certificate for it
//!
//! factory ──seal──▶ unclaimed ──claim──▶ claimed
//! seed's authority  anybody, for a claim  the owner's authorities
//! ```
//!
//! Each change is one file, written whole before anybody is told, and then another entry at the
//! door. A new certificate of our own is on trial first: it is kept once a client has come in by
//! it, and given up for the former one otherwise.

mod factory;
mod folder;
mod keeping;
mod key;
mod own;
pub mod reset;
mod state;
#[cfg(test)]
mod tests;
mod trust;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ashlar_protocol::{
    self as protocol, Check, ClaimSecret, ClaimSpec, HealthStatus, InstallSpec, Phase, Problem,
    ProblemCode, RequestSpec, Role, SealSpec, SigningRequest, Trust, TrustUpdate, TrustUpdated,
};
use rustls_pki_types::CertificateDer;
use tokio::sync::Mutex;
use tracing::error;

use crate::config::Config;
use crate::engine::internal;
use crate::telemetry::Chain;
use crate::tls::{Clock, Door, Entry, Files, Peer, TlsError, pem};
use keeping::Keeping;
use trust::Trusted;

pub use folder::FolderError;

/// How long a new certificate has to be taken by a client.
const TRIAL: Duration = Duration::from_secs(15 * 60);

/// Most names that a certificate is asked for.
const MAX_NAMES: usize = 16;

/// The certificates that a caller has shown.
pub type Shown = Arc<[CertificateDer<'static>]>;

/// Who the box is. Cheap to clone.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    door: Door,
    clock: Clock,
    source: Source,
    /// One change at a time.
    changing: Mutex<()>,
}

enum Source {
    Configured(Files),
    Kept(Box<Keeping>),
}

/// Why the box does not know who it is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A key that cannot be one, or no randomness for another.
    #[error("failed to use the box's key")]
    Key(#[from] rcgen::Error),
    /// A file that is not what we wrote.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A certificate without its key.
    #[error("{} is missing, and a certificate for it is there", path.display())]
    NoKey {
        /// Where it should be.
        path: PathBuf,
    },
    /// Neither configured nor made in a factory.
    #[error(
        "the box has no identity: the configuration has no [tls], and there is no seed in {}",
        path.display()
    )]
    Nobody {
        /// Where a seed would be.
        path: PathBuf,
    },
}

/// What an update would make of nothing, for throwing anything at it.
#[doc(hidden)]
pub fn understand(update: &TrustUpdate) -> Result<Trust, Problem> {
    let trusted = Trusted::default().updated(update, &Clock::new())?;
    trusted.view().map_err(|error| internal(&chain(&error)))
}

impl Identity {
    /// As the configuration and the disks say.
    ///
    /// # Errors
    /// When what is there makes no way in.
    pub fn open(config: &Config) -> Result<Identity, IdentityError> {
        let clock = Clock::new();
        let (source, entry) = match &config.tls {
            Some(files) => {
                let files = Files::new(files.clone());
                let entry = files.entry(&clock)?;
                (Source::Configured(files), entry)
            }
            None => {
                let name = config.box_name().to_string();
                let keeping = Keeping::open(&config.identity, name, &clock)?;
                let entry = keeping.state().entry(&clock)?;
                (Source::Kept(Box::new(keeping)), entry)
            }
        };
        Ok(Identity(Arc::new(Inner {
            door: Door::new(entry),
            clock,
            source,
            changing: Mutex::default(),
        })))
    }

    /// The way in.
    pub fn door(&self) -> &Door {
        &self.0.door
    }

    /// What certificates are judged by.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Reads configured files again. What is kept is never changed by others.
    ///
    /// # Errors
    /// As [`Identity::open`]; what was in force stays in force.
    pub fn reload(&self) -> Result<(), IdentityError> {
        if let Source::Configured(files) = &self.0.source {
            self.door().exchange(files.entry(self.clock())?);
        }
        Ok(())
    }

    /// Who the box is.
    ///
    /// # Errors
    /// When a certificate cannot be read any more.
    pub fn show(&self) -> Result<protocol::Identity, Problem> {
        let broken = |error: TlsError| internal(&chain(&error));
        let entry = self.door().entry();
        let certificate = pem::about("certificate", entry.own()).map_err(broken)?;
        match &self.0.source {
            Source::Configured(_) => Ok(protocol::Identity {
                phase: Phase::Configured,
                serial: None,
                certificate,
                device: None,
                proof: None,
            }),
            Source::Kept(keeping) => keeping.state().show(certificate).map_err(broken),
        }
    }

    /// That another certificate of our own is due, if it is: two thirds of its life are over.
    pub fn due(&self) -> Option<Check> {
        let own = pem::about("certificate", self.door().entry().own()).ok()?;
        let (life, now) = (own.not_after - own.not_before, self.clock().seconds());
        let left = own.not_after - now;
        let what = match left {
            left if left > life / 3 => return None,
            ..0 => "has expired",
            _ => "is to be renewed",
        };
        let days = left / 86_400;
        let detail = format!("{} {what}: it has {days} days left", own.subject);
        Some(Check {
            name: "certificate".to_owned(),
            status: HealthStatus::Degraded,
            detail: Some(detail),
        })
    }

    /// Whose clients are let in.
    ///
    /// # Errors
    /// When the box has no owner yet.
    pub fn trust(&self) -> Result<Trust, Problem> {
        let view = self.kept()?.state().owned()?.view();
        view.map_err(|error| internal(&chain(&error)))
    }

    /// A request for a certificate: in the factory for the device, later for the owner's.
    ///
    /// # Errors
    /// When names cannot be in one, or the key cannot be kept.
    pub async fn request(
        &self,
        spec: RequestSpec,
        caller: Shown,
    ) -> Result<SigningRequest, Problem> {
        self.change_by(caller, move |keeping, _| keeping.request(&spec))
            .await
    }

    /// Shows another certificate from now on, and keeps it once a client has come in by it.
    ///
    /// # Errors
    /// When it is not for the key that was requested for, or cannot be shown.
    pub async fn install(&self, spec: InstallSpec, caller: Shown) -> Result<(), Problem> {
        let tried = self.change_by(caller, move |keeping, door| keeping.install(&spec, door));
        if let Some(trial) = tried.await? {
            let identity = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(TRIAL).await;
                identity.end_trial(trial, false).await;
            });
        }
        Ok(())
    }

    /// Somebody has come in by an entry, and asked for a box of some name. An admin who did not ask
    /// for the device has taken our certificate; and when a verified certificate begins is past, as its
    /// authority says.
    pub fn came(&self, peer: &Peer, entry: &Entry, named: Option<&str>) {
        let Source::Kept(keeping) = &self.0.source else {
            return;
        };
        if let Some(trial) = entry.trial()
            && peer.role == Ok(Role::Admin)
            && !entry.is_device(named)
        {
            let identity = self.clone();
            tokio::spawn(async move { identity.end_trial(trial, true).await });
        }
        let begin = u64::try_from(peer.not_before).unwrap_or(0);
        if keeping.is_later(begin) {
            let identity = self.clone();
            tokio::spawn(async move {
                let kept = identity.change(move |keeping, _| keeping.keep_time(begin));
                if let Err(problem) = kept.await {
                    error!(%problem, "failed to keep the time");
                }
            });
        }
    }

    async fn end_trial(&self, trial: u64, proven: bool) {
        let ended = self.change(move |keeping, door| keeping.end_trial(trial, proven, door));
        if let Err(problem) = ended.await {
            error!(%problem, "failed to end the trial of a certificate");
        }
    }

    /// Makes the box what it is for life, and closes it to the factory.
    ///
    /// # Errors
    /// When it was sealed with something else, or the certificate would not prove who it is.
    pub async fn seal(&self, spec: SealSpec, caller: Shown) -> Result<(), Problem> {
        self.change_by(caller, move |keeping, door| keeping.seal(&spec, door))
            .await
    }

    /// Gives the box to whoever knows its secret.
    ///
    /// # Errors
    /// When that is another one, or the box has an owner.
    pub async fn claim(&self, spec: ClaimSpec) -> Result<(), Problem> {
        self.change(move |keeping, door| keeping.claim(&spec, door))
            .await
    }

    /// Whether a claim would be heard, before anything is written for it.
    ///
    /// # Errors
    /// As [`Identity::claim`].
    pub fn claimable(&self, spec: &ClaimSpec) -> Result<(), Problem> {
        self.kept()?.state().claimable(spec)
    }

    /// Whether a reset would be heard.
    ///
    /// # Errors
    /// As [`Identity::reset`].
    pub fn resettable(&self, secret: &ClaimSecret) -> Result<(), Problem> {
        self.kept()?.state().resettable(secret)
    }

    /// Forgets the owner by the next start, and lets nobody in from now on.
    ///
    /// # Errors
    /// When there is none, or the secret is another one's.
    pub async fn reset(&self, secret: ClaimSecret, caller: Shown) -> Result<(), Problem> {
        self.change_by(caller, move |keeping, door| keeping.reset(&secret, door))
            .await
    }

    /// Changes whose clients are let in; those that are not any more have to leave.
    ///
    /// # Errors
    /// When it cannot be, or would shut out the one who asks.
    pub async fn update_trust(
        &self,
        update: TrustUpdate,
        caller: Shown,
    ) -> Result<TrustUpdated, Problem> {
        let shown = Arc::clone(&caller);
        let change =
            move |keeping: &Keeping, door: &Door| keeping.update_trust(&update, &shown, door);
        self.change_by(caller, change).await
    }

    fn kept(&self) -> Result<&Keeping, Problem> {
        match &self.0.source {
            Source::Kept(keeping) => Ok(keeping),
            Source::Configured(_) => {
                let detail = "the box's certificates are files that its configuration names";
                Err(Problem::new(ProblemCode::Unsupported, detail))
            }
        }
    }

    /// [`Identity::change`] by somebody who has to be let in when his turn comes: a request may have
    /// waited while its bearer was revoked.
    async fn change_by<T: Send + 'static>(
        &self,
        caller: Shown,
        change: impl FnOnce(&Keeping, &Door) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        self.change(move |keeping, door| match door.entry().admits(&caller) {
            true => change(keeping, door),
            false => Err(not_let_in()),
        })
        .await
    }

    /// Runs a change to its end, where it may wait for the disk.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Keeping, &Door) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let identity = self.clone();
        let changed = tokio::spawn(async move {
            let _alone = identity.0.changing.lock().await;
            let changing = identity.clone();
            let change = move || change(changing.kept()?, changing.door());
            tokio::task::spawn_blocking(change).await
        });
        let lost = |_| internal("the change has no end");
        changed.await.map_err(lost)?.map_err(lost)?
    }
}

/// The answer to somebody who was let in once.
pub(crate) fn not_let_in() -> Problem {
    let detail = "whoever asks is not let in any more by the certificate shown";
    Problem::new(ProblemCode::Forbidden, detail)
}

fn invalid(field: &str, why: String) -> Problem {
    Problem::new(ProblemCode::InvalidField, format!("{field}: {why}"))
}

fn wrong(why: &str) -> Problem {
    Problem::new(ProblemCode::WrongState, format!("the box: {why}"))
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    Chain(error).to_string()
}
