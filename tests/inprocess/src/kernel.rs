//! targetd's real server over a kernel that agrees to everything.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use ashlar_kernel_iface::model::ThinMetadata;
use ashlar_targetd::changes::Changes;
use ashlar_targetd::server::{AllowedPeers, Answer, Caller, Server, Service, SocketOptions};
use ashlar_targetd_protocol::{
    AddressState, Bytes, DesiredPool, DiskReport, Failure, FailureKind, MemberState, OpenObject,
    PROTOCOL_VERSION, PoolDisk, PoolReport, PoolUsage, Report, Request, Response, Scrub, Sectors,
    SetAction, SetReport, VolumeReport,
};
use uuid::Uuid;

/// Disks the box has for its pools.
pub const DISKS: [&str; 2] = ["serial-DISK0", "serial-DISK1"];
/// A disk it has besides.
pub const SPARE: &str = "serial-SPARE";

const BLOCK: Sectors = Sectors(128);
/// What every volume appears to be.
const DEVICE: Bytes = Bytes(1 << 30);
const DATA_BLOCKS: u64 = 1 << 20;
/// What every catalog appears to be.
const CATALOG: Bytes = Bytes(32 << 20);

/// Agrees, at once or when it is let.
#[derive(Default)]
pub struct Kernel {
    held: Mutex<bool>,
    released: Condvar,
    devices: Mutex<BTreeMap<OpenObject, File>>,
    /// Pools whose disks stand in for each other, and what goes on in their sets.
    sets: Mutex<BTreeMap<Uuid, (DesiredPool, SetAction)>>,
    catalogs: Mutex<BTreeMap<Uuid, File>>,
    changes: Changes,
}

impl Kernel {
    /// Changes wait from now on.
    pub fn hold(&self) {
        *self.held.lock().unwrap() = true;
    }

    /// They go on.
    pub fn release(&self) {
        *self.held.lock().unwrap() = false;
        self.released.notify_all();
    }

    /// Every device is [`DEVICE`] zeros until it is written; a snapshot is no other.
    fn open(&self, object: OpenObject) -> Result<Answer, Failure> {
        let file = || -> io::Result<File> {
            let mut devices = self.devices.lock().unwrap();
            if let Some(device) = devices.get(&object) {
                return device.try_clone();
            }
            let device = tempfile::tempfile()?;
            device.set_len(DEVICE.0)?;
            let file = device.try_clone();
            devices.insert(object, device);
            file
        };
        let file = file().map_err(|error| {
            let detail = format!("failed to make a file: {error}");
            Failure::new(FailureKind::Kernel, detail)
        })?;
        Ok(Answer::with(Response::Opened { size: DEVICE }, file))
    }

    /// What was written to it is in it again.
    fn open_catalog(&self, pool: Uuid) -> Result<Answer, Failure> {
        let mut catalogs = self.catalogs.lock().unwrap();
        let file = match catalogs.get(&pool) {
            Some(there) => there.try_clone(),
            None => tempfile::tempfile().and_then(|made| {
                made.set_len(CATALOG.0)?;
                let file = made.try_clone();
                catalogs.insert(pool, made);
                file
            }),
        };
        let file = file.map_err(|error| no_file(&error))?;
        Ok(Answer::with(Response::Opened { size: CATALOG }, file))
    }

    /// A disk that takes the place of another is a member at once, and misses all of its data.
    fn apply_pool(&self, pool: DesiredPool) -> Response {
        let generation = pool.generation;
        if pool.redundancy.is_some() {
            let action = match pool.disks.iter().any(|disk| disk.stale) {
                true => SetAction::Rebuild,
                false => SetAction::Idle,
            };
            let mut sets = self.sets.lock().unwrap();
            sets.insert(pool.id, (pool, action));
        }
        self.applied(generation)
    }

    fn scrub(&self, pool: Uuid, scrub: Scrub) -> Response {
        if let Some((_, action)) = self.sets.lock().unwrap().get_mut(&pool) {
            *action = match scrub {
                Scrub::Check => SetAction::Check,
                Scrub::Repair => SetAction::Repair,
                Scrub::Stop => SetAction::Idle,
            };
        }
        self.applied(0)
    }

    fn sets(&self, pool: Uuid) -> Vec<SetReport> {
        let all = self.sets.lock().unwrap();
        let Some((pool, action)) = all.get(&pool) else {
            return Vec::new();
        };
        let state = |disk: &PoolDisk| match disk.stale {
            true => MemberState::Rebuilding,
            false => MemberState::InSync,
        };
        let set = |range: std::ops::Range<usize>| SetReport {
            members: pool.disks[range].iter().map(state).collect(),
            action: *action,
            done: Sectors(DATA_BLOCKS / 4),
            total: Sectors(DATA_BLOCKS),
            mismatches: Sectors(0),
        };
        let ranges = pool.redundancy.iter().flat_map(|all| all.ranges());
        ranges.map(set).collect()
    }

