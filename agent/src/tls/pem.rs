//! What PEM holds, and what there is to know of it.

use ashlar_protocol::Certificate;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use x509_parser::parse_x509_certificate;

use super::TlsError;

/// At least one certificate.
///
/// # Errors
/// When there is none, or what is there is no PEM. `what` is how these are called.
pub fn certificates(
    what: &'static str,
    text: &str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match found {
        Err(source) => Err(TlsError::Pem { what, source }),
        Ok(found) if found.is_empty() => Err(TlsError::Empty { what }),
        Ok(found) => Ok(found),
    }
}

/// The first key.
///
/// # Errors
/// When there is none.
pub fn key(text: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    let what = "key";
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|source| TlsError::Pem { what, source })
}

/// Lists of revoked certificates; none are fine.
///
/// # Errors
/// When what is there is no PEM.
pub fn lists(text: &str) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let what = "revocation list";
    let found: Result<_, _> =
        CertificateRevocationListDer::pem_slice_iter(text.as_bytes()).collect();
    found.map_err(|source| TlsError::Pem { what, source })
}

/// What there is to know of a certificate.
///
/// # Errors
/// When it is no X.509.
pub fn about(what: &'static str, der: &[u8]) -> Result<Certificate, TlsError> {
    let unreadable = |error: x509_parser::nom::Err<_>| TlsError::Unreadable {
        what,
        why: error.to_string(),
    };
    let (_, certificate) = parse_x509_certificate(der).map_err(unreadable)?;
    let validity = certificate.validity();
    Ok(Certificate {
        subject: super::peer::cut(certificate.subject().to_string()),
        sha256: <[u8; 32]>::from(Sha256::digest(der)).into(),
        key_sha256: <[u8; 32]>::from(Sha256::digest(certificate.public_key().raw)).into(),
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
    })
}

/// The SHA-256 of a certificate's key (DER SubjectPublicKeyInfo); `None` when it is no X.509.
pub fn key_digest(der: &[u8]) -> Option<[u8; 32]> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    Some(Sha256::digest(certificate.public_key().raw).into())
}
