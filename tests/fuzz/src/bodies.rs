//! Request bodies, as the agent decodes them.

use ashlar_codec::{DecodeError, Limits};
use ashlar_protocol::{
    AdoptSnapshotSpec, AdoptSpec, BulkItem, BulkMethod, BulkSpec, ConnectionSpec, ExtendSpec,
    FreezeSpec, GroupSnapshotSpec, GroupSnapshotUpdate, GroupSpec, GroupUpdate, HostRotation,
    HostSpec, ImportSpec, MAX_BODY, MAX_DEPTH, MoveSpec, PoolGrowth, PoolSpec, PoolUpdate,
    PortalSpec, ReleaseSpec, ReplaceSpec, RevertSpec, ScrubMode, ScrubSpec, SnapshotSpec,
    SnapshotUpdate, ThawSpec, TransferSpec, VolumeSpec, VolumeUpdate,
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
    round_trip::<VolumeUpdate>(data, &LIMITS);
    round_trip::<PoolUpdate>(data, &LIMITS);
    round_trip::<PoolGrowth>(data, &LIMITS);
    round_trip::<ImportSpec>(data, &LIMITS);
    round_trip::<ReplaceSpec>(data, &LIMITS);
    round_trip::<ScrubSpec>(data, &LIMITS);
    round_trip::<RevertSpec>(data, &LIMITS);
    round_trip::<TransferSpec>(data, &LIMITS);
    round_trip::<AdoptSpec>(data, &LIMITS);
    round_trip::<AdoptSnapshotSpec>(data, &LIMITS);
    round_trip::<ReleaseSpec>(data, &LIMITS);
    round_trip::<MoveSpec>(data, &LIMITS);
    round_trip::<SnapshotSpec>(data, &LIMITS);
    round_trip::<SnapshotUpdate>(data, &LIMITS);
    round_trip::<GroupSpec>(data, &LIMITS);
    round_trip::<GroupUpdate>(data, &LIMITS);
    round_trip::<GroupSnapshotSpec>(data, &LIMITS);
    round_trip::<GroupSnapshotUpdate>(data, &LIMITS);
    round_trip::<HostSpec>(data, &LIMITS);
    round_trip::<HostRotation>(data, &LIMITS);
    round_trip::<PortalSpec>(data, &LIMITS);
    round_trip::<ConnectionSpec>(data, &LIMITS);
    round_trip::<FreezeSpec>(data, &LIMITS);
    round_trip::<ThawSpec>(data, &LIMITS);
    round_trip::<BulkSpec>(data, &LIMITS);
    tells_no_secret(data);
}

/// What is wrong among the secrets is said without them; refusals are logged.
fn tells_no_secret(data: &[u8]) {
    let created = ashlar_codec::from_slice::<HostSpec>(data, &LIMITS).err();
    let rotated = ashlar_codec::from_slice::<HostRotation>(data, &LIMITS).err();
    for refused in [created, rotated].into_iter().flatten() {
        holds_its_tongue(refused);
    }
}

fn holds_its_tongue(refused: DecodeError) {
    let DecodeError::Content { field, reason, .. } = refused else {
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
        seed::cbor(&seed::volume_update()),
        seed::cbor(&seed::pool_update()),
        seed::cbor(&seed::pool_growth()),
        seed::cbor(&ImportSpec { force: true }),
        seed::cbor(&seed::replacement()),
        seed::cbor(&ScrubSpec {
            mode: ScrubMode::Repair,
        }),
        seed::cbor(&seed::revert()),
        seed::cbor(&seed::transfer()),
        seed::cbor(&seed::adopt()),
        seed::cbor(&seed::moving()),
        seed::cbor(&seed::snapshot()),
        seed::cbor(&seed::snapshot_update()),
        seed::cbor(&seed::group()),
        seed::cbor(&seed::group_update()),
        seed::cbor(&seed::group_snapshot()),
        seed::cbor(&seed::portal()),
        seed::cbor(&seed::host()),
        seed::cbor(&seed::rotation()),
        seed::cbor(&seed::connection()),
        seed::cbor(&seed::snapshot_connection()),
        seed::cbor(&FreezeSpec {
            reason: Some(seed::word("moving")),
        }),
        seed::cbor(&ThawSpec {}),
        seed::cbor(&BulkSpec {
            items: vec![BulkItem {
                method: BulkMethod::Delete,
                path: seed::word(&format!("/v1/volumes/{}", seed::id(7))),
                body: None,
            }],
        }),
    ]
}
