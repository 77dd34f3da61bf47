//! Request bodies, as the agent decodes them.

use ashlar_codec::{DecodeError, Limits};
use ashlar_protocol::{
    ConnectionSpec, ExtendSpec, HostSpec, MAX_BODY, MAX_DEPTH, PoolSpec, VolumeSpec,
};

use crate::round_trip::round_trip;
use crate::seed;

const LIMITS: Limits = Limits {
    bytes: MAX_BODY,
    depth: MAX_DEPTH,
};

/// Decodes the bytes as every kind of body.
///
/// # Panics
/// When a body decodes and does not survive the way out and back, or a refusal tells a secret.
pub fn run(data: &[u8]) {
    round_trip::<PoolSpec>(data, &LIMITS);
    round_trip::<VolumeSpec>(data, &LIMITS);
    round_trip::<ExtendSpec>(data, &LIMITS);
    round_trip::<HostSpec>(data, &LIMITS);
    round_trip::<ConnectionSpec>(data, &LIMITS);
    tells_no_secret(data);
}

/// What is wrong among the secrets is said without them; refusals are logged.
fn tells_no_secret(data: &[u8]) {
    let refused = ashlar_codec::from_slice::<HostSpec>(data, &LIMITS).err();
    let Some(DecodeError::Content { field, reason, .. }) = refused else {
        return;
    };
    for secret in [seed::chap().secret.expose(), seed::dhchap().expose()] {
        // Unless it stands where the name of a field belongs.
        let told = field.starts_with("secrets") && !field.contains(secret);
        assert!(!told || !reason.contains(secret), "{field}: {reason}");
    }
}

/// One of each.
pub fn seeds() -> Vec<Vec<u8>> {
    vec![
        seed::cbor(&seed::pool()),
        seed::cbor(&seed::volume()),
        seed::cbor(&seed::extend()),
        seed::cbor(&seed::host()),
        seed::cbor(&seed::connection()),
    ]
}
