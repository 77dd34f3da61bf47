//! A targetd for tests: the real protocol over a real socket, above a kernel of maps.
//!
//! It keeps the rules that the agent relies on: a volume needs its pool active, a thin device
//! is created only when provisioning, as its source is then, and destroyed only afterwards, no generation is older than the one before, and unknown
//! volumes can be unexported. A disk takes the place of another only when it is there and may be
//! written to, and has none of its data then.

mod disks;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::IoSlice;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use ashlar_kernel_iface::model::{ThinImage, ThinMappings, ThinMetadata};
use ashlar_targetd_protocol::{
    Accesses, AddressState, Bytes, Call, DataState, DesiredPool, DesiredSnapshots, DesiredVolume,
    DiskId, DiskReport, Exports, Failure, FailureKind, FeatureReport, MemberState, OpenObject,
    PROTOCOL_VERSION, PoolReport, PoolUsage, PortalAddr, Reply, Report, Request, Response, Sectors,
    ServedAt, SetAction, ThinId, ThinSource, Transport, Unserved, VolumeReport, frame,
};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tokio::io::Interest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex as AsyncMutex, Notify, watch};
use tokio::task::AbortHandle;
use uuid::Uuid;

/// What the fake kernel has.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    pub(crate) disks: Vec<DiskReport>,
    pub(crate) pools: BTreeMap<Uuid, DesiredPool>,
    /// Disks of sets that are not in sync, in whichever pool.
    pub(crate) lame: BTreeMap<DiskId, MemberState>,
    /// What goes on in the sets of pools, where that is anything.
    pub(crate) actions: BTreeMap<Uuid, SetAction>,
    /// Thin devices by pool and id.
    pub(crate) thin: BTreeSet<(Uuid, ThinId)>,
    /// What was written to thin devices last, where that is not nothing.
    pub(crate) content: BTreeMap<(Uuid, ThinId), &'static str>,
    /// Volumes with a device or an export.
    pub(crate) exported: BTreeMap<Uuid, DesiredVolume>,
    /// What their devices are on.
    pub(crate) live: BTreeMap<Uuid, (Uuid, ThinId)>,
    /// Snapshots with a device.
    pub(crate) active: BTreeSet<Uuid>,
    /// Snapshots with an export.
    pub(crate) readable: BTreeMap<Uuid, Exports>,
    /// Every call but greetings and looks at addresses, in order of arrival.
    pub(crate) calls: Vec<Request>,
    pub(crate) version: Option<u32>,
    /// What was opened, by object; 1 MiB of zeros at first.
    pub(crate) files: BTreeMap<OpenObject, File>,
    /// What is in the catalogs of pools.
    pub(crate) catalogs: BTreeMap<Uuid, File>,
    /// The thin metadata of pools, where they are not those of `thin` alone.
    pub(crate) metadata: BTreeMap<Uuid, ThinImage>,
    /// The same, as they are at any time.
    pub(crate) follows: BTreeMap<Uuid, Follow>,
    /// Descriptors that come along with a list of disks, which asked for none.
    pub(crate) stray: Vec<OwnedFd>,
    /// Generation and number of accesses last accepted, while this targetd lives.
    accepted: BTreeMap<Uuid, (u64, usize)>,
    rules: Vec<Rule>,
    /// Addresses that no interface has.
    pub(crate) absent: BTreeSet<IpAddr>,
    /// Addresses that were let go of.
    pub(crate) released: Vec<PortalAddr>,
    /// How full pools are, in blocks of data, where that is not three.
    pub(crate) used: BTreeMap<Uuid, u64>,
    /// What the kernel has told by itself so far.
    changes: Changes,
}

/// Counts from 1.
#[derive(Debug)]
struct Changes(watch::Sender<u64>);

impl Default for Changes {
    fn default() -> Changes {
        Changes(watch::channel(1).0)
    }
}

/// Tells what thin metadata are just now.
pub(crate) struct Follow(pub(crate) Box<dyn Fn() -> ThinImage + Send>);

impl std::fmt::Debug for Follow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Follow")
    }
}

