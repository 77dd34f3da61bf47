//! A value that was decoded is encoded and decoded again, and nothing changes.

use std::fmt::Debug;

use ashlar_codec::Limits;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// For what we encode ourselves: defaults are written out, so it may be a little larger than
/// what came in.
const OURS: Limits = Limits {
    bytes: 8 << 20,
    depth: 32,
};

/// Decodes `bytes` within `limits`; what decodes must survive the way out and back.
pub(crate) fn round_trip<T>(bytes: &[u8], limits: &Limits)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let Ok(value) = ashlar_codec::from_slice::<T>(bytes, limits) else {
        return;
    };
    assert_eq!(
        ashlar_codec::check(bytes, limits),
        Ok(()),
        "it decoded unchecked"
    );
    let ours = ashlar_codec::to_vec(&value).expect("what was decoded encodes");
    let again: T = ashlar_codec::from_slice(&ours, &OURS).expect("what we encode decodes");
    assert_eq!(value, again);
    assert_eq!(ashlar_codec::to_vec(&again).ok(), Some(ours));
}
