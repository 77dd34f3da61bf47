//! Who is at the other end, from a certificate that was verified.

use std::sync::Arc;

use ashlar_protocol::{Role, UnknownRole};
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;
use x509_parser::prelude::X509Certificate;

/// Longest subject kept, in bytes; longer ones are cut.
const MAX_SUBJECT: usize = 256;

/// A client whose certificate was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The certificate's subject, such as `CN=alice`.
    pub subject: String,
    /// What it may do.
    pub role: Result<Role, RoleError>,
    /// The first second of its certificate, since 1970.
    pub not_before: i64,
    /// The last one.
    pub not_after: i64,
    /// The certificates that it has shown, its own first.
    pub chain: Arc<[CertificateDer<'static>]>,
}

/// Why a certificate lets its bearer do nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    /// It has no URI of ours.
    #[error("the certificate has no URI name beginning with urn:ashlar:role:")]
    Missing,
    /// It has one that we do not know.
    #[error(transparent)]
    Unknown(#[from] UnknownRole),
    /// It has several: whoever signed it did not mean what it says.
    #[error("the certificate has more than one role")]
    Several,
    /// There is no certificate, since the box has no owner who could have signed one.
    #[error("the box has no owner: it shows its identity and takes a claim, nothing else")]
    Stranger,
    /// The name extension is there twice or cannot be read.
    #[error("the certificate's names cannot be read")]
    Unreadable,
}

impl Peer {
    /// Somebody who has shown these certificates, which were verified; `None` when the first is
    /// no X.509, which a verified one always is.
    pub fn from_chain(chain: &[CertificateDer<'_>]) -> Option<Peer> {
        let chain: Arc<[_]> = chain.iter().map(|c| c.clone().into_owned()).collect();
        let Some(own) = chain.first() else {
            return Some(Peer {
                subject: "a stranger".to_owned(),
                role: Err(RoleError::Stranger),
                not_before: i64::MIN,
                not_after: i64::MAX,
                chain,
            });
        };
        let (_, certificate) = parse_x509_certificate(own).ok()?;
        Some(Peer {
            subject: cut(certificate.subject().to_string()),
            role: role(&certificate),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            chain: Arc::clone(&chain),
        })
    }

    /// Whether it has shown no certificate.
    pub fn is_stranger(&self) -> bool {
        self.chain.is_empty()
    }
}

fn role(certificate: &X509Certificate<'_>) -> Result<Role, RoleError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| RoleError::Unreadable)?
        .ok_or(RoleError::Missing)?;
    let mut roles = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Role::from_uri(uri),
            _ => None,
        });
    match (roles.next(), roles.next()) {
        (None, _) => Err(RoleError::Missing),
        (Some(role), None) => Ok(role?),
        (Some(_), Some(_)) => Err(RoleError::Several),
    }
}

/// Kept in logs and records, so it is short and on one line.
pub(super) fn cut(subject: String) -> String {
    let mut subject = subject.replace(char::is_control, "?");
    while subject.len() > MAX_SUBJECT {
        subject.pop();
    }
    subject
}

#[cfg(test)]
mod tests {
    use rcgen::string::Ia5String;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn peer(subject: &str, uris: &[&str]) -> Peer {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, subject);
        let uri = |uri: &&str| SanType::URI(Ia5String::try_from(*uri).unwrap());
        params.subject_alt_names = uris.iter().map(uri).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Peer::from_chain(&[certificate.der().clone()]).unwrap()
    }

    #[test]
    fn a_role_is_exactly_one_uri_that_we_know() {
        let role = |uris: &[&str]| peer("alice", uris).role;
        assert_eq!(role(&["urn:ashlar:role:operator"]), Ok(Role::Operator));
        assert_eq!(
            role(&["https://example.org", "urn:ashlar:role:reader"]),
            Ok(Role::Reader)
        );
        assert_eq!(role(&[]), Err(RoleError::Missing));
        assert_eq!(role(&["urn:example:role:admin"]), Err(RoleError::Missing));
        assert!(matches!(
            role(&["urn:ashlar:role:root"]),
            Err(RoleError::Unknown(_))
        ));
        assert_eq!(
            role(&["urn:ashlar:role:reader", "urn:ashlar:role:admin"]),
            Err(RoleError::Several)
        );
    }

    #[test]
    fn a_subject_is_short_and_on_one_line() {
        assert_eq!(peer("alice", &[]).subject, "CN=alice");
        let long = peer(&format!("a\n{}", "é".repeat(300)), &[]).subject;
        assert!(long.len() <= MAX_SUBJECT && !long.contains('\n'), "{long}");
    }
}