struct Rule {
    matches: Box<dyn Fn(&Request) -> bool + Send>,
    behaviour: Behaviour,
    times: usize,
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} times {}", self.behaviour, self.times)
    }
}

/// What a rule does instead of carrying a call out.
#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    /// Says no.
    Fail(FailureKind),
    /// Carries it out and says no all the same: what came last went wrong.
    FailAfter(FailureKind),
    /// Says that these use what they are to lose.
    Used(Accesses),
    /// Carries it out, but answers only when notified.
    Hold(Arc<Notify>),
    /// Carries it out, and breaks the stream before it answers.
    DieAfter,
    /// Breaks the stream before it carries it out.
    DieBefore,
}

/// A running fake.
#[derive(Debug)]
pub(crate) struct FakeTargetd {
    pub(crate) socket: PathBuf,
    kernel: Arc<Mutex<Kernel>>,
    serving: Option<AbortHandle>,
}

impl FakeTargetd {
    /// Serves in `dir`, with six disks of 1 GiB.
    pub(crate) fn start(dir: &Path) -> FakeTargetd {
        let disks = (0..6).map(|n| DiskReport {
            id: format!("serial-DISK{n}").parse().unwrap(),
            kernel_name: format!("vd{n}"),
            size: Bytes(1 << 30),
            rotational: false,
            in_use: false,
            content: None,
            pool: None,
            member: None,
        });
        let kernel = Kernel {
            disks: disks.collect(),
            ..Kernel::default()
        };
        let mut fake = FakeTargetd {
            socket: dir.join("targetd.sock"),
            kernel: Arc::new(Mutex::new(kernel)),
            serving: None,
        };
        fake.resume();
        fake
    }

    pub(crate) fn kernel(&self) -> MutexGuard<'_, Kernel> {
        self.kernel.lock().unwrap()
    }

    /// The next `times` calls that match behave so.
    pub(crate) fn rule(
        &self,
        times: usize,
        behaviour: Behaviour,
        matches: impl Fn(&Request) -> bool + Send + 'static,
    ) {
        let matches = Box::new(matches);
        self.kernel().rules.push(Rule {
            matches,
            behaviour,
            times,
        });
    }

    /// No rule holds any longer.
    pub(crate) fn obey(&self) {
        self.kernel().rules.clear();
    }

    /// Goes away: breaks every stream and takes no new one. The kernel keeps what it has.
    pub(crate) fn pause(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
        std::fs::remove_file(&self.socket).unwrap();
    }

    /// Comes back.
    pub(crate) fn resume(&mut self) {
        let listener = UnixListener::bind(&self.socket).unwrap();
        self.kernel().accepted.clear();
        let kernel = Arc::clone(&self.kernel);
        let serving = tokio::spawn(async move {
            let mut streams = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                streams.spawn(serve(stream, Arc::clone(&kernel)));
            }
        });
        self.serving = Some(serving.abort_handle());
    }

    /// A power cut: nothing but the disks' content is left.
    pub(crate) fn reboot(&mut self) {
        self.pause();
        {
            let mut kernel = self.kernel();
            kernel.pools.clear();
            kernel.exported.clear();
            kernel.live.clear();
            kernel.active.clear();
            kernel.readable.clear();
        }
        self.resume();
    }

    /// The kernel tells by itself that something changed.
    pub(crate) fn change(&self) {
        let kernel = self.kernel();
        kernel.changes.0.send_modify(|count| *count += 1);
    }

    /// The last state a volume was asked to have.
    pub(crate) fn last_applied(&self, volume: Uuid) -> Option<DesiredVolume> {
        let kernel = self.kernel();
        kernel.calls.iter().rev().find_map(|call| match call {
            Request::ApplyVolume(desired) if desired.id == volume => Some((**desired).clone()),
            _ => None,
        })
    }
}

