//! Who we are and whom we trust.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::seeded::Seeded;
use crate::pki::DeviceError;

/// A client certificate with its key, and the authority whose appliances we trust.
#[derive(Clone)]
pub struct Identity {
    config: Arc<ClientConfig>,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file that cannot be read or is not PEM.
    #[error("failed to read the {what} in {}", path.display())]
    Read {
        /// Which part.
        what: &'static str,
        /// Its file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// A file without a certificate.
    #[error("there is no certificate in {}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// There is no token to know a box by.
    #[error(transparent)]
    Token(#[from] DeviceError),
    /// TLS cannot be had as we want it.
    #[error("failed to set up TLS")]
    Tls(#[source] rustls::Error),
    /// Certificates and key do not make a TLS configuration.
    #[error("failed to use the certificate {} with its key", path.display())]
    Use {
        /// The certificate's file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: rustls::Error,
    },
}

impl Identity {
    /// Reads an identity from PEM files.
    ///
    /// # Errors
    /// When a file is missing or empty, or key and certificate do not belong together.
    pub fn from_files(
        certificate: &Path,
        key: &Path,
        authority: &Path,
    ) -> Result<Identity, IdentityError> {
        let trusting = trusting()?.with_root_certificates(roots(authority)?);
        bearing(trusting, certificate, key)
    }

    /// The same for a box that is being made, and has no certificate that an authority has signed:
    /// it proves that it was given `token` with its image.
    ///
    /// # Errors
    /// Likewise.
    pub fn of_station(
        certificate: &Path,
        key: &Path,
        token: &Path,
    ) -> Result<Identity, IdentityError> {
        let seeded = Arc::new(Seeded::read(token)?);
        let trusting = trusting()?.dangerous();
        bearing(
            trusting.with_custom_certificate_verifier(seeded),
            certificate,
            key,
        )
    }

    /// Nobody in particular, to boxes of this authority: for one that has no owner.
    ///
    /// # Errors
    /// When the file is missing or empty.
    pub fn stranger(authority: &Path) -> Result<Identity, IdentityError> {
        let trusting = trusting()?.with_root_certificates(roots(authority)?);
        Ok(Identity {
            config: Arc::new(trusting.with_no_client_auth()),
        })
    }

    /// The TLS configuration, offering these application protocols.
    pub(super) fn config(&self, protocols: Vec<Vec<u8>>) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = protocols;
        Arc::new(config)
    }
}

fn trusting() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, IdentityError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]);
    builder.map_err(IdentityError::Tls)
}

fn bearing(
    trusting: ConfigBuilder<ClientConfig, WantsClientCert>,
    certificate: &Path,
    key: &Path,
) -> Result<Identity, IdentityError> {
    let chain = certificates("certificate", certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|source| IdentityError::Read {
        what: "key",
        path: key.to_owned(),
        source,
    })?;
    let config = trusting.with_client_auth_cert(chain, key);
    Ok(Identity {
        config: Arc::new(config.map_err(|source| unusable(certificate, source))?),
    })
}

fn roots(authority: &Path) -> Result<RootCertStore, IdentityError> {
    let mut roots = RootCertStore::empty();
    for root in certificates("authority", authority)? {
        let added = roots.add(root);
        added.map_err(|source| unusable(authority, source))?;
    }
    Ok(roots)
}

fn unusable(path: &Path, source: rustls::Error) -> IdentityError {
    IdentityError::Use {
        path: path.to_owned(),
        source,
    }
}

fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| IdentityError::Read {
            what,
            path: path.to_owned(),
            source,
        })?;
    if found.is_empty() {
        return Err(IdentityError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(found)
}