    fn applied(&self, generation: u64) -> Response {
        let held = self.held.lock().unwrap();
        drop(self.released.wait_while(held, |held| *held).unwrap());
        Response::Applied(Report {
            generation,
            ..Report::default()
        })
    }
}

impl Service for Kernel {
    fn answer(&self, _: Caller, request: Request) -> Result<Answer, Failure> {
        let response = match request {
            Request::Hello { .. } => Response::Hello {
                version: PROTOCOL_VERSION,
                kernel: "6.12.0-agreeable".to_owned(),
                features: Vec::new(),
            },
            Request::ApplyPool(pool) => self.apply_pool(*pool),
            Request::ScrubPool { id, scrub } => self.scrub(id, scrub),
            Request::ApplyVolume(volume) => self.applied(volume.generation),
            Request::ApplySnapshots(snapshots) => self.applied(snapshots.generation),
            Request::Unexport { .. } => self.applied(0),
            Request::ObservePool { id } => Response::Pool(PoolReport {
                id,
                usage: Some(PoolUsage {
                    transaction_id: 1,
                    metadata_used: 10,
                    metadata_total: 16_384,
                    data_used: 0,
                    data_total: DATA_BLOCKS,
                    block: BLOCK,
                }),
                degraded: false,
                sets: self.sets(id),
                looked: 0,
            }),
            Request::ObserveVolume { .. } => Response::Volume(VolumeReport {
                active: None,
                mapped: None,
                exported: Vec::new(),
            }),
            Request::ReadCounters(_) => Response::Counters(None),
            Request::ListDisks => {
                let all = DISKS.into_iter().chain([SPARE]);
                Response::Disks(all.map(disk).collect())
            }
            Request::ListObjects => Response::Objects {
                pools: Vec::new(),
                volumes: Vec::new(),
                snapshots: Vec::new(),
                foreign: Vec::new(),
            },
            Request::OpenDevice { object, .. } => return self.open(object),
            Request::OpenMetadata { .. } => return metadata(),
            Request::ApplyCatalog(_) => self.applied(0),
            Request::OpenCatalog { pool, .. } => return self.open_catalog(pool),
            Request::ReleaseMetadata { .. } | Request::ReleaseAddress { .. } => Response::Released,
            Request::FindAddresses(_) => Response::Absent([].into()),
            Request::TryAddress { .. } => Response::Address(AddressState::Usable),
            Request::AwaitChange { .. } => {
                let detail = "only a connection can wait for changes";
                return Err(Failure::new(FailureKind::Refused, detail));
            }
        };
        Ok(Answer::from(response))
    }

    fn changes(&self) -> &Changes {
        &self.changes
    }
}

/// Every pool is without thin devices.
fn metadata() -> Result<Answer, Failure> {
    let metadata = ThinMetadata {
        block: BLOCK,
        ..ThinMetadata::default()
    };
    let image = metadata.image();
    let file = tempfile::tempfile()
        .and_then(|file| file.write_all_at(&image.bytes, 0).map(|()| file))
        .map_err(|error| no_file(&error))?;
    let response = Response::Metadata {
        held_root: image.held_root,
        size: Bytes(image.bytes.len() as u64),
    };
    Ok(Answer::with(response, file))
}

fn no_file(error: &std::io::Error) -> Failure {
    let reason = format!("failed to make a file: {error}");
    Failure::new(FailureKind::Kernel, reason)
}

fn disk(id: &str) -> DiskReport {
    DiskReport {
        id: id.parse().unwrap(),
        kernel_name: "vda".to_owned(),
        size: Bytes(64 << 30),
        rotational: false,
        in_use: false,
        content: None,
        pool: None,
        member: None,
    }
}

/// Serves a kernel at `socket`.
pub fn serve(socket: &Path) -> (Arc<Kernel>, Server) {
    let kernel = Arc::new(Kernel::default());
    let listener = ashlar_targetd::server::bind(&SocketOptions {
        path: socket.to_owned(),
        group: None,
    })
    .unwrap();
    let allowed = AllowedPeers {
        agent: nix::unistd::Uid::current(),
    };
    let server = Server::spawn(kernel.clone(), listener, allowed).unwrap();
    (kernel, server)
}
