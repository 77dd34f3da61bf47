//! Who we are and whom we trust.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

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
        let chain = certificates("certificate", certificate)?;
        let unusable = |path: &Path, source| IdentityError::Use {
            path: path.to_owned(),
            source,
        };
        let mut roots = RootCertStore::empty();
        for root in certificates("authority", authority)? {
            roots
                .add(root)
                .map_err(|source| unusable(authority, source))?;
        }
        let key = PrivateKeyDer::from_pem_file(key).map_err(|source| IdentityError::Read {
            what: "key",
            path: key.to_owned(),
            source,
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|source| unusable(certificate, source))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|source| unusable(certificate, source))?;
        Ok(Identity {
            config: Arc::new(config),
        })
    }

    /// The TLS configuration, offering these application protocols.
    pub(super) fn config(&self, protocols: Vec<Vec<u8>>) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = protocols;
        Arc::new(config)
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
