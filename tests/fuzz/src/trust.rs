//! Whose clients an agent is to let in: authorities, and lists of revoked certificates.

use ashlar_agent::identity::understand;
use ashlar_protocol::{Pem, Problem, TrustUpdate};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

const AUTHORITY: &[u8] = include_bytes!("../seeds/trust/authority.der");
const LIST: &[u8] = include_bytes!("../seeds/trust/list.der");

/// Takes the bytes as an authority, and as a list of one that is sound.
///
/// # Panics
/// When what is taken cannot be used then, or a list is taken that the authority has not signed.
pub fn run(data: &[u8]) {
    let [Some(authority), Some(given), Some(list)] = [
        pem("CERTIFICATE", AUTHORITY),
        pem("CERTIFICATE", data),
        pem("X509 CRL", data),
    ] else {
        return;
    };
    let update = |authorities, lists| TrustUpdate {
        authorities: Some(authorities),
        lists,
        ..TrustUpdate::default()
    };
    let refused = |problem: Problem| assert!(problem.code.status() < 500, "{problem}");
    match understand(&update(given, None)) {
        Ok(trust) => assert_eq!(trust.authorities.len(), 1),
        Err(problem) => refused(problem),
    }
    match understand(&update(authority, Some(list))) {
        Ok(_) => assert_eq!(data, LIST, "nobody has signed this"),
        Err(problem) => refused(problem),
    }
}

fn pem(label: &str, data: &[u8]) -> Option<Pem> {
    let text = BASE64_STANDARD.encode(data);
    let text = format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n");
    text.try_into().ok()
}

/// An authority and a list of its.
pub fn seeds() -> Vec<Vec<u8>> {
    vec![AUTHORITY.to_vec(), LIST.to_vec()]
}
