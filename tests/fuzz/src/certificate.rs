//! A client's certificate, as the agent reads who its bearer is and what it may do.

use ashlar_agent::tls::Peer;

/// Reads the bytes as a certificate.
///
/// # Panics
/// When a role comes out that is not in the bytes, or a subject that could break a log line.
pub fn run(data: &[u8]) {
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

/// Certificates of a laboratory's authority: one of each role, none, two roles.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        include_bytes!("../seeds/certificate/admin.der").as_slice(),
        include_bytes!("../seeds/certificate/reader.der"),
        include_bytes!("../seeds/certificate/no-role.der"),
        include_bytes!("../seeds/certificate/two-roles.der"),
    ]
    .map(<[u8]>::to_vec)
    .into()
}