async fn serve(stream: UnixStream, kernel: Arc<Mutex<Kernel>>) {
    let (mut reader, writer) = stream.into_split();
    let writer = Arc::new(AsyncMutex::new(writer));
    let mut answers = tokio::task::JoinSet::new();
    loop {
        let mut prefix = [0; frame::PREFIX];
        if reader.read_exact(&mut prefix).await.is_err() {
            return;
        }
        let mut body = vec![0; frame::body_length(prefix).unwrap()];
        if reader.read_exact(&mut body).await.is_err() {
            return;
        }
        let Call { id, request } = frame::decode(&body).unwrap();
        if let Request::AwaitChange { seen } = request {
            let changes = kernel.lock().unwrap().changes.0.subscribe();
            answers.spawn(await_change(changes, seen, id, Arc::clone(&writer)));
            continue;
        }
        let behaviour = kernel.lock().unwrap().behaviour(&request);
        if matches!(behaviour, Some(Behaviour::DieBefore)) {
            return;
        }
        let descriptors = kernel.lock().unwrap().descriptors(&request);
        let result = match &behaviour {
            Some(Behaviour::Fail(kind)) => Err(Failure::new(*kind, "asked to fail")),
            Some(Behaviour::Used(users)) => Err(Failure {
                users: users.clone(),
                ..Failure::new(FailureKind::InUse, "asked to be in use")
            }),
            _ => kernel.lock().unwrap().carry_out(request),
        };
        let result = match &behaviour {
            Some(Behaviour::FailAfter(kind)) => {
                result.and(Err(Failure::new(*kind, "asked to fail in the end")))
            }
            _ => result,
        };
        if matches!(behaviour, Some(Behaviour::DieAfter)) {
            return;
        }
        let writer = Arc::clone(&writer);
        answers.spawn(async move {
            if let Some(Behaviour::Hold(until)) = behaviour {
                until.notified().await;
            }
            let frame = frame::encode(&Reply { id, result }).unwrap();
            // The agent may have gone.
            drop(send(&mut *writer.lock().await, &frame, &descriptors).await);
        });
    }
}

async fn await_change(
    mut changes: watch::Receiver<u64>,
    seen: u64,
    id: u64,
    writer: Arc<AsyncMutex<OwnedWriteHalf>>,
) {
    let count = *changes.wait_for(|count| *count != seen).await.unwrap();
    let result = Ok(Response::Changed { count });
    let frame = frame::encode(&Reply { id, result }).unwrap();
    // The agent may have gone.
    drop(send(&mut *writer.lock().await, &frame, &[]).await);
}

async fn send(
    writer: &mut OwnedWriteHalf,
    frame: &[u8],
    descriptors: &[OwnedFd],
) -> std::io::Result<()> {
    if descriptors.is_empty() {
        return writer.write_all(frame).await;
    }
    let passed: Vec<i32> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let stream: &UnixStream = writer.as_ref();
    let send = || {
        let (parts, control) = ([IoSlice::new(frame)], [ControlMessage::ScmRights(&passed)]);
        let sent = sendmsg::<()>(
            stream.as_raw_fd(),
            &parts,
            &control,
            MsgFlags::empty(),
            None,
        );
        Ok(sent?)
    };
    let sent = stream.async_io(Interest::WRITABLE, send).await?;
    writer.write_all(&frame[sent..]).await
}

impl Kernel {
    fn behaviour(&mut self, request: &Request) -> Option<Behaviour> {
        if !matches!(request, Request::Hello { .. } | Request::FindAddresses(_)) {
            self.calls.push(request.clone());
        }
        let rules = self.rules.iter_mut();
        let mut due = rules.filter(|rule| rule.times > 0 && (rule.matches)(request));
        let rule = due.next()?;
        rule.times -= 1;
        Some(rule.behaviour.clone())
    }

    fn descriptors(&mut self, request: &Request) -> Vec<OwnedFd> {
        match request {
            Request::OpenDevice { object, .. } => {
                let file = self.files.entry(*object).or_insert_with(|| {
                    let file = tempfile::tempfile().unwrap();
                    file.set_len(1 << 20).unwrap();
                    file
                });
                vec![file.try_clone().unwrap().into()]
            }
            Request::OpenCatalog { pool, .. } => {
                let size = self.catalog_size(*pool);
                let file = size.map(|size| {
                    let file = self.catalogs.entry(*pool).or_insert_with(|| {
                        let file = tempfile::tempfile().unwrap();
                        file.set_len(size.0).unwrap();
                        file
                    });
                    file.try_clone().unwrap().into()
                });
                file.into_iter().collect()
            }
            Request::OpenMetadata { pool } => {
                let image = self.image(*pool).map(|image| {
                    let file = tempfile::tempfile().unwrap();
                    file.write_all_at(&image.bytes, 0).unwrap();
                    file.into()
                });
                image.into_iter().collect()
            }
            Request::ListDisks => std::mem::take(&mut self.stray),
            _ => Vec::new(),
        }
    }

