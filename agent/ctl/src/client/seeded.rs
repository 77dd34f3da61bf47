//! A box that is being made: known by what it was given with its image.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use ashlar_protocol::identity::PROOF_URI;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use crate::pki::{DeviceError, Token};

/// Takes the certificate, whoever signed it, whose key comes with a proof made with the token.
pub(super) struct Seeded {
    token: Token,
    provider: Arc<CryptoProvider>,
}

impl Seeded {
    /// With the token in a file.
    pub(super) fn read(path: &Path) -> Result<Seeded, DeviceError> {
        Ok(Seeded {
            token: Token::read(path)?,
            provider: Arc::new(rustls::crypto::ring::default_provider()),
        })
    }

    fn is_proven(&self, certificate: &CertificateDer<'_>) -> Option<bool> {
        let (_, certificate) = parse_x509_certificate(certificate).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        let mut proofs = names
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::URI(uri) => uri.strip_prefix(PROOF_URI),
                _ => None,
            });
        let key = certificate.public_key().raw;
        Some(self.token.proves(key, proofs.next()?))
    }
}

impl fmt::Debug for Seeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<a box with a token>")
    }
}

impl ServerCertVerifier for Seeded {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        _between: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.is_proven(own) {
            Some(true) => Ok(ServerCertVerified::assertion()),
            _ => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let known = &self.provider.signature_verification_algorithms;
        known.supported_schemes()
    }
}
