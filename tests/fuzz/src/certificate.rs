//! A certificate, as the agent reads who its bearer is and what it may do, and what can be encrypted to it.

use ashlar_agent::support::Recipient;
use ashlar_agent::tls::Peer;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// Reads the bytes as a certificate.
///
/// # Panics
/// When a role comes out that is not in the bytes, or a subject that could break a log line.
pub fn run(data: &[u8]) {
    let text = BASE64_STANDARD.encode(data);
    let text = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    if let Err(problem) = Recipient::parse(&text) {
        assert!(problem.code.status() < 500, "{problem}");
    }
    let Some(peer) = Peer::from_chain(&[data.into()]) else {
        return;
    };
    assert!(peer.subject.len() <= 256);
    assert!(!peer.subject.contains(char::is_control));
    if let Ok(role) = peer.role {
        let uri = role.uri();
        let mut windows = data.windows(uri.len());
        assert!(
            windows.any(|window| window == uri.as_bytes()),
            "{role} came from nowhere"
        );
    }
}

/// Certificates of a laboratory's authority: one of each role, none, two roles; and one with an RSA key.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        include_bytes!("../seeds/certificate/admin.der").as_slice(),
        include_bytes!("../seeds/certificate/reader.der"),
        include_bytes!("../seeds/certificate/no-role.der"),
        include_bytes!("../seeds/certificate/two-roles.der"),
        include_bytes!("../seeds/certificate/rsa.der"),
    ]
    .map(<[u8]>::to_vec)
    .into()
}
