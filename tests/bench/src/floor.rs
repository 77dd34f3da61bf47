//! The kernel floor: the bare calls of a volume's life, in a loop.
//!
//! Nothing is looked at, checked or remembered: each call is made as if everything before it
//! worked, and an error ends the run. The steps and their order are those of the product, and
//! the attributes written are those that the product needs.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_kernel_iface::dm::{
    DeviceMapper, DmAccess, DmName, PoolMessage, RealDm, SuspendFlags, Table, Target, Thin,
};
use ashlar_targetd_protocol::{Bytes, Sectors, ThinId, Transport};
use uuid::Uuid;

use crate::product::VOLUME_SIZE;

/// Thin ids from here up are ours: the product counts from zero.
const FIRST_THIN_ID: u32 = 0x80_0000;

const CONFIGFS: &str = "/sys/kernel/config";
const INITIATOR: &str = "iqn.2026-11.org.example:floor";
const HOST: &str = "nqn.2026-11.org.example:floor";
const KEY: &str = "DHHC-1:00:o+H0k1sJGbNGwsr02hgHih669kUet/e13HnBFim2Noxjl7fK:";

/// The floor's own iSCSI portal. A target of its own keeps it open throughout: making the same
/// portal from two threads at once fails in the kernel.
const PORTAL: &str = "127.0.0.1:3261";
const KEEPER: &str = "target/iscsi/iqn.2026-11.org.example:floor-keeper";

/// The port directory of the floor's own NVMe portal.
const PORT: &str = "nvmet/ports/4421";

/// One transport's floor.
pub struct Floor {
    dm: RealDm,
    pool: DmName,
    pool_device: DeviceNumber,
    transport: Transport,
    next: AtomicU32,
}

impl Floor {
    /// Finds the pool and makes what volumes share.
    pub fn open(pool: Uuid, transport: Transport) -> anyhow::Result<Floor> {
        let dm = RealDm::open()?;
        let name: DmName = format!("ashlar-pool-{pool}-thin").parse()?;
        let info = dm
            .info(&name)?
            .with_context(|| format!("{name} is not active"))?;
        if transport == Transport::Iscsi {
            make(KEEPER)?;
            make(&format!("{KEEPER}/tpgt_1"))?;
            make(&format!("{KEEPER}/tpgt_1/np/{PORTAL}"))?;
        }
        if transport == Transport::NvmeTcp {
            make(PORT)?;
            set(&format!("{PORT}/addr_trtype"), "tcp")?;
            set(&format!("{PORT}/addr_adrfam"), "ipv4")?;
            set(&format!("{PORT}/addr_traddr"), "127.0.0.1")?;
            set(&format!("{PORT}/addr_trsvcid"), "4421")?;
            make(&format!("nvmet/hosts/{HOST}"))?;
            set(&format!("nvmet/hosts/{HOST}/dhchap_key"), KEY)?;
        }
        Ok(Floor {
            dm,
            pool: name,
            pool_device: info.number,
            transport,
            next: AtomicU32::new(FIRST_THIN_ID),
        })
    }

    /// Removes what volumes shared.
    pub fn close(self) -> anyhow::Result<()> {
        if self.transport == Transport::Iscsi {
            unmake(&format!("{KEEPER}/tpgt_1/np/{PORTAL}"))?;
            unmake(&format!("{KEEPER}/tpgt_1"))?;
            unmake(KEEPER)?;
        }
        if self.transport == Transport::NvmeTcp {
            unmake(&format!("nvmet/hosts/{HOST}"))?;
            unmake(PORT)?;
        }
        Ok(())
    }

    /// So many lives, one after the other.
    pub fn serial(&self, volumes: u32) -> anyhow::Result<Duration> {
        let start = Instant::now();
        for _ in 0..volumes {
            self.life()?;
        }
        Ok(start.elapsed())
    }

