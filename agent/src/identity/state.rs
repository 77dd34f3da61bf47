//! All that a box knows of itself at one time.

use std::sync::Arc;

use ashlar_protocol::{Certificate, ClaimSecret, ClaimSpec, Identity, Phase, Problem, ProblemCode};

use super::factory::{Device, New, Sealed};
use super::own::Own;
use super::trust::Trusted;
use super::{IdentityError, wrong};
use crate::tls::{Clock, Entry, Pair, Pairs, TlsError, pem};

/// As it is until the next change.
pub(super) struct State {
    pub(super) device: Arc<Device>,
    pub(super) trusted: Option<Trusted>,
    /// What an owner has given it.
    pub(super) own: Option<Own>,
    /// What an owner has given it and no client has taken yet, and which trial that is. It is not on
    /// disk: a start goes back to what has been proven.
    pub(super) trial: Option<(u64, Own)>,
    /// Whether the next start forgets all of an owner's. Until then nobody can have the box.
    pub(super) leaving: bool,
}

impl State {
    /// The same, to be changed.
    pub(super) fn next(&self) -> State {
        State {
            device: Arc::clone(&self.device),
            trusted: self.trusted.clone(),
            own: self.own.clone(),
            trial: self.trial.clone(),
            leaving: self.leaving,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match (&*self.device, &self.trusted) {
            (Device::New(_), _) => Phase::Factory,
            (Device::Sealed(..), None) => Phase::Unclaimed,
            (Device::Sealed(..), Some(_)) => Phase::Claimed,
        }
    }

    /// What an owner has given it, proven or not.
    pub(super) fn own(&self) -> Option<&Own> {
        let trial = self.trial.as_ref().map(|(_, own)| own);
        trial.or(self.own.as_ref())
    }

    /// The way in that all this makes.
    pub(super) fn entry(&self, clock: &Clock) -> Result<Entry, IdentityError> {
        let pairs = self.pairs()?;
        let entry = match (&*self.device, &self.trusted) {
            (Device::New(New { authority, .. }), _) => {
                let authorities = pem::certificates("authority of the factory", authority)?;
                Entry::for_clients(pairs, authorities.into(), clock)
            }
            (Device::Sealed(..), None) => Entry::for_strangers(pairs, clock),
            (Device::Sealed(..), Some(trusted)) => {
                Entry::for_clients(pairs, trusted.admission()?, clock)
            }
        };
        let entry = entry?;
        Ok(match self.trial {
            Some((number, _)) => entry.on_trial(number),
            None => entry,
        })
    }

    /// What is shown. The device certificate stays for those who ask for its name: no other can shut
    /// out everybody, whatever is wrong with it.
    fn pairs(&self) -> Result<Pairs, IdentityError> {
        let (sealed, key) = match &*self.device {
            Device::New(new) => return Ok(new.pair()?.into()),
            Device::Sealed(sealed, key) => (sealed, key),
        };
        let device: Pair = sealed.pair(key)?;
        Ok(match self.own() {
            None => device.into(),
            Some(own) => Pairs {
                own: own.pair()?,
                device: Some((sealed.serial.device_name(), device)),
            },
        })
    }

    /// Who it is, that shows this certificate.
    pub(super) fn show(&self, certificate: Certificate) -> Result<Identity, TlsError> {
        let (serial, device, proof) = match &*self.device {
            Device::New(new) => (&new.serial, None, Some(new.proof.into())),
            Device::Sealed(
                Sealed {
                    serial,
                    certificates,
                    ..
                },
                _,
            ) => {
                let chain = pem::certificates("device certificate", certificates)?;
                let device = pem::about("device certificate", &chain[0])?;
                (serial, Some(device), None)
            }
        };
        Ok(Identity {
            phase: self.phase(),
            serial: Some(serial.clone()),
            certificate,
            device,
            proof,
        })
    }

    pub(super) fn owned(&self) -> Result<&Trusted, Problem> {
        match (self.phase(), &self.trusted) {
            (Phase::Claimed, Some(trusted)) => Ok(trusted),
            _ => Err(wrong("it has no owner yet")),
        }
    }

    pub(super) fn claimable(&self, spec: &ClaimSpec) -> Result<(), Problem> {
        match (&*self.device, self.phase()) {
            _ if self.leaving => Err(wrong("it is being reset, and has to start again")),
            (Device::Sealed(sealed, _), Phase::Unclaimed) => known(sealed, &spec.secret),
            (Device::New(_), _) => Err(wrong("it is not sealed yet")),
            _ => Err(wrong("it has an owner")),
        }
    }

    pub(super) fn resettable(&self, secret: &ClaimSecret) -> Result<(), Problem> {
        self.owned()?;
        match &*self.device {
            Device::Sealed(sealed, _) => known(sealed, secret),
            Device::New(_) => Err(wrong("it is not sealed yet")),
        }
    }
}

/// That a secret is the one on the label.
fn known(sealed: &Sealed, secret: &ClaimSecret) -> Result<(), Problem> {
    match sealed.is_claimed_by(secret) {
        true => Ok(()),
        false => {
            let detail = "the secret is not the one of this box";
            Err(Problem::new(ProblemCode::Forbidden, detail))
        }
    }
}
