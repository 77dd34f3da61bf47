//! Messages between agent and targetd, without a connection.

use std::fmt::Debug;

use ashlar_targetd_protocol::frame::{self, FrameError};
use ashlar_targetd_protocol::{
    AddressState, Bytes, Call, Counted, Failure, FailureKind, OpenObject, PROTOCOL_VERSION, Reply,
    Report, Request, Response, Scrub, ServedAt, Transport, Unserved,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::seed;

/// Reads the bytes as a stream of calls, as one of replies, and as bare messages.
///
/// # Panics
/// When a message does not survive the way out and back, or reading claims bytes that are not
/// there.
pub fn run(data: &[u8]) {
    stream::<Call>(data);
    stream::<Reply>(data);
    message::<Call>(data);
    message::<Reply>(data);
}

fn stream<T: Serialize + DeserializeOwned + PartialEq + Debug>(mut data: &[u8]) {
    loop {
        match frame::read::<T>(&mut data) {
            Ok(Some(message)) => unchanged(&message),
            Ok(None) => return assert!(data.is_empty()),
            Err(FrameError::Encode(error)) => panic!("reading does not encode: {error}"),
            Err(_) => return,
        }
    }
}

fn message<T: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) {
    if let Ok(message) = frame::decode::<T>(data) {
        unchanged(&message);
    }
}

fn unchanged<T: Serialize + DeserializeOwned + PartialEq + Debug>(message: &T) {
    match frame::encode(message) {
        Ok(bytes) => {
            let again = frame::read::<T>(&mut bytes.as_slice());
            assert_eq!(again.ok().flatten().as_ref(), Some(message));
        }
        // Written out with its defaults it may pass the limit.
        Err(FrameError::TooLarge(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

/// One call of each kind, bare and framed, and some replies.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for request in requests() {
        let call = Call { id: 7, request };
        seeds.push(seed::cbor(&call));
        seeds.push(framed(&call));
    }
    seeds.extend(results().map(|result| framed(&Reply { id: 7, result })));
    seeds
}

pub(crate) fn framed(message: &impl Serialize) -> Vec<u8> {
    frame::encode(message).expect("a seed is sound")
}

pub(crate) fn requests() -> [Request; 17] {
    let volume = seed::desired_volume();
    let observe = Request::ObserveVolume {
        id: volume.id,
        pool: volume.pool,
        thin_id: volume.thin_id,
    };
    [
        Request::Hello {
            version: PROTOCOL_VERSION,
        },
        Request::ApplyPool(Box::new(seed::desired_pool())),
        Request::ApplyVolume(Box::new(volume)),
        Request::ApplySnapshots(Box::new(seed::desired_snapshots())),
        observe,
        Request::ReadCounters(Counted::PoolData(seed::id(1))),
        Request::ListDisks,
        Request::Unexport { id: seed::id(7) },
        Request::ScrubPool {
            id: seed::id(1),
            scrub: Scrub::Check,
        },
        Request::OpenDevice {
            object: OpenObject::Volume(seed::id(7)),
            write: true,
        },
        Request::OpenMetadata { pool: seed::id(3) },
        Request::OpenCatalog {
            pool: seed::id(3),
            write: true,
        },
        Request::ReleaseMetadata { pool: seed::id(3) },
        Request::AwaitChange { seen: 0 },
        Request::FindAddresses(["192.0.2.7".parse().unwrap()].into()),
        Request::TryAddress {
            transport: Transport::Iscsi,
            address: "192.0.2.7:3260".parse().unwrap(),
        },
        Request::ReleaseAddress {
            address: "192.0.2.7:3260".parse().unwrap(),
        },
    ]
}

pub(crate) fn results() -> [Result<Response, Failure>; 7] {
    [
        Ok(Response::Hello {
            version: PROTOCOL_VERSION,
            kernel: "6.12".to_owned(),
            features: Vec::new(),
        }),
        Ok(Response::Applied(Report {
            generation: 10,
            steps: vec!["create thin device 5".to_owned()],
            unserved: vec![
                Unserved {
                    transport: Transport::NvmeTcp,
                    at: ServedAt::Address("[2001:db8::7]:4420".parse().unwrap()),
                    absent: true,
                    message: "failed to publish".to_owned(),
                },
                Unserved {
                    transport: Transport::NvmeFc,
                    at: ServedAt::NvmeFc(
                        "nn-0x10000025b5aa0c1f:pn-0x20000025b5aa0c1f"
                            .parse()
                            .unwrap(),
                    ),
                    absent: false,
                    message: "failed to publish".to_owned(),
                },
            ],
        })),
        Ok(Response::Absent(["2001:db8::7".parse().unwrap()].into())),
        Ok(Response::Address(AddressState::Taken)),
        Ok(Response::Opened {
            size: Bytes(1 << 30),
        }),
        Ok(Response::Changed { count: 2 }),
        Err(Failure {
            users: seed::accesses(),
            ..Failure::new(FailureKind::InUse, "volume 7 is in use")
        }),
    ]
}
