//! The figures, as they are written to the JSON file.

use std::collections::BTreeMap;
use std::time::Duration;

use ashlar_targetd_protocol::Transport;
use serde::Serialize;

use crate::io::Image;

/// Everything measured in one run.
#[derive(Serialize)]
pub struct Report {
    /// The kernel's release.
    pub kernel: String,
    /// Volumes in flight in the concurrent measurements.
    pub in_flight: u32,
    /// Create, attach, detach, delete of one volume, by transport.
    pub cycles: Vec<Cycle>,
    /// What is made of a volume, one at a time.
    pub copies: Vec<Copy>,
    /// A sparse image written to a new volume, beside its data written to a device directly.
    pub import: Import,
    /// How long a write waits while a snapshot of a group is taken.
    pub pause: Pause,
    /// Resident memory in bytes by daemon, before the first request.
    pub memory_idle: BTreeMap<String, u64>,
    /// Size in bytes by daemon, as installed.
    pub binaries: BTreeMap<String, u64>,
    /// The same cycle with few and with many volumes present.
    pub scale: Scale,
}

/// Milliseconds per volume for a whole cycle.
#[derive(Serialize)]
pub struct Cycle {
    transport: Transport,
    floor_serial_ms: f64,
    serial_ms: f64,
    serial_ratio: f64,
    floor_in_flight_ms: f64,
    in_flight_ms: f64,
    in_flight_ratio: f64,
}

impl Cycle {
    pub fn new(
        transport: Transport,
        floor_serial: f64,
        serial: f64,
        floor_in_flight: f64,
        in_flight: f64,
    ) -> Self {
        Cycle {
            transport,
            floor_serial_ms: floor_serial,
            serial_ms: serial,
            serial_ratio: serial / floor_serial,
            floor_in_flight_ms: floor_in_flight,
            in_flight_ms: in_flight,
            in_flight_ratio: in_flight / floor_in_flight,
        }
    }
}

/// Milliseconds for making one of a volume and, but for a revert, unmaking it.
#[derive(Serialize)]
pub struct Copy {
    what: &'static str,
    floor_ms: f64,
    ms: f64,
    ratio: f64,
}

impl Copy {
    pub fn new(what: &'static str, floor: f64, product: f64) -> Self {
        Copy {
            what,
            floor_ms: floor,
            ms: product,
            ratio: product / floor,
        }
    }
}

/// MiB of data in a second.
#[derive(Serialize)]
pub struct Import {
    image_mib: u64,
    data_mib: u64,
    floor_mib_s: f64,
    mib_s: f64,
    ratio: f64,
    /// Most that a daemon had resident during this and all before.
    memory_peak: BTreeMap<String, u64>,
}

impl Import {
    pub fn new(
        image: &Image,
        floor: Duration,
        product: Duration,
        memory_peak: BTreeMap<String, u64>,
    ) -> Self {
        let data_mib = image.data() >> 20;
        let rate = |took: Duration| data_mib as f64 / took.as_secs_f64();
        Import {
            image_mib: image.size() >> 20,
            data_mib,
            floor_mib_s: rate(floor),
            mib_s: rate(product),
            ratio: rate(product) / rate(floor),
            memory_peak,
        }
    }
}

/// Milliseconds of the longest write, a mean of several snapshots.
#[derive(Serialize)]
pub struct Pause {
    members: u32,
    floor_ms: f64,
    ms: f64,
    ratio: f64,
}

impl Pause {
    pub fn new(members: u32, floor: f64, product: f64) -> Self {
        Pause {
            members,
            floor_ms: floor,
            ms: product,
            ratio: product / floor,
        }
    }
}

/// What the number of volumes present costs.
#[derive(Serialize)]
pub struct Scale {
    few: u32,
    many: u32,
    floor_with_few_ms: f64,
    serial_with_few_ms: f64,
    floor_with_many_ms: f64,
    serial_with_many_ms: f64,
    /// Of the two ratios to the floor.
    ratio: f64,
    memory_with_many: BTreeMap<String, u64>,
}

impl Scale {
    pub fn new(
        few: u32,
        many: u32,
        (floor_with_few, with_few): (f64, f64),
        (floor_with_many, with_many): (f64, f64),
        memory: BTreeMap<String, u64>,
    ) -> Self {
        Scale {
            few,
            many,
            floor_with_few_ms: floor_with_few,
            serial_with_few_ms: with_few,
            floor_with_many_ms: floor_with_many,
            serial_with_many_ms: with_many,
            ratio: (with_many / floor_with_many) / (with_few / floor_with_few),
            memory_with_many: memory,
        }
    }
}