    /// So many lives at once, a thread each.
    pub fn together(&self, volumes: u32) -> anyhow::Result<Duration> {
        let start = Instant::now();
        thread::scope(|scope| {
            let lives: Vec<_> = (0..volumes).map(|_| scope.spawn(|| self.life())).collect();
            lives
                .into_iter()
                .try_for_each(|life| life.join().map_err(|_| anyhow!("a thread panicked"))?)
        })?;
        Ok(start.elapsed())
    }

    /// A thin device of so many bytes to make others of, active under a name of its own.
    pub fn original(&self, size: u64) -> anyhow::Result<Original<'_>> {
        let thin = self.thin_id()?;
        let device: DmName = format!("ashlar-floor-{thin}").parse()?;
        self.dm
            .message(&self.pool, &PoolMessage::CreateThin(thin))?;
        let node = self.activate(&device, thin, size)?;
        Ok(Original {
            floor: self,
            thin,
            device,
            node,
        })
    }

    /// Takes snapshots of all of them at one instant, and destroys those.
    pub fn instant(&self, members: &[Original<'_>]) -> anyhow::Result<()> {
        let mut taken = Vec::with_capacity(members.len());
        for member in members {
            self.dm.suspend(&member.device, SuspendFlags::NO_FLUSH)?;
        }
        for member in members {
            let (id, origin) = (self.thin_id()?, member.thin);
            member.tell(&PoolMessage::CreateSnapshot { id, origin })?;
            taken.push(id);
        }
        for member in members {
            self.dm.resume(&member.device, SuspendFlags::NO_FLUSH)?;
        }
        let delete = |id| self.dm.message(&self.pool, &PoolMessage::Delete(id));
        Ok(taken.into_iter().try_for_each(delete)?)
    }

    /// Where an attached volume of the product's is written to.
    pub fn node_of(&self, volume: Uuid) -> anyhow::Result<PathBuf> {
        let name: DmName = format!("ashlar-vol-{volume}").parse()?;
        let info = self.dm.info(&name)?;
        let info = info.with_context(|| format!("{name} is not active"))?;
        Ok(info.node())
    }

    fn thin_id(&self) -> anyhow::Result<ThinId> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Ok(ThinId::try_from(u64::from(number))?)
    }

    fn life(&self) -> anyhow::Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let thin = ThinId::try_from(u64::from(number))?;
        let device: DmName = format!("ashlar-floor-{number}").parse()?;
        self.dm
            .message(&self.pool, &PoolMessage::CreateThin(thin))?;
        let node = self.activate(&device, thin, VOLUME_SIZE)?;
        match self.transport {
            Transport::Iscsi => {
                iscsi_export(number, &node)?;
                iscsi_unexport(number)?;
            }
            Transport::NvmeTcp => {
                nvme_export(number, &node)?;
                nvme_unexport(number)?;
            }
            other => anyhow::bail!("there are no bare calls for {other}"),
        }
        self.dm.remove(&device)?;
        self.dm.message(&self.pool, &PoolMessage::Delete(thin))?;
        Ok(())
    }

    fn activate(&self, device: &DmName, thin: ThinId, size: u64) -> anyhow::Result<PathBuf> {
        let uuid = format!("floor-{thin}").parse()?;
        self.dm.create(device, &uuid)?;
        let table = self.table(thin, size);
        self.dm.load(device, &table, DmAccess::ReadWrite)?;
        Ok(self.dm.resume(device, SuspendFlags::FLUSH)?.node())
    }

    fn table(&self, id: ThinId, size: u64) -> Table {
        let pool = self.pool_device;
        let target = Target::Thin(Thin { pool, id });
        Table::single(Sectors::within(Bytes(size)), target)
    }
}

/// An active thin device.
pub struct Original<'f> {
    floor: &'f Floor,
    thin: ThinId,
    device: DmName,
    node: PathBuf,
}

