//! What every decoder of bytes from outside must keep to, whatever the bytes.
//!
//! Each module takes arbitrary bytes into one decoder and panics when a rule breaks. `cargo test`
//! runs all of them on stable Rust over seeds and deterministic mutations of them;
//! `libfuzzer/` runs the same functions for as long as one likes, guided by coverage.
//!
//! | module            | what takes the bytes |
//! |-------------------|----------------------|
//! | [`codec`]         | the CBOR codec |
//! | [`bodies`]        | the agent, as a request's body |
//! | [`answers`]       | a client, as a reply's body |
//! | [`head`]          | the agent, as a request's method, target and headers |
//! | [`certificate`]   | the agent, as a client's certificate |
//! | [`calls`]         | targetd, as calls |
//! | [`service`]       | targetd, as all that comes over a connection |
//! | [`requests`]      | targetd, as what it is to do to a kernel |
//! | [`replies`]       | the agent, as all that targetd answers |
//! | [`records`]       | the agent, as stored records |
//! | [`journal`]       | the store, as files that were damaged |
//! | [`forged`]        | the store, as files of sound frames with any content |
//! | [`catalog`]       | the agent, as the catalog on a pool's disks |
//! | [`disk`]          | targetd, as what a disk holds |
//! | [`mapper`]        | targetd, as tables and status of device-mapper |
//! | [`uevents`]       | targetd, as the kernel's word of disks that come and go |
//! | [`thin_metadata`] | the agent, as the metadata of a thin pool |
//! | [`images`]      | the reader of disk images |
//! | [`extents`]       | the agent and clients, as the content of a volume |
//! | [`words`]         | whoever reads names, addresses, sizes and manifests |

pub mod answers;
pub mod bodies;
pub mod calls;
pub mod catalog;
pub mod certificate;
pub mod codec;
pub mod disk;
pub mod extents;
pub mod forged;
pub mod head;
pub mod images;
pub mod journal;
pub mod mapper;
pub mod records;
pub mod replies;
pub mod requests;
pub mod seed;
pub mod service;
pub mod thin_metadata;
pub mod trust;
pub mod uevents;
pub mod words;

mod round_trip;

/// One decoder under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: the module's, and the libFuzzer binary's.
    pub name: &'static str,
    /// Takes the bytes; panics when a rule breaks.
    pub run: fn(&[u8]),
    /// Inputs from which others are made.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Mutations that a test run can afford.
    pub rounds: u32,
}

macro_rules! targets {
    ($($module:ident $rounds:literal;)*) => {
        /// All of them.
        pub const TARGETS: &[Target] = &[$(Target {
            name: stringify!($module),
            run: $module::run,
            seeds: $module::seeds,
            rounds: $rounds,
        },)*];
    };
}

targets! {
    codec       40000;
    bodies      30000;
    answers     15000;
    head        40000;
    certificate 30000;
    calls       30000;
    service     3000;
    requests    150;
    replies     1000;
    records     8000;
    journal     200;
    forged      400;
    catalog     3000;
    disk        100;
    mapper      30000;
    images      3000;
    extents     30000;
    thin_metadata 3000;
    trust       3000;
    uevents     30000;
    words       30000;
}
