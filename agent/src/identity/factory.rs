//! What a box is given where it is made.
//!
//! ```text
//! seed.toml    serial, token, authority      put there with the image, gone once it is sealed
//! device.key   made by the box at its first start
//! sealed.toml  serial, certificates, claim   all that it keeps for life
//! ```

use std::sync::Arc;

use ashlar_protocol::identity::PROOF_URI;
use ashlar_protocol::{ClaimSecret, Problem, SealSpec, Serial, Sha256 as Digested};
use ring::hmac;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::{ServerName, UnixTime};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tracing::warn;
use x509_parser::parse_x509_certificate;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::folder::Folder;
use super::key::{self, Subject};
use super::{IdentityError, chain, invalid};
use crate::tls::{Clock, Pair, pem};

const SEED: &str = "seed.toml";
const KEY: &str = "device.key";
const SEALED: &str = "sealed.toml";

/// What a box is told of itself with its image.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seed {
    serial: Serial,
    /// 32 random bytes in hexadecimal, known to the station that wrote them.
    token: Token,
    /// Whose clients make the box, and who signs its certificate.
    authority: String,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(from = "Digested")]
struct Token([u8; 32]);

/// What stays. An older firmware passes over what only a newer one knows.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Sealed {
    pub(super) serial: Serial,
    pub(super) certificates: String,
    claim: Digested,
}

/// A box before or after it is sealed.
pub(super) enum Device {
    New(New),
    Sealed(Sealed, Zeroizing<String>),
}

/// A box that is being made.
pub(super) struct New {
    pub(super) serial: Serial,
    pub(super) authority: String,
    pub(super) proof: [u8; 32],
    pub(super) key: Zeroizing<String>,
}

/// What is there; `None` for a box that was made with nothing.
pub(super) fn read(folder: &Folder) -> Result<Option<Device>, IdentityError> {
    if let Some(text) = folder.read(SEALED)? {
        let sealed = parse(folder, SEALED, &text)?;
        let key = folder.read(KEY)?.ok_or(IdentityError::NoKey {
            path: folder.path(KEY),
        })?;
        remove_seed(folder);
        return Ok(Some(Device::Sealed(sealed, key)));
    }
    let Some(text) = folder.read(SEED)? else {
        return Ok(None);
    };
    let Seed {
        serial,
        token,
        authority,
    } = parse(folder, SEED, &text)?;
    let key = match folder.read(KEY)? {
        Some(key) => key,
        None => {
            let key = key::generate()?;
            folder.write(KEY, &key)?;
            key
        }
    };
    let signer = hmac::Key::new(hmac::HMAC_SHA256, &token.0);
    let proof = hmac::sign(&signer, &key::public(&key)?);
    let proof = proof.as_ref().try_into().unwrap_or_default();
    Ok(Some(Device::New(New {
        serial,
        authority,
        proof,
        key,
    })))
}

/// A sealed box has no use for it, nor does any harm come of it.
fn remove_seed(folder: &Folder) {
    if let Err(error) = folder.remove(SEED) {
        warn!(error = chain(&error), "the seed stays");
    }
}

fn parse<T: serde::de::DeserializeOwned>(
    folder: &Folder,
    name: &str,
    text: &str,
) -> Result<T, IdentityError> {
    toml::from_str(text).map_err(|error| IdentityError::Damaged {
        path: folder.path(name),
        // The whole error shows the line, which may be a secret.
        why: error.message().to_owned(),
    })
}

impl New {
    /// What it shows as long as nobody has signed anything: its key, with the proof that it is the
    /// one of the box that was flashed.
    pub(super) fn pair(&self) -> Result<Pair, IdentityError> {
        let proof = format!("{PROOF_URI}{}", Digested::from(self.proof));
        let names = vec![key::dns(&self.serial.device_name())?, key::uri(&proof)?];
        let certificate = self.subject(names).self_signed(&self.key)?;
        Ok(Pair {
            chain: vec![certificate],
            key: pem::key(&self.key)?,
        })
    }

    pub(super) fn subject(&self, names: Vec<rcgen::SanType>) -> Subject<'_> {
        Subject {
            common_name: self.serial.as_str(),
            serial: Some(&self.serial),
            names,
        }
    }

    /// What sealing makes of it.
    pub(super) fn sealed(&self, spec: &SealSpec, clock: &Clock) -> Result<Sealed, Problem> {
        let sealed = Sealed {
            serial: self.serial.clone(),
            certificates: spec.certificates.as_str().to_owned(),
            claim: spec.claim.clone(),
        };
        self.check(&sealed, clock)?;
        Ok(sealed)
    }

    /// Its own key, serial number and name, and the authority that was told with the image: a box
    /// with anything else could never prove who it is.
    fn check(&self, sealed: &Sealed, clock: &Clock) -> Result<(), Problem> {
        let refused = |why: String| invalid("certificates", why);
        let tls = |error: crate::tls::TlsError| refused(chain(&error));
        let certificates = pem::certificates("certificate", &sealed.certificates).map_err(tls)?;
        let (own, between) = (&certificates[0], &certificates[1..]);
        let (_, parsed) = parse_x509_certificate(own).map_err(|e| refused(e.to_string()))?;
        let public = key::public(&self.key).map_err(|e| refused(e.to_string()))?;
        if parsed.public_key().raw != public {
            return Err(refused("the certificate is for another key".to_owned()));
        }
        let mut serials = parsed.subject().iter_attributes();
        let is_ours = |text: &str| text == self.serial.as_str();
        let kind = x509_parser::oid_registry::OID_X509_SERIALNUMBER;
        if !serials.any(|a| *a.attr_type() == kind && a.as_str().is_ok_and(is_ours)) {
            let detail = format!("the subject has no serialNumber {}", self.serial);
            return Err(refused(detail));
        }
        let mut roots = RootCertStore::empty();
        for root in pem::certificates("authority", &self.authority).map_err(tls)? {
            roots.add(root).map_err(|e| refused(e.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = verifier.build().map_err(|e| refused(e.to_string()))?;
        let name = ServerName::try_from(self.serial.device_name());
        let name = name.map_err(|e| refused(e.to_string()))?;
        let now = UnixTime::since_unix_epoch(clock.now());
        let verified = verifier.verify_server_cert(own, between, &name, &[], now);
        let refuse = |error| refused(format!("the factory's authority did not sign it: {error}"));
        verified.map(drop).map_err(refuse)
    }
}

impl Sealed {
    pub(super) fn pair(&self, key: &str) -> Result<Pair, IdentityError> {
        Ok(Pair {
            chain: pem::certificates("device certificate", &self.certificates)?,
            key: pem::key(key)?,
        })
    }

    /// Makes the box what it is for life.
    pub(super) fn keep(&self, folder: &Folder) -> Result<(), Problem> {
        let text = toml::to_string(self);
        let text = text.map_err(|error| crate::engine::internal(&error.to_string()))?;
        folder.write(SEALED, &text)?;
        remove_seed(folder);
        Ok(())
    }

    /// Whether this is what the box was sealed with.
    pub(super) fn is_of(&self, spec: &SealSpec) -> bool {
        self.certificates == spec.certificates.as_str() && self.claim == spec.claim
    }

    /// Whether this is the secret on its label.
    pub(super) fn is_claimed_by(&self, secret: &ClaimSecret) -> bool {
        let digest = secret.digest(&self.serial).bytes();
        digest.ct_eq(&self.claim.bytes()).into()
    }
}

impl From<Digested> for Token {
    fn from(text: Digested) -> Token {
        Token(text.bytes())
    }
}
