//! Requests for certificates, from those who keep their keys to themselves.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rcgen::{
    CertificateSigningRequestParams, DistinguishedName, DnType, DnValue, PKCS_ECDSA_P256_SHA256,
    PublicKey, PublicKeyData,
};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::{self, PemObject};

/// Largest file that is read as a request, in bytes.
const MAX_REQUEST: u64 = 64 << 10;

/// Bytes of a point of P-256 that is written out: what kind it is, and two coordinates.
const POINT: usize = 65;
/// The kind of point that has both.
const UNCOMPRESSED: u8 = 4;

/// X.520's serialNumber: of a device, not of a certificate.
const SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];

/// A request (PKCS #10) whose sender has shown, by its signature, to have the key.
///
/// Nothing but the key is taken from it into a certificate.
#[derive(Clone, Debug)]
pub struct Request {
    key: PublicKey,
    subject: DistinguishedName,
}

/// Why a request is of no use.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The file could not be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The file is larger than any request.
    #[error("{} has more than {MAX_REQUEST} bytes: it is no certificate request", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is not PEM, or PEM of something else.
    #[error("there is no PEM of a certificate request")]
    Pem(#[source] pem::Error),
    /// It is no request, or its signature is not by its key.
    #[error("the certificate request is not sound")]
    Unsound(#[source] rcgen::Error),
    /// A key of a kind that is not used here.
    #[error("the certificate request's key is not of the kind P-256")]
    Key,
}

impl Request {
    /// Reads a PEM file.
    ///
    /// # Errors
    /// When it cannot be read, is too large, or [`Request::from_pem`] refuses it.
    pub fn read(path: &Path) -> Result<Request, RequestError> {
        let failed = |source| RequestError::Read {
            path: path.to_owned(),
            source,
        };
        let mut text = Vec::new();
        let file = File::open(path).map_err(failed)?;
        file.take(MAX_REQUEST + 1)
            .read_to_end(&mut text)
            .map_err(failed)?;
        if text.len() as u64 > MAX_REQUEST {
            return Err(RequestError::TooLarge {
                path: path.to_owned(),
            });
        }
        Self::from_pem(&text)
    }

    /// A request from PEM, its signature verified.
    ///
    /// # Errors
    /// When it is none, its signature is not by its key, or the key is not of P-256.
    pub fn from_pem(text: &[u8]) -> Result<Request, RequestError> {
        let der = CertificateSigningRequestDer::from_pem_slice(text).map_err(RequestError::Pem)?;
        let request =
            CertificateSigningRequestParams::from_der(&der).map_err(RequestError::Unsound)?;
        let key = request.public_key;
        // The algorithm is that of the signature: what it was made with is told by the length.
        let point = key.der_bytes();
        if key.algorithm() != &PKCS_ECDSA_P256_SHA256
            || point.len() != POINT
            || point[0] != UNCOMPRESSED
        {
            return Err(RequestError::Key);
        }
        Ok(Request {
            key,
            subject: request.params.distinguished_name,
        })
    }

    /// Its key.
    pub(super) fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Its key as DER SubjectPublicKeyInfo.
    pub fn public_key_info(&self) -> Vec<u8> {
        self.key.subject_public_key_info()
    }

    /// The device's serial number that its subject names.
    pub(super) fn serial(&self) -> Option<&str> {
        match self.subject.get(&serial_number())? {
            DnValue::PrintableString(text) => Some(text.as_str()),
            DnValue::Utf8String(text) => Some(text),
            _ => None,
        }
    }
}

/// The attribute of a subject that holds a device's serial number.
pub(super) fn serial_number() -> DnType {
    DnType::CustomDnType(SERIAL_NUMBER.to_vec())
}
