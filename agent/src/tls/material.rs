//! Certificates and keys from files, and the TLS configuration they make.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;

use crate::config::Tls;

/// The TLS configuration in force, and where it comes from.
pub struct Material {
    files: Tls,
    current: watch::Sender<Arc<ServerConfig>>,
}

/// Why files make no TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or is not PEM.
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
    /// A file has no certificate in it.
    #[error("there is no {what} in {}", path.display())]
    Empty {
        /// Which part.
        what: &'static str,
        /// Its file.
        path: PathBuf,
    },
    /// An authority that cannot be one.
    #[error("failed to trust the client authority in {}", path.display())]
    Authority {
        /// Its file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: rustls::Error,
    },
    /// The authorities do not make a verifier.
    #[error("failed to verify clients by {}", path.display())]
    Verifier {
        /// Their file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: VerifierBuilderError,
    },
    /// Certificate and key do not go together.
    #[error("failed to use the certificate {} with the key {}", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What went wrong.
        #[source]
        source: rustls::Error,
    },
}

impl Material {
    /// Reads the files.
    ///
    /// # Errors
    /// When one is missing or they do not go together.
    pub fn load(files: Tls) -> Result<Material, TlsError> {
        let config = Arc::new(read(&files)?);
        let (current, _) = watch::channel(config);
        Ok(Material { files, current })
    }

    /// Reads the files again. Handshakes from now on see what they say.
    ///
    /// # Errors
    /// As [`Material::load`]; what was in force stays in force.
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = Arc::new(read(&self.files)?);
        self.current.send_replace(config);
        Ok(())
    }

    /// The configuration in force, now and later.
    pub fn watch(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.current.subscribe()
    }
}

fn read(files: &Tls) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(
        authorities(&files.client_ca)?,
        provider.clone(),
    )
    .build()
    .map_err(|source| TlsError::Verifier {
        path: files.client_ca.clone(),
        source,
    })?;
    let pair = |source| TlsError::Pair {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        source,
    };
    let chain = certificates("certificate", &files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| TlsError::Read {
        what: "key",
        path: files.key.clone(),
        source,
    })?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(pair)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

fn authorities(path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("client authority", path)? {
        roots
            .add(certificate)
            .map_err(|source| TlsError::Authority {
                path: path.to_owned(),
                source,
            })?;
    }
    Ok(Arc::new(roots))
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| TlsError::Read {
            what,
            path: path.to_owned(),
            source,
        })?;
    if found.is_empty() {
        return Err(TlsError::Empty {
            what,
            path: path.to_owned(),
        });
    }
    Ok(found)
}
