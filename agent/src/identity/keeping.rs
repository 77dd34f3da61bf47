//! The two folders of a box that went through a factory, and what they make of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use ashlar_protocol::{
    ClaimSecret, ClaimSpec, InstallSpec, Problem, RequestSpec, Role, SealSpec, SigningRequest,
    TrustUpdate, TrustUpdated,
};
use rustls_pki_types::CertificateDer;
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use super::factory::{self, Device};
use super::folder::Folder;
use super::key::{self, Subject};
use super::own::Own;
use super::reset;
use super::state::State;
use super::trust::Trusted;
use super::{IdentityError, MAX_NAMES, chain, invalid, wrong};
use crate::config::IdentityFolders;
use crate::engine::internal;
use crate::tls::{Clock, Door, Entry, Peer, TlsError, pem};

const TRUST: &str = "trust.toml";
const OWN: &str = "own.pem";
const REQUESTED: &str = "request.key";
pub(super) const SEEN: &str = "seen";

/// How much later it must be for that to be kept.
const STEP: u64 = 86_400;

pub(super) struct Keeping {
    name: String,
    factory: Folder,
    folder: Folder,
    clock: Clock,
    state: RwLock<Arc<State>>,
    /// How many trials there were.
    trials: AtomicU64,
}

impl Keeping {
    pub(super) fn open(
        folders: &IdentityFolders,
        name: String,
        clock: &Clock,
    ) -> Result<Keeping, IdentityError> {
        let factory = Folder::at(folders.factory.clone());
        let folder = Folder::at(folders.folder.clone());
        let device = factory::read(&factory)?.ok_or_else(|| IdentityError::Nobody {
            path: folders.factory.clone(),
        })?;
        let trusted = match folder.read(TRUST)? {
            Some(text) => Some(
                toml::from_str(&text).map_err(|error| IdentityError::Damaged {
                    path: folder.path(TRUST),
                    why: error.message().to_owned(),
                })?,
            ),
            None => None,
        };
        let seen = folder.read(SEEN).ok().flatten();
        clock.raise(seen.and_then(|seen| seen.trim().parse().ok()).unwrap_or(0));
        let state = State {
            device: Arc::new(device),
            trusted,
            own: usable(&folder, clock),
            trial: None,
            leaving: false,
        };
        Ok(Keeping {
            name,
            factory,
            folder,
            clock: clock.clone(),
            state: RwLock::new(Arc::new(state)),
            trials: AtomicU64::new(0),
        })
    }

