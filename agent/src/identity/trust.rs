//! Whose clients are let in, as it is kept and as it may change.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_protocol::identity::MAX_DENIED;
use ashlar_protocol::{Pem, Problem, ProblemCode, RevocationList, Sha256, Trust, TrustUpdate};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use x509_parser::num_bigint::BigUint;
use x509_parser::oid_registry::{
    OID_X509_EXT_DELTA_CRL_INDICATOR, OID_X509_EXT_ISSUER_DISTRIBUTION_POINT,
};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use super::{chain, invalid};
use crate::engine::internal;
use crate::tls::{Admission, Clock, TlsError, pem};

/// Most authorities at once: a handshake names them all.
const MAX_AUTHORITIES: usize = 16;

/// As it is kept. An older firmware passes over what only a newer one knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trusted {
    /// PEM, one after the other.
    authorities: String,
    /// By issuer, DER in base 64.
    lists: BTreeMap<String, String>,
    denied: BTreeSet<Sha256>,
}

impl Trusted {
    /// What an owner begins with.
    pub(super) fn claimed(authorities: &Pem, clock: &Clock) -> Result<Trusted, Problem> {
        let update = TrustUpdate {
            authorities: Some(authorities.clone()),
            ..TrustUpdate::default()
        };
        Trusted::default().updated(&update, clock)
    }

    pub(super) fn admission(&self) -> Result<Admission, TlsError> {
        let lists: Result<Vec<_>, _> = self.lists.values().map(|list| decoded(list)).collect();
        Ok(Admission {
            authorities: pem::certificates("client authority", &self.authorities)?,
            lists: lists?.into_iter().map(Into::into).collect(),
            denied: self.denied.iter().map(Sha256::bytes).collect(),
        })
    }

    pub(super) fn view(&self) -> Result<Trust, TlsError> {
        let authorities = pem::certificates("client authority", &self.authorities)?;
        let authorities = authorities
            .iter()
            .map(|a| pem::about("client authority", a));
        let lists = self
            .lists
            .values()
            .map(|kept| Ok(about(&list(&decoded(kept)?)?)));
        Ok(Trust {
            authorities: authorities.collect::<Result<_, _>>()?,
            lists: lists.collect::<Result<_, TlsError>>()?,
            denied: self.denied.iter().cloned().collect(),
        })
    }

    /// What an update makes of it.
    pub(super) fn updated(&self, update: &TrustUpdate, clock: &Clock) -> Result<Trusted, Problem> {
        let mut next = self.clone();
        if let Some(authorities) = &update.authorities {
            next.authorities = authorities.as_str().to_owned();
        }
        let refused = |error: TlsError| invalid("authorities", chain(&error));
        let ders = pem::certificates("client authority", &next.authorities).map_err(refused)?;
        let there = match self.authorities.is_empty() {
            true => Vec::new(),
            false => pem::certificates("client authority", &self.authorities).map_err(refused)?,
        };
        let authorities = parsed(&ders)?;
        for (der, authority) in ders.iter().zip(&authorities) {
            // One that was there before has expired by itself, and is to be no hindrance.
            let has_expired = authority.validity().not_after.timestamp() < clock.seconds();
            if has_expired && !there.contains(der) {
                let detail = format!("{} has expired", authority.subject());
                return Err(invalid("authorities", detail));
            }
        }
        // Of an authority that is gone there is nobody left to revoke.
        next.lists.clear();
        for (issuer, kept) in &self.lists {
            let der = decoded(kept).map_err(damaged)?;
            if has_signed(&authorities, &list(&der).map_err(damaged)?) {
                next.lists.insert(issuer.clone(), kept.clone());
            }
        }
        if let Some(lists) = &update.lists {
            next.take_lists(lists, &authorities)?;
        }
        next.denied.extend(update.deny.iter().cloned());
        next.denied.retain(|key| !update.allow.contains(key));
        next.check_denied(&ders)?;
        let check = next.admission().and_then(Admission::check);
        check.map_err(|error| invalid("authorities or lists", chain(&error)))?;
        Ok(next)
    }