    fn carry_out(&mut self, request: Request) -> Result<Response, Failure> {
        match request {
            Request::Hello { .. } => Ok(Response::Hello {
                version: self.version.unwrap_or(PROTOCOL_VERSION),
                kernel: "6.12.0-fake".to_owned(),
                features: [
                    "device-mapper",
                    "thin-pool",
                    "iscsi",
                    "iser",
                    "nvme-tcp",
                    "nvme-rdma",
                    "nvme-fc",
                ]
                .map(|name| FeatureReport {
                    name: name.to_owned(),
                    problem: None,
                })
                .into(),
            }),
            Request::ApplyPool(desired) => self.apply_pool(*desired),
            Request::ApplyVolume(desired) => self.apply_volume(*desired),
            Request::ApplySnapshots(desired) => self.apply_snapshots(&desired),
            Request::ObservePool { id } => Ok(Response::Pool(self.observe_pool(id))),
            Request::ObserveVolume { id, .. } => Ok(Response::Volume(self.observe_volume(id))),
            Request::ReadCounters(_) => Ok(Response::Counters(None)),
            Request::ListDisks => Ok(Response::Disks(self.disks.clone())),
            Request::ListObjects => Ok(Response::Objects {
                pools: self.pools.keys().copied().collect(),
                volumes: self
                    .exported
                    .keys()
                    .chain(self.readable.keys())
                    .copied()
                    .collect(),
                snapshots: self.active.iter().copied().collect(),
                foreign: Vec::new(),
            }),
            Request::OpenDevice { object, .. } => {
                let length = self.files.get(&object).unwrap().metadata().unwrap().len();
                Ok(Response::Opened {
                    // Of what is no regular file it is not known.
                    size: Bytes(length.max(1 << 20)),
                })
            }
            Request::OpenMetadata { pool } => match self.image(pool) {
                Some(image) => Ok(Response::Metadata {
                    held_root: image.held_root,
                    size: Bytes(image.bytes.len() as u64),
                }),
                None => Err(Failure::new(FailureKind::Missing, "the pool is not active")),
            },
            Request::ReleaseMetadata { .. } => Ok(Response::Released),
            Request::ApplyCatalog(_) => Ok(applied(0)),
            Request::OpenCatalog { pool, .. } => match self.catalog_size(pool) {
                Some(size) => Ok(Response::Opened { size }),
                None => Err(Failure::new(
                    FailureKind::Missing,
                    "the catalog is not active",
                )),
            },
            Request::FindAddresses(asked) => Ok(Response::Absent(&asked & &self.absent)),
            Request::TryAddress { address, .. } => {
                let state = match self.absent.contains(&address.socket().ip()) {
                    true => AddressState::Absent,
                    false => AddressState::Usable,
                };
                Ok(Response::Address(state))
            }
            Request::ReleaseAddress { address } => {
                self.released.push(address);
                Ok(Response::Released)
            }
            Request::ScrubPool { id, scrub } => self.scrub(id, scrub),
            Request::AwaitChange { .. } => unreachable!("it is answered where it is read"),
            Request::Unexport { id } => {
                self.exported.remove(&id);
                self.live.remove(&id);
                self.active.remove(&id);
                self.readable.remove(&id);
                Ok(applied(0))
            }
        }
    }

    fn catalog_size(&self, pool: Uuid) -> Option<Bytes> {
        let disks = self.pools.get(&pool)?.disks.iter();
        let size: u64 = disks.map(|disk| disk.catalog.bytes().0).sum();
        (size > 0).then_some(Bytes(size))
    }

