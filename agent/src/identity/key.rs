//! Keys that never leave the box, and requests for certificates for them.

use ashlar_protocol::{Pem, Problem, Serial, ServerName, SigningRequest};
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DnType, DnValue, KeyPair, PublicKeyData, SanType};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::engine::internal;

/// The attribute `serialNumber` of a subject, which has no name of its own in rcgen.
const SERIAL_NUMBER: &[u64] = &[2, 5, 4, 5];

/// A new key, P-256, PKCS #8 in PEM.
pub(super) fn generate() -> Result<Zeroizing<String>, rcgen::Error> {
    Ok(Zeroizing::new(KeyPair::generate()?.serialize_pem()))
}

/// The SubjectPublicKeyInfo (DER) of a key.
pub(super) fn public(key: &str) -> Result<Vec<u8>, rcgen::Error> {
    Ok(KeyPair::from_pem(key)?.subject_public_key_info())
}

/// Whose certificate is asked for.
pub(super) struct Subject<'a> {
    pub(super) common_name: &'a str,
    pub(super) serial: Option<&'a Serial>,
    pub(super) names: Vec<SanType>,
}

impl Subject<'_> {
    pub(super) fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, self.common_name);
        if let Some(serial) = self.serial {
            let kind = DnType::CustomDnType(SERIAL_NUMBER.to_vec());
            name.push(kind, DnValue::Utf8String(serial.to_string()));
        }
        params.subject_alt_names = self.names.clone();
        params
    }

    /// A request for a certificate for `key`.
    pub(super) fn request(&self, key: &str) -> Result<SigningRequest, Problem> {
        let request = (|| {
            let key = KeyPair::from_pem(key)?;
            self.params().serialize_request(&key)?.pem()
        })();
        let request = request.map_err(|error| internal(&format!("no request: {error}")))?;
        let request = Pem::try_from(request).map_err(|error| internal(&error.to_string()))?;
        Ok(SigningRequest { request })
    }

    /// A certificate that `key` signs itself.
    pub(super) fn self_signed(&self, key: &str) -> Result<CertificateDer<'static>, rcgen::Error> {
        let key = KeyPair::from_pem(key)?;
        Ok(self.params().self_signed(&key)?.der().clone())
    }
}

/// A DNS name, address or URI as certificates have it.
pub(super) fn alternative(name: &ServerName) -> Result<SanType, Problem> {
    if let Ok(address) = name.as_str().parse() {
        return Ok(SanType::IpAddress(address));
    }
    dns(name.as_str()).map_err(|error| super::invalid("names", error.to_string()))
}

pub(super) fn dns(name: &str) -> Result<SanType, rcgen::Error> {
    Ia5String::try_from(name).map(SanType::DnsName)
}

pub(super) fn uri(uri: &str) -> Result<SanType, rcgen::Error> {
    Ia5String::try_from(uri).map(SanType::URI)
}
