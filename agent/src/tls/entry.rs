//! What decides who gets in: our own certificate, and whose clients.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};

use super::pem::key_digest;
use super::{Clock, TlsError};

/// Most certificates between a client's and its authority: each may be verified, for anybody.
const MAX_BETWEEN: usize = 8;

/// A certificate with those between it and its authority, and its key.
pub struct Pair {
    /// The own one first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of that.
    pub key: PrivateKeyDer<'static>,
}

/// What is shown.
pub struct Pairs {
    /// To everybody.
    pub own: Pair,
    /// Instead of it, to those who ask for this name: what cannot be lost.
    pub device: Option<(String, Pair)>,
}

impl From<Pair> for Pairs {
    /// One for all.
    fn from(own: Pair) -> Pairs {
        Pairs { own, device: None }
    }
}

impl Pair {
    fn certified(self) -> Result<CertifiedKey, TlsError> {
        let provider = rustls::crypto::ring::default_provider();
        CertifiedKey::from_der(self.chain, self.key, &provider).map_err(TlsError::Pair)
    }
}

/// Whose clients are let in.
pub struct Admission {
    /// By which authorities.
    pub authorities: Vec<CertificateDer<'static>>,
    /// What these have revoked.
    pub lists: Vec<CertificateRevocationListDer<'static>>,
    /// SHA-256 of keys whose certificates are not let in all the same. Of a certificate that would
    /// be no use: its signature can be written in another way, and is as good.
    pub denied: BTreeSet<[u8; 32]>,
}

impl Admission {
    /// Whether it is one.
    ///
    /// # Errors
    /// When an authority cannot be one, or a list cannot be read.
    pub fn check(self) -> Result<(), TlsError> {
        Keeper::new(self).map(drop)
    }
}

impl From<Vec<CertificateDer<'static>>> for Admission {
    /// All clients of these.
    fn from(authorities: Vec<CertificateDer<'static>>) -> Admission {
        Admission {
            authorities,
            lists: Vec::new(),
            denied: BTreeSet::new(),
        }
    }
}

/// The way in, as it is until the next one is made.
#[derive(Debug)]
pub struct Entry {
    config: Arc<ServerConfig>,
    clock: Clock,
    /// `None` where everybody is a stranger.
    keeper: Option<Arc<Keeper>>,
    /// Our own certificate.
    own: Option<CertificateDer<'static>>,
    /// The name by which another is asked for.
    device: Option<String>,
    /// Whether that has yet to be taken by a client, and which trial that is.
    trial: Option<u64>,
    /// Whether those it does not let in may see the end of what they have asked for.
    with_grace: bool,
}

impl Entry {
    /// Lets in the clients of some authorities.
    ///
    /// # Errors
    /// When certificate and key do not go together, or an authority cannot be one.
    pub fn for_clients(
        pairs: Pairs,
        admission: Admission,
        clock: &Clock,
    ) -> Result<Entry, TlsError> {
        let keeper = Arc::new(Keeper::new(admission)?);
        Entry::new(pairs, Some(keeper), clock)
    }

    /// Lets in everybody, and asks nobody who he is.
    ///
    /// # Errors
    /// When certificate and key do not go together.
    pub fn for_strangers(pairs: Pairs, clock: &Clock) -> Result<Entry, TlsError> {
        Entry::new(pairs, None, clock)
    }

    fn new(pairs: Pairs, keeper: Option<Arc<Keeper>>, clock: &Clock) -> Result<Entry, TlsError> {
        let own = pairs.own.chain.first().cloned();
        let device = pairs.device.as_ref().map(|(name, _)| name.clone());
        let shown = Shown {
            own: Arc::new(pairs.own.certified()?),
            device: match pairs.device {
                Some((name, device)) => Some((name, Arc::new(device.certified()?))),
                None => None,
            },
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_details(provider, Arc::new(clock.clone()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Pair)?;
        let builder = match keeper.clone() {
            Some(keeper) => builder.with_client_cert_verifier(keeper),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(shown));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(Entry {
            config: Arc::new(config),
            clock: clock.clone(),
            keeper,
            own,
            device,
            trial: None,
            with_grace: false,
        })
    }

    /// The same with a certificate that has yet to be taken by a client.
    pub fn on_trial(self, trial: u64) -> Entry {
        Entry {
            trial: Some(trial),
            ..self
        }
    }

    /// Which trial our certificate is on, if it is.
    pub fn trial(&self) -> Option<u64> {
        self.trial
    }

    /// The same, which lets those that it does not let in see the end of what they have asked for:
    /// that may be what has brought it about.
    pub fn with_grace(self) -> Entry {
        Entry {
            with_grace: true,
            ..self
        }
    }

    /// Whether it does.
    pub fn has_grace(&self) -> bool {
        self.with_grace
    }

    /// Our own certificate.
    pub fn own(&self) -> &[u8] {
        self.own.as_deref().unwrap_or_default()
    }

    /// Whether somebody who asks for this name is shown the device's certificate instead of our own.
    pub fn is_device(&self, named: Option<&str>) -> bool {
        self.device
            .as_deref()
            .is_some_and(|device| named.is_some_and(|named| named.eq_ignore_ascii_case(device)))
    }

    /// What a handshake is made by.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Whether somebody with these certificates, none for a stranger, would be let in now.
    pub fn admits(&self, chain: &[CertificateDer<'_>]) -> bool {
        match (&self.keeper, chain.split_first()) {
            (None, None) => true,
            (Some(keeper), Some((own, between))) => {
                let now = UnixTime::since_unix_epoch(self.clock.now());
                keeper.verify_client_cert(own, between, now).is_ok()
            }
            _ => false,
        }
    }
}

#[derive(Debug)]
struct Shown {
    own: Arc<CertifiedKey>,
    device: Option<(String, Arc<CertifiedKey>)>,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name();
        let device = self.device.as_ref();
        let device = device.filter(|(name, _)| asked.is_some_and(|a| a.eq_ignore_ascii_case(name)));
        Some(Arc::clone(device.map_or(&self.own, |(_, device)| device)))
    }
}

/// Verifies as webpki does, and looks at the keys then.
#[derive(Debug)]
struct Keeper {
    webpki: Arc<dyn ClientCertVerifier>,
    denied: BTreeSet<[u8; 32]>,
}

impl Keeper {
    fn new(admission: Admission) -> Result<Keeper, TlsError> {
        let mut roots = RootCertStore::empty();
        for authority in admission.authorities {
            roots.add(authority).map_err(TlsError::Authority)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        // An authority without a list revokes nothing. One whose next list is late has not taken
        // back what it revoked, nor should it shut out everybody.
        let webpki = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .with_crls(admission.lists)
            .allow_unknown_revocation_status()
            .build()?;
        let denied = admission.denied;
        Ok(Keeper { webpki, denied })
    }
}

impl ClientCertVerifier for Keeper {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if between.len() > MAX_BETWEEN {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        let verified = self.webpki.verify_client_cert(own, between, now)?;
        if self.denied.is_empty() {
            return Ok(verified);
        }
        let denied = |certificate: &CertificateDer<'_>| match key_digest(certificate) {
            Some(digest) => self.denied.contains(&digest),
            None => true,
        };
        match std::iter::once(own).chain(between).any(denied) {
            true => Err(CertificateError::Revoked.into()),
            false => Ok(verified),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}