    /// The thin metadata of a pool: those it was given, or thin devices that map one block each.
    fn image(&self, pool: Uuid) -> Option<ThinImage> {
        if let Some(Follow(image)) = self.follows.get(&pool) {
            return Some(image());
        }
        if let Some(image) = self.metadata.get(&pool) {
            return Some(image.clone());
        }
        let block = self.pools.get(&pool)?.block;
        let thins = self.thin.iter().filter(|(of, _)| *of == pool);
        let thins = thins.map(|(_, id)| {
            let block = u64::from(id.value());
            let mappings = [(0, (block, 0))].into();
            let mapped = ThinMappings {
                mappings,
                ..ThinMappings::default()
            };
            (*id, mapped)
        });
        let metadata = ThinMetadata {
            block,
            thins: thins.collect(),
            ..ThinMetadata::default()
        };
        Some(metadata.image())
    }

    fn apply_pool(&mut self, desired: DesiredPool) -> Result<Response, Failure> {
        let generation = desired.generation;
        self.take_places(&desired)?;
        match desired.absent {
            true => self.pools.remove(&desired.id),
            false => self.pools.insert(desired.id, desired),
        };
        Ok(applied(generation))
    }

    fn apply_volume(&mut self, desired: DesiredVolume) -> Result<Response, Failure> {
        self.accept(&desired)?;
        let thin = (desired.pool, desired.thin_id);
        let active = desired.held || !desired.exports.is_empty();
        if !self.pools.contains_key(&desired.pool) {
            return Err(Failure::new(FailureKind::Missing, "the pool is not active"));
        }
        match desired.data {
            DataState::Provision => self.provision(thin, desired.source.as_ref())?,
            // Nothing but activating it tells.
            DataState::Present | DataState::Replace if !active || self.thin.contains(&thin) => {}
            DataState::Present | DataState::Replace => {
                return Err(Failure::new(FailureKind::Missing, "no thin device"));
            }
            DataState::Tombstone if !desired.exports.is_empty() => {
                return Err(Failure::new(FailureKind::Refused, "tombstone with exports"));
            }
            DataState::Tombstone => self.destroy(thin),
        }
        if matches!(desired.data, DataState::Present | DataState::Tombstone) {
            for retired in &desired.retired {
                self.destroy((retired.pool, retired.thin_id));
            }
        }
        if let Some(moving) = desired.moving {
            if !self.pools.contains_key(&moving.to.pool) {
                return Err(Failure::new(FailureKind::Missing, "the pool is not active"));
            }
            self.provision((moving.to.pool, moving.to.thin_id), None)?;
            if let Some(copy) = moving.copy {
                let (object, thin_id) = (desired.id, desired.thin_id);
                let source = ThinSource { object, thin_id };
                self.provision((desired.pool, copy), Some(&source))?;
            }
        }
        let (id, generation) = (desired.id, desired.generation);
        let unserved = self.unserved(&desired.exports)?;
        if active {
            let on = self.stays_on(&desired).unwrap_or(thin);
            self.live.insert(id, on);
            self.exported.insert(id, desired);
        } else {
            self.live.remove(&id);
            self.exported.remove(&id);
        }
        Ok(Response::Applied(Report {
            generation,
            unserved,
            ..Report::default()
        }))
    }

    /// The NVMe addresses at which something is not served; refused when it is served at none. iSCSI
    /// listens wherever it is told to.
    fn unserved(&self, exports: &Exports) -> Result<Vec<Unserved>, Failure> {
        let ports = exports.nvme.iter().flat_map(|export| export.ports.values());
        let ports = ports.filter_map(|port| port.address());
        let lacks = |at: &PortalAddr| self.absent.contains(&at.socket().ip());
        let unserved: Vec<Unserved> = ports
            .clone()
            .filter(lacks)
            .map(|at| Unserved {
                transport: Transport::NvmeTcp,
                at: ServedAt::Address(at),
                absent: true,
                message: format!("failed to publish at {at}"),
            })
            .collect();
        match unserved.first() {
            Some(first) if unserved.len() == ports.count() => {
                Err(Failure::new(FailureKind::Address, first.message.clone()))
            }
            _ => Ok(unserved),
        }
    }