impl Original<'_> {
    /// Where it is written to.
    pub fn node(&self) -> &Path {
        &self.node
    }

    /// Takes and destroys a snapshot, with I/O held back meanwhile.
    pub fn snapshot(&self) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let id = self.taken()?;
        self.tell(&PoolMessage::Delete(id))?;
        Ok(start.elapsed())
    }

    /// Makes and destroys a copy of a thin device that is not active.
    pub fn copy_of(&self, origin: ThinId) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let id = self.floor.thin_id()?;
        self.tell(&PoolMessage::CreateSnapshot { id, origin })?;
        self.tell(&PoolMessage::Delete(id))?;
        Ok(start.elapsed())
    }

    /// A snapshot that stays.
    pub fn keep(&self) -> anyhow::Result<ThinId> {
        self.taken()
    }

    /// Destroys a snapshot that stayed.
    pub fn drop_kept(&self, id: ThinId) -> anyhow::Result<()> {
        self.tell(&PoolMessage::Delete(id))
    }

    /// Puts the device on a new snapshot of its own and destroys what it was on.
    pub fn revert(&mut self) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let id = self.taken()?;
        let Floor { dm, .. } = self.floor;
        let table = self.floor.table(id, VOLUME_SIZE);
        dm.load(&self.device, &table, DmAccess::ReadWrite)?;
        dm.resume(&self.device, SuspendFlags::FLUSH)?;
        self.tell(&PoolMessage::Delete(self.thin))?;
        self.thin = id;
        Ok(start.elapsed())
    }

    /// Removes the device and its data.
    pub fn remove(self) -> anyhow::Result<()> {
        self.floor.dm.remove(&self.device)?;
        self.tell(&PoolMessage::Delete(self.thin))
    }

    fn taken(&self) -> anyhow::Result<ThinId> {
        let id = self.floor.thin_id()?;
        let origin = self.thin;
        self.floor
            .dm
            .suspend(&self.device, SuspendFlags::NO_FLUSH)?;
        self.tell(&PoolMessage::CreateSnapshot { id, origin })?;
        self.floor.dm.resume(&self.device, SuspendFlags::NO_FLUSH)?;
        Ok(id)
    }

    fn tell(&self, message: &PoolMessage) -> anyhow::Result<()> {
        Ok(self.floor.dm.message(&self.floor.pool, message)?)
    }
}

fn iscsi_export(number: u32, node: &Path) -> anyhow::Result<()> {
    let hba = format!("target/core/iblock_{number}");
    let backstore = format!("{hba}/floor");
    let tpg = format!("target/iscsi/iqn.2026-11.org.example:floor-{number}/tpgt_1");
    make(&hba)?;
    make(&backstore)?;
    set(
        &format!("{backstore}/control"),
        &format!("udev_path={}", node.display()),
    )?;
    set(&format!("{backstore}/enable"), "1")?;
    set(
        &format!("{backstore}/wwn/vpd_unit_serial"),
        &format!("floor-{number}"),
    )?;
    set(&format!("{backstore}/attrib/emulate_tpu"), "1")?;
    make(&format!(
        "target/iscsi/iqn.2026-11.org.example:floor-{number}"
    ))?;
    make(&tpg)?;
    set(&format!("{tpg}/attrib/authentication"), "1")?;
    set(&format!("{tpg}/attrib/generate_node_acls"), "0")?;
    listen(&tpg)?;
    make(&format!("{tpg}/lun/lun_0"))?;
    link(&backstore, &format!("{tpg}/lun/lun_0/backstore"))?;
    let acl = format!("{tpg}/acls/{INITIATOR}");
    make(&acl)?;
    set(&format!("{acl}/auth/userid"), "floor")?;
    set(&format!("{acl}/auth/password"), "floorfloorfloor")?;
    make(&format!("{acl}/lun_0"))?;
    link(&format!("{tpg}/lun/lun_0"), &format!("{acl}/lun_0/lun"))?;
    set(&format!("{tpg}/enable"), "1")
}

