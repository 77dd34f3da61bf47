//! Who is at the other end, from a certificate that was verified.

use ashlar_protocol::{Role, UnknownRole};
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
    /// The last second of its certificate, since 1970.
    pub not_after: i64,
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
    /// The name extension is there twice or cannot be read.
    #[error("the certificate's names cannot be read")]
    Unreadable,
}

impl Peer {
    /// Reads a certificate; `None` when it is no X.509, which a verified one always is.
    pub fn from_certificate(der: &[u8]) -> Option<Peer> {
        let (_, certificate) = parse_x509_certificate(der).ok()?;
        Some(Peer {
            subject: cut(certificate.subject().to_string()),
            role: role(&certificate),
            not_after: certificate.validity().not_after.timestamp(),
        })
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
fn cut(subject: String) -> String {
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
        Peer::from_certificate(params.self_signed(&key).unwrap().der()).unwrap()
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