    pub(super) fn state(&self) -> Arc<State> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&state)
    }

    /// Is `next` from now on, once `keep` has written what is new of it.
    fn become_with(
        &self,
        next: State,
        door: &Door,
        keep: impl FnOnce() -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let entry = next.entry(&self.clock);
        let mut entry = entry.map_err(|error| internal(&chain(&error)))?;
        if next.phase() != self.state().phase() {
            // Nobody was revoked, and the one who asked for it waits for an answer.
            entry = entry.with_grace();
        }
        keep()?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        *state = Arc::new(next);
        drop(state);
        door.exchange(entry);
        Ok(())
    }

    pub(super) fn request(&self, spec: &RequestSpec) -> Result<SigningRequest, Problem> {
        if spec.names.len() > MAX_NAMES {
            return Err(invalid("names", format!("{MAX_NAMES} at most")));
        }
        let names: Result<Vec<_>, _> = spec.names.iter().map(key::alternative).collect();
        let (names, state) = (names?, self.state());
        if let Device::New(new) = &*state.device {
            return new.subject(names).request(&new.key);
        }
        state.owned()?;
        let subject = Subject {
            common_name: &self.name,
            serial: None,
            names,
        };
        subject.request(&self.requested()?)
    }

    /// The key that waits for its certificate. One that is damaged waits for nothing, nor does one that
    /// has its certificate, and was to be removed.
    fn requested(&self) -> Result<Zeroizing<String>, Problem> {
        let there = self.folder.read(REQUESTED).ok().flatten();
        let is_own = |key: &str| self.state().own.as_ref().is_some_and(|own| own.has(key));
        if let Some(there) = there
            && key::public(&there).is_ok()
            && !is_own(&there)
        {
            return Ok(there);
        }
        let made = key::generate().map_err(|error| internal(&error.to_string()))?;
        self.folder.write(REQUESTED, &made)?;
        Ok(made)
    }

    pub(super) fn seal(&self, spec: &SealSpec, door: &Door) -> Result<(), Problem> {
        let state = self.state();
        let (sealed, key) = match &*state.device {
            Device::New(new) => (new.sealed(spec, &self.clock)?, new.key.clone()),
            Device::Sealed(sealed, _) if sealed.is_of(spec) => return Ok(()),
            Device::Sealed(..) => return Err(wrong("it is sealed, and that is for life")),
        };
        let next = State {
            device: Arc::new(Device::Sealed(sealed.clone(), key)),
            ..state.next()
        };
        self.become_with(next, door, || sealed.keep(&self.factory))
    }

    pub(super) fn claim(&self, spec: &ClaimSpec, door: &Door) -> Result<(), Problem> {
        let state = self.state();
        state.claimable(spec)?;
        let trusted = Trusted::claimed(&spec.authorities, &self.clock)?;
        let next = State {
            trusted: Some(trusted.clone()),
            ..state.next()
        };
        let refused = |error: TlsError| invalid("client", chain(&error));
        let client = pem::certificates("certificate", spec.client.as_str()).map_err(refused)?;
        let entry = next.entry(&self.clock);
        let entry = entry.map_err(|error| internal(&chain(&error)))?;
        if !entry.admits(&client) {
            let why = "the authorities would not let in this client".to_owned();
            return Err(invalid("client", why));
        }
        let role = Peer::from_chain(&client).map(|peer| peer.role);
        if role != Some(Ok(Role::Admin)) {
            return Err(invalid("client", "it has not the role admin".to_owned()));
        }
        self.trust(next, &trusted, door)
    }

    /// Those that are not let in any more have to leave. Nobody shuts himself out.
    pub(super) fn update_trust(
        &self,
        update: &TrustUpdate,
        caller: &[CertificateDer<'_>],
        door: &Door,
    ) -> Result<TrustUpdated, Problem> {
        let state = self.state();
        let trusted = state.owned()?.updated(update, &self.clock)?;
        let view = trusted.view().map_err(|error| internal(&chain(&error)))?;
        let next = State {
            trusted: Some(trusted.clone()),
            ..state.next()
        };
        let entry = next.entry(&self.clock);
        let entry = entry.map_err(|error| internal(&chain(&error)))?;
        if !entry.admits(caller) {
            let why = "whoever asks would not be let in any more by the certificate shown";
            return Err(invalid("authorities, lists or deny", why.to_owned()));
        }
        let cut = door.unwanted(&entry);
        if !update.dry_run {
            self.trust(next, &trusted, door)?;
        }
        Ok(TrustUpdated { trust: view, cut })
    }

    /// The mark is what counts: from then on it is the next start that forgets.
    pub(super) fn reset(&self, secret: &ClaimSecret, door: &Door) -> Result<(), Problem> {
        let state = self.state();
        state.resettable(secret)?;
        let next = State {
            trusted: None,
            own: None,
            trial: None,
            leaving: true,
            ..state.next()
        };
        self.become_with(next, door, || self.mark())
    }

    /// Sets the mark. What is there of one that may not outlast a power cut is taken away again; where it
    /// cannot be, it counts, or else a later start would forget what was done since.
    fn mark(&self) -> Result<(), Problem> {
        let Err(error) = self.folder.write(reset::MARK, "") else {
            return Ok(());
        };
        match self.folder.remove(reset::MARK) {
            Ok(()) => Err(error.into()),
            Err(left) => {
                tracing::error!(%error, %left, "the mark of a reset may not outlast a power cut");
                Ok(())
            }
        }
    }

    fn trust(&self, next: State, trusted: &Trusted, door: &Door) -> Result<(), Problem> {
        let text = toml::to_string(trusted).map_err(|error| internal(&error.to_string()))?;
        self.become_with(next, door, || Ok(self.folder.write(TRUST, &text)?))
    }

    /// Shows a certificate: the trial that it is on then, `None` where there is nothing to try.
    pub(super) fn install(&self, spec: &InstallSpec, door: &Door) -> Result<Option<u64>, Problem> {
        let (state, certificates) = (self.state(), &spec.certificates);
        state.owned()?;
        if state.own().is_some_and(|own| own.is_of(certificates)) {
            return Ok(None);
        }
        if state
            .own
            .as_ref()
            .is_some_and(|own| own.is_of(certificates))
        {
            // The former one, instead of what is on trial.
            let next = State {
                trial: None,
                ..state.next()
            };
            self.become_with(next, door, || Ok(()))?;
            return Ok(None);
        }
        let Some(key) = self.folder.read(REQUESTED)? else {
            return Err(wrong("no certificate was requested"));
        };
        let own = Own::new(&key, certificates);
        own.check(&self.clock)?;
        let number = self.trials.fetch_add(1, Ordering::Relaxed);
        let next = State {
            trial: Some((number, own)),
            ..state.next()
        };
        let unsound = |error| invalid("certificates", chain(&error));
        next.entry(&self.clock).map_err(unsound)?;
        self.become_with(next, door, || Ok(()))?;
        Ok(Some(number))
    }

    /// A trial has ended, if it is still the one that is made.
    pub(super) fn end_trial(&self, trial: u64, proven: bool, door: &Door) -> Result<(), Problem> {
        let state = self.state();
        let Some((_, own)) = state.trial.as_ref().filter(|(number, _)| *number == trial) else {
            return Ok(());
        };
        let next = State {
            trial: None,
            ..state.next()
        };
        if !proven {
            warn!("no client has taken the new certificate: the former one is back");
            return self.become_with(next, door, || Ok(()));
        }
        let next = State {
            own: Some(own.clone()),
            ..next
        };
        self.become_with(next, door, || Ok(self.folder.write(OWN, own.text())?))?;
        info!("a client has taken the new certificate: it is kept");
        // Its key is in the other file now.
        Ok(self.folder.remove(REQUESTED)?)
    }

    /// Whether it is so much later than what is kept that this is to be kept, too.
    pub(super) fn is_later(&self, past: u64) -> bool {
        past >= self.clock.past() + STEP
    }

    /// Keeps that it is so late.
    pub(super) fn keep_time(&self, past: u64) -> Result<(), Problem> {
        if self.is_later(past) {
            self.clock.raise(past);
            self.folder.write(SEEN, &past.to_string())?;
        }
        Ok(())
    }
}

/// The owner's certificate, if it can be shown: the device's stands in for one that cannot.
fn usable(folder: &Folder, clock: &Clock) -> Option<Own> {
    let read = || -> Result<Option<Own>, IdentityError> {
        let Some(text) = folder.read(OWN)? else {
            return Ok(None);
        };
        let own = Own::kept(text);
        Entry::for_strangers(own.pair()?.into(), clock)?;
        Ok(Some(own))
    };
    read().unwrap_or_else(|error| {
        let path = folder.path(OWN);
        error!(path = %path.display(), error = chain(&error), "the device certificate stands in");
        None
    })
}