    /// What a volume's device is on while what takes its place is made.
    fn stays_on(&self, desired: &DesiredVolume) -> Option<(Uuid, ThinId)> {
        let before = desired.retired.first();
        let before = before.filter(|_| desired.data == DataState::Provision)?;
        let before = (before.pool, before.thin_id);
        Some(self.live.get(&desired.id).copied().unwrap_or(before))
    }

    /// A host writes to a volume, which it reaches.
    pub(crate) fn host_writes(&mut self, volume: Uuid, content: &'static str) {
        self.content.insert(self.live[&volume], content);
    }

    fn apply_snapshots(&mut self, desired: &DesiredSnapshots) -> Result<Response, Failure> {
        for member in &desired.members {
            let thin = (member.pool, member.thin_id);
            match desired.data {
                DataState::Provision => self.provision(thin, Some(&member.source))?,
                DataState::Present | DataState::Replace => {}
                DataState::Tombstone => self.destroy(thin),
            }
            let exported = !member.exports.is_empty();
            if exported && desired.data == DataState::Tombstone {
                return Err(Failure::new(FailureKind::Refused, "tombstone with exports"));
            }
            match exported {
                true => self.readable.insert(member.id, member.exports.clone()),
                false => self.readable.remove(&member.id),
            };
            match member.held || exported {
                true => self.active.insert(member.id),
                false => self.active.remove(&member.id),
            };
        }
        Ok(applied(desired.generation))
    }

    /// What is there already was made by an earlier attempt.
    fn provision(
        &mut self,
        thin: (Uuid, ThinId),
        source: Option<&ThinSource>,
    ) -> Result<(), Failure> {
        if self.thin.contains(&thin) {
            return Ok(());
        }
        if let Some(source) = source {
            let origin = (thin.0, source.thin_id);
            if !self.thin.contains(&origin) {
                return Err(Failure::new(
                    FailureKind::Missing,
                    "no thin device to begin as",
                ));
            }
            if let Some(content) = self.content.get(&origin).copied() {
                self.content.insert(thin, content);
            }
        }
        self.thin.insert(thin);
        Ok(())
    }

    fn destroy(&mut self, thin: (Uuid, ThinId)) {
        self.thin.remove(&thin);
        self.content.remove(&thin);
    }

    /// An older intent is refused, and so is one that takes access away at an equal generation.
    fn accept(&mut self, desired: &DesiredVolume) -> Result<(), Failure> {
        let iscsi = desired
            .exports
            .iscsi
            .as_ref()
            .map_or(0, |e| e.initiators.len());
        let nvme = desired.exports.nvme.as_ref().map_or(0, |e| e.hosts.len());
        let next = (desired.generation, iscsi + nvme);
        match self.accepted.get(&desired.id) {
            Some((generation, _)) if next.0 < *generation => {
                Err(Failure::new(FailureKind::Refused, "stale generation"))
            }
            Some((generation, accesses)) if next.0 == *generation && next.1 < *accesses => Err(
                Failure::new(FailureKind::Refused, "access lost at an equal generation"),
            ),
            _ => {
                self.accepted.insert(desired.id, next);
                Ok(())
            }
        }
    }

    fn observe_volume(&self, id: Uuid) -> VolumeReport {
        VolumeReport {
            active: self.exported.get(&id).map(|volume| volume.size),
            mapped: None,
            exported: Vec::new(),
        }
    }

    fn observe_pool(&self, id: Uuid) -> PoolReport {
        let usage = self.pools.get(&id).map(|pool| PoolUsage {
            transaction_id: 0,
            metadata_used: 10,
            metadata_total: pool.metadata.0 / 8,
            data_used: self.used.get(&id).copied().unwrap_or(3),
            data_total: (disks::room(pool) - pool.metadata.0) / pool.block.0,
            block: Sectors(pool.block.0),
        });
        PoolReport {
            id,
            usage,
            looked: 0,
            degraded: false,
            sets: self
                .pools
                .get(&id)
                .map_or_else(Vec::new, |pool| self.sets(pool)),
        }
    }
}

fn applied(generation: u64) -> Response {
    Response::Applied(Report {
        generation,
        ..Report::default()
    })
}