/// A thread that takes its target off the shared portal restarts the kernel's login thread;
/// meanwhile the portal is EINVAL to everybody else, and has to be asked for again.
fn listen(tpg: &str) -> anyhow::Result<()> {
    let path = format!("{tpg}/np/{PORTAL}");
    loop {
        match fs::create_dir(at(&path)) {
            Err(error) if error.kind() == ErrorKind::InvalidInput => thread::yield_now(),
            outcome => return outcome.with_context(|| format!("mkdir {path}")),
        }
    }
}

fn iscsi_unexport(number: u32) -> anyhow::Result<()> {
    let target = format!("target/iscsi/iqn.2026-11.org.example:floor-{number}");
    let tpg = format!("{target}/tpgt_1");
    let acl = format!("{tpg}/acls/{INITIATOR}");
    set(&format!("{tpg}/enable"), "0")?;
    unlink(&format!("{acl}/lun_0/lun"))?;
    unmake(&format!("{acl}/lun_0"))?;
    unmake(&acl)?;
    unlink(&format!("{tpg}/lun/lun_0/backstore"))?;
    unmake(&format!("{tpg}/lun/lun_0"))?;
    unmake(&format!("{tpg}/np/{PORTAL}"))?;
    unmake(&tpg)?;
    unmake(&target)?;
    unmake(&format!("target/core/iblock_{number}/floor"))?;
    unmake(&format!("target/core/iblock_{number}"))
}

fn nvme_export(number: u32, node: &Path) -> anyhow::Result<()> {
    let subsystem = subsystem(number);
    let namespace = format!("{subsystem}/namespaces/1");
    make(&subsystem)?;
    set(&format!("{subsystem}/attr_allow_any_host"), "0")?;
    set(
        &format!("{subsystem}/attr_serial"),
        &format!("floor{number}"),
    )?;
    set(&format!("{subsystem}/attr_model"), "floor")?;
    make(&namespace)?;
    set(
        &format!("{namespace}/device_path"),
        &node.display().to_string(),
    )?;
    set(
        &format!("{namespace}/device_uuid"),
        &Uuid::from_u128(u128::from(number)).to_string(),
    )?;
    set(
        &format!("{namespace}/device_nguid"),
        &Uuid::from_u128(u128::from(number)).to_string(),
    )?;
    set(&format!("{namespace}/enable"), "1")?;
    link(
        &format!("nvmet/hosts/{HOST}"),
        &format!("{subsystem}/allowed_hosts/{HOST}"),
    )?;
    link(&subsystem, &port_link(number))
}

fn nvme_unexport(number: u32) -> anyhow::Result<()> {
    let subsystem = subsystem(number);
    unlink(&port_link(number))?;
    unlink(&format!("{subsystem}/allowed_hosts/{HOST}"))?;
    unmake(&format!("{subsystem}/namespaces/1"))?;
    unmake(&subsystem)
}

fn subsystem(number: u32) -> String {
    format!("nvmet/subsystems/nqn.2026-11.org.example:floor-{number}")
}

fn port_link(number: u32) -> String {
    format!("{PORT}/subsystems/nqn.2026-11.org.example:floor-{number}")
}

fn at(path: &str) -> PathBuf {
    Path::new(CONFIGFS).join(path)
}

fn make(path: &str) -> anyhow::Result<()> {
    fs::create_dir(at(path)).with_context(|| format!("mkdir {path}"))
}

fn unmake(path: &str) -> anyhow::Result<()> {
    fs::remove_dir(at(path)).with_context(|| format!("rmdir {path}"))
}

fn set(path: &str, value: &str) -> anyhow::Result<()> {
    fs::write(at(path), value).with_context(|| format!("write {path}"))
}

fn link(target: &str, path: &str) -> anyhow::Result<()> {
    symlink(at(target), at(path)).with_context(|| format!("link {path}"))
}

fn unlink(path: &str) -> anyhow::Result<()> {
    fs::remove_file(at(path)).with_context(|| format!("unlink {path}"))
}
