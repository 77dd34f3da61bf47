//! Request bodies, as the agent decodes them.

use ashlar_codec::Limits;
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
/// When a body decodes and does not survive the way out and back.
pub fn run(data: &[u8]) {
    round_trip::<PoolSpec>(data, &LIMITS);
    round_trip::<VolumeSpec>(data, &LIMITS);
    round_trip::<ExtendSpec>(data, &LIMITS);
    round_trip::<HostSpec>(data, &LIMITS);
    round_trip::<ConnectionSpec>(data, &LIMITS);
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