    fn check_denied(&self, authorities: &[CertificateDer<'_>]) -> Result<(), Problem> {
        if self.denied.len() > MAX_DENIED {
            let detail = format!("deny: {MAX_DENIED} keys at most are denied at once");
            return Err(Problem::new(ProblemCode::OutOfRange, detail));
        }
        let mut keys = authorities.iter().filter_map(|der| pem::key_digest(der));
        match keys.any(|key| self.denied.contains(&key.into())) {
            true => {
                let why = "it is an authority's key: leave that out of the authorities instead";
                Err(invalid("deny", why.to_owned()))
            }
            false => Ok(()),
        }
    }

    /// Each in place of its authority's former one, which must not be newer.
    fn take_lists(&mut self, lists: &Pem, of: &[X509Certificate<'_>]) -> Result<(), Problem> {
        let refused = |why: String| invalid("lists", why);
        let lists = pem::lists(lists.as_str()).map_err(|error| refused(chain(&error)))?;
        if lists.is_empty() {
            return Err(refused("there is no revocation list".to_owned()));
        }
        for der in &lists {
            let new = list(der).map_err(|error| refused(chain(&error)))?;
            let issuer = new.issuer().to_string();
            if !has_signed(of, &new) {
                return Err(refused(format!(
                    "no authority has signed the list of {issuer}"
                )));
            }
            if new.extensions().iter().any(|extension| {
                [
                    OID_X509_EXT_ISSUER_DISTRIBUTION_POINT,
                    OID_X509_EXT_DELTA_CRL_INDICATOR,
                ]
                .contains(&extension.oid)
            }) {
                let why = format!("the list of {issuer} is not all that it revokes");
                return Err(refused(why));
            }
            let Some(number) = new.crl_number() else {
                return Err(refused(format!("the list of {issuer} has no number")));
            };
            self.check_newer(&issuer, number, der)?;
            let text = BASE64_STANDARD.encode(der);
            self.lists.insert(issuer, text);
        }
        Ok(())
    }

    /// A list that is replayed would let in whom later ones have revoked.
    fn check_newer(&self, issuer: &str, number: &BigUint, der: &[u8]) -> Result<(), Problem> {
        let Some(former) = self.lists.get(issuer) else {
            return Ok(());
        };
        let former = decoded(former).map_err(damaged)?;
        let there = list(&former).map_err(damaged)?;
        match there.crl_number() {
            Some(there) if there >= number && former != der => {
                let why = format!("{issuer} has number {there} here, and this is {number}");
                Err(invalid("lists", why))
            }
            _ => Ok(()),
        }
    }
}

fn damaged(error: TlsError) -> Problem {
    internal(&chain(&error))
}

fn decoded(list: &str) -> Result<Vec<u8>, TlsError> {
    BASE64_STANDARD
        .decode(list)
        .map_err(|error| TlsError::Unreadable {
            what: "revocation list",
            why: error.to_string(),
        })
}

fn list(der: &[u8]) -> Result<CertificateRevocationList<'_>, TlsError> {
    let unreadable = |why: String| TlsError::Unreadable {
        what: "revocation list",
        why,
    };
    match CertificateRevocationList::from_der(der) {
        Ok(([], list)) => Ok(list),
        Ok(_) => Err(unreadable("more follows behind it".to_owned())),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

fn about(list: &CertificateRevocationList<'_>) -> RevocationList {
    RevocationList {
        issuer: list.issuer().to_string(),
        number: list
            .crl_number()
            .map(ToString::to_string)
            .unwrap_or_default(),
        revoked: list.iter_revoked_certificates().count() as u64,
        this_update: list.last_update().timestamp(),
        next_update: list.next_update().map(|at| at.timestamp()),
    }
}

fn has_signed(authorities: &[X509Certificate<'_>], list: &CertificateRevocationList<'_>) -> bool {
    authorities.iter().any(|authority| {
        authority.subject() == list.issuer()
            && list.verify_signature(authority.public_key()).is_ok()
    })
}

/// Authorities that can be some beside each other: of two with one name, the lists of either would
/// be taken for those of both.
fn parsed<'a>(
    authorities: &'a [CertificateDer<'static>],
) -> Result<Vec<X509Certificate<'a>>, Problem> {
    let refused = |why: String| invalid("authorities", why);
    if authorities.len() > MAX_AUTHORITIES {
        let detail = format!("{} of them, {MAX_AUTHORITIES} at most", authorities.len());
        return Err(refused(detail));
    }
    let mut all: Vec<X509Certificate<'_>> = Vec::new();
    for der in authorities {
        let unreadable = |error: x509_parser::nom::Err<_>| refused(error.to_string());
        let (_, parsed) = X509Certificate::from_der(der).map_err(unreadable)?;
        let subject = parsed.subject().to_string();
        if !parsed.is_ca() {
            return Err(refused(format!("{subject} is no authority")));
        }
        if all
            .iter()
            .any(|other| other.subject().to_string() == subject)
        {
            return Err(refused(format!("there are two of the name {subject}")));
        }
        all.push(parsed);
    }
    Ok(all)
}
