//! Making and signing certificates.

use std::net::IpAddr;

use ashlar_protocol::Role;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use zeroize::Zeroizing;

use super::Validity;

/// A certificate authority with its key.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, both PEM. The key is wiped when dropped and has no `Debug`.
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its private key, PKCS #8.
    pub key: Zeroizing<String>,
}

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Profile {
    /// A client. Without a role the appliance lets it do nothing.
    Client {
        /// What it may do.
        role: Option<Role>,
    },
    /// An appliance, under these names.
    Server {
        /// DNS names and IP addresses, at least one: clients check the name they dialled.
        names: Vec<String>,
    },
}

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A server that no client could verify.
    #[error("failed to issue {subject}: a server certificate needs at least one name")]
    NoName {
        /// Whose certificate.
        subject: String,
    },
    /// A name that certificates cannot carry.
    #[error("failed to issue {subject}: {name:?} is neither an IP address nor a DNS name")]
    Name {
        /// Whose certificate.
        subject: String,
        /// The name.
        name: String,
    },
    /// What was read is no authority, or its key does not belong to it.
    #[error("failed to use the authority's certificate and key")]
    Authority(#[source] rcgen::Error),
    /// Making a key or a signature failed.
    #[error("failed to sign the certificate of {subject}")]
    Sign {
        /// Whose certificate.
        subject: String,
        /// What went wrong.
        #[source]
        source: rcgen::Error,
    },
}

impl Authority {
    /// Makes an authority that signs itself.
    ///
    /// # Errors
    /// [`IssueError::Sign`] when the machine gives no randomness.
    pub fn create(name: &str, validity: Validity) -> Result<(Authority, Pair), IssueError> {
        let sign = |source| sign_error(name, source);
        let mut params = params(name, validity);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(sign)?;
        let certificate = params.self_signed(&key).map_err(sign)?.pem();
        let pair = Pair {
            certificate: certificate.clone(),
            key: Zeroizing::new(key.serialize_pem()),
        };
        let issuer = Issuer::new(params, key);
        let authority = Authority {
            certificate,
            issuer,
        };
        Ok((authority, pair))
    }

    /// An authority from its stored form.
    ///
    /// # Errors
    /// [`IssueError::Authority`] when either part is not what it should be.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Authority, IssueError> {
        let key = KeyPair::from_pem(key).map_err(IssueError::Authority)?;
        let issuer = Issuer::from_ca_cert_pem(certificate, key).map_err(IssueError::Authority)?;
        Ok(Authority {
            certificate: certificate.to_owned(),
            issuer,
        })
    }

    /// The authority's certificate, PEM: what the others trust.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Makes a key and signs a certificate for it.
    ///
    /// # Errors
    /// When the profile's names are not usable, or signing fails.
    pub fn issue(
        &self,
        subject: &str,
        profile: &Profile,
        validity: Validity,
    ) -> Result<Pair, IssueError> {
        let mut params = params(subject, validity);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage(profile)];
        params.subject_alt_names = alternative_names(subject, profile)?;
        let sign = |source| sign_error(subject, source);
        let key = KeyPair::generate().map_err(sign)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(sign)?;
        Ok(Pair {
            certificate: certificate.pem(),
            key: Zeroizing::new(key.serialize_pem()),
        })
    }
}

fn sign_error(subject: &str, source: rcgen::Error) -> IssueError {
    IssueError::Sign {
        subject: subject.to_owned(),
        source,
    }
}

fn params(subject: &str, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.not_before = validity.not_before;
    params.not_after = validity.not_after;
    params
}

fn usage(profile: &Profile) -> ExtendedKeyUsagePurpose {
    match profile {
        Profile::Client { .. } => ExtendedKeyUsagePurpose::ClientAuth,
        Profile::Server { .. } => ExtendedKeyUsagePurpose::ServerAuth,
    }
}

fn alternative_names(subject: &str, profile: &Profile) -> Result<Vec<SanType>, IssueError> {
    match profile {
        Profile::Client { role } => role
            .iter()
            .map(|role| ia5(subject, &role.uri()).map(SanType::URI))
            .collect(),
        Profile::Server { names } if names.is_empty() => Err(IssueError::NoName {
            subject: subject.to_owned(),
        }),
        Profile::Server { names } => names
            .iter()
            .map(|name| server_name(subject, name))
            .collect(),
    }
}

fn server_name(subject: &str, name: &str) -> Result<SanType, IssueError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-.*".contains(&b);
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(name_error(subject, name));
    }
    ia5(subject, name).map(SanType::DnsName)
}

fn ia5(subject: &str, text: &str) -> Result<Ia5String, IssueError> {
    Ia5String::try_from(text).map_err(|_| name_error(subject, text))
}

fn name_error(subject: &str, name: &str) -> IssueError {
    IssueError::Name {
        subject: subject.to_owned(),
        name: name.to_owned(),
    }
}
