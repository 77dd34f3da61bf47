//! Why there is no way in.

use std::path::PathBuf;

use rustls::server::VerifierBuilderError;

/// Why texts in PEM make no TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("failed to read the {what} in {}", path.display())]
    Read {
        /// Which part.
        what: &'static str,
        /// Its file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// A file that is not what it should be.
    #[error("{} is not usable", path.display())]
    Within {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<TlsError>,
    },
    /// It is not PEM.
    #[error("the {what} is not well-formed PEM")]
    Pem {
        /// Which part.
        what: &'static str,
        /// What went wrong.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// It has none of what it should have.
    #[error("there is no {what}")]
    Empty {
        /// Which part.
        what: &'static str,
    },
    /// It is no X.509.
    #[error("the {what} cannot be read: {why}")]
    Unreadable {
        /// Which part.
        what: &'static str,
        /// What went wrong.
        why: String,
    },
    /// An authority that cannot be one.
    #[error("failed to trust the client authority")]
    Authority(#[source] rustls::Error),
    /// The authorities do not make a verifier.
    #[error("failed to verify clients")]
    Verifier(#[from] VerifierBuilderError),
    /// Files with a certificate and a key that do not go together.
    #[error("failed to use the certificate {} with the key {}", certificate.display(), key.display())]
    Files {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What went wrong.
        #[source]
        source: rustls::Error,
    },
    /// Certificate and key do not go together.
    #[error("failed to use the certificate with the key")]
    Pair(#[source] rustls::Error),
}
