//! The main job, from factory-fresh disks to a power cut and back, in one go.

mod firmware;
mod healing;

use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};
use ashlar_ctl::{Change, Client};
use ashlar_protocol::{
    ChapCredentials, Connected, Connection, ConnectionSpec, ExtendSpec, HostCreated, HostSecrets,
    HostSpec, IscsiAccess, Labels, Parent, PoolSpec, PoolUpdate, Redundancy, RevertSpec,
    SnapshotSpec, Transport, VolumeSpec,
};
use ashlar_site::{Device, Initiator, Options, Site, Start};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::build;

const GIB: u64 = 1 << 30;
/// Small, as an emulated machine takes its time to copy one.
const DISK: u64 = 3 * GIB;
/// MiB written to each volume.
const WRITTEN: u32 = 24;

/// Which of the stories to tell.
#[derive(clap::Args)]
pub struct Arguments {
    /// That of the box itself: flashed, provisioned, claimed, updated, and fallen back.
    #[arg(long)]
    firmware: bool,
}

/// Tells it and checks every line of it.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match arguments.firmware {
        true => firmware::run(),
        false => volumes(),
    }
}

fn volumes() -> anyhow::Result<()> {
    let begin = Instant::now();
    let parts = build::parts()?;
    let options = Options {
        initiator: true,
        start: Start::Firmware,
        disks: 3,
        disk_size: DISK,
        slots: true,
        ..Options::default()
    };
    chapter("The appliance and an initiator are switched on");
    let site = Site::create(&parts, &parts.work.join("demo"), &options)?;
    site.await_management()?;
    tell("the appliance came up by its own boot loader and serves its management port");
    let mut demo = Demo {
        client: site.client("admin")?,
        site,
        runtime: tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?,
    };
    demo.story()?;
    chapter(&format!(
        "Done in {} s; nothing was lost",
        begin.elapsed().as_secs()
    ));
    Ok(())
}

struct Demo {
    client: Client,
    site: Site,
    runtime: Runtime,
}

/// A volume as the initiator uses it.
struct Attached {
    volume: Uuid,
    connection: Connection,
    device: Device,
    hash: String,
}

impl Demo {
    fn story(&mut self) -> anyhow::Result<()> {
        chapter("Management over mutual TLS");
        let pool = self.pool()?;
        let (host, secrets) = self.initiator_host()?;

        chapter("Two volumes for the kernel's initiators in the second machine");
        let alpha = self.attach("alpha", pool, host, Transport::Iscsi, &secrets)?;
        let beta = self.attach("beta", pool, host, Transport::NvmeTcp, &secrets)?;

        chapter("One volume for a user-space initiator on this host");
        self.user_space("gamma", pool)?;

        chapter("Both volumes grow while they are attached");
        self.extend(&alpha)?;
        self.extend(&beta)?;

        chapter("A snapshot, a clone of it, and back to it, while the volume is attached");
        let snapshot = self.snapshot(&alpha)?;
        self.overwrite(&alpha)?;
        let delta = self.clone_of(snapshot, pool, host, &secrets, &alpha)?;
        self.revert(&alpha, snapshot)?;
        self.give_back(delta)?;
        self.wait(self.client.snapshot_delete(snapshot))?;
        tell("deleted the clone and the snapshot; neither needed the other");

        chapter("A disk is pulled out while the initiator writes");
        self.heal(pool, &alpha)?;

        chapter("The appliance loses power");
        self.site.appliance.cut_power()?;
        tell("its process was killed between two instructions");
        self.site.appliance.power_on()?;
        self.site.await_management()?;
        tell("it is back; the initiator was never touched and still holds both volumes");
        self.verify(&alpha)?;
        self.verify(&beta)?;

        chapter("Everything is given back");
        self.give_back(alpha)?;
        self.give_back(beta)?;
        self.wait(self.client.host_delete(host))?;
        let pool = self.runtime.block_on(self.client.pool_show(pool))?;
        ensure!(
            pool.volumes == 0,
            "the pool still has {} volumes",
            pool.volumes
        );
        tell(&format!("pool {} is empty again", pool.name));
        Ok(())
    }

    fn pool(&self) -> anyhow::Result<Uuid> {
        let system = self.runtime.block_on(self.client.system_show())?;
        tell(&format!(
            "box {} runs Ashlar {} on Linux {}",
            system.name,
            system.version,
            system.kernel.as_deref().unwrap_or("unknown")
        ));
        let disks = self.runtime.block_on(self.client.disk_list())?;
        let blank: Vec<_> = disks
            .iter()
            .filter(|d| d.content.is_none() && !d.in_use)
            .collect();
        for disk in &blank {
            tell(&format!(
                "found blank disk {} of {}",
                disk.id,
                gib(disk.size)
            ));
        }
        ensure!(blank.len() == 3, "{} disks are blank", blank.len());
        let id = Uuid::new_v4();
        let disks = blank[..2].iter().map(|disk| disk.id.clone()).collect();
        let spec = PoolSpec {
            redundancy: Redundancy::Raid1,
            ..PoolSpec::on("tank".parse()?, disks)
        };
        let pool = self.wait(self.client.pool_create(id, &spec))?;
        tell(&format!(
            "made pool {} of {} on two of them, each of which holds everything",
            pool.name,
            gib(pool.capacity.unwrap_or_default())
        ));
        let spares = PoolUpdate {
            spares: Some(vec![blank[2].id.clone()]),
            ..PoolUpdate::default()
        };
        self.wait(self.client.pool_update(id, &spares))?;
        tell(&format!("{} is its spare", blank[2].id));
        Ok(id)
    }

    fn initiator_host(&mut self) -> anyhow::Result<(Uuid, HostSecrets)> {
        let spec = self.initiator()?.host_spec("initiator")?;
        let id = Uuid::new_v4();
        let created: HostCreated = self.wait(self.client.host_create(id, &spec))?;
        tell("registered the initiator; the box made CHAP and DH-HMAC-CHAP secrets for it");
        Ok((id, created.secrets))
    }

    fn attach(
        &mut self,
        name: &str,
        pool: Uuid,
        host: Uuid,
        transport: Transport,
        secrets: &HostSecrets,
    ) -> anyhow::Result<Attached> {
        let (volume, connection) = self.volume(name, pool, host, transport)?;
        let mut initiator = self.initiator()?;
        let device = match (&connection.iscsi, &connection.nvme) {
            (Some(access), _) => initiator.login(access, secrets)?,
            (_, Some(access)) => initiator.connect(access, secrets)?,
            (None, None) => anyhow::bail!("connection {} has no access", connection.id),
        };
        tell(&format!("{name} is attached by {transport}, authenticated"));
        let hash = initiator.write_random(&device, WRITTEN)?;
        ensure!(
            initiator.hash(&device, WRITTEN)? == hash,
            "{name} reads differently"
        );
        tell(&format!(
            "wrote {WRITTEN} MiB to {name} and read them back: sha256 {}",
            &hash[..16]
        ));
        Ok(Attached {
            volume,
            connection,
            device,
            hash,
        })
    }

    fn volume(
        &self,
        name: &str,
        pool: Uuid,
        host: Uuid,
        transport: Transport,
    ) -> anyhow::Result<(Uuid, Connection)> {
        let volume = Uuid::new_v4();
        let spec = VolumeSpec::blank(name.parse()?, pool, GIB);
        self.wait(self.client.volume_create(volume, &spec))?;
        let spec = ConnectionSpec {
            of: Connected::Volume(volume),
            host,
            transport,
            access: Default::default(),
        };
        let connection = self.wait(self.client.connection_create(Uuid::new_v4(), &spec))?;
        tell(&format!(
            "made volume {name} of {} and connected it",
            gib(GIB)
        ));
        Ok((volume, connection))
    }

    /// libiscsi inside qemu-io, over the forwarded port.
    fn user_space(&mut self, name: &str, pool: Uuid) -> anyhow::Result<()> {
        let iqn = "iqn.2026-11.org.example:workstation";
        let host = Uuid::new_v4();
        let spec = HostSpec {
            name: "workstation".parse()?,
            iqn: Some(iqn.parse()?),
            nqn: None,
            wwpns: Default::default(),
            authentication: Default::default(),
            dhchap: Default::default(),
            secrets: HostSecrets::default(),
        };
        let created: HostCreated = self.wait(self.client.host_create(host, &spec))?;
        let chap = created
            .secrets
            .chap
            .context("the box made no CHAP secret")?;
        let (volume, connection) = self.volume(name, pool, host, Transport::Iscsi)?;
        let access = connection.iscsi.as_ref().context("no iSCSI access")?;
        self.qemu_io(iqn, access, &chap)?;
        tell(&format!(
            "wrote and read {name} with libiscsi from this host"
        ));
        self.wait(self.client.connection_delete(connection.id))?;
        self.wait(self.client.volume_delete(volume))?;
        self.wait(self.client.host_delete(host))?;
        tell(&format!("detached and deleted {name}"));
        Ok(())
    }

    fn qemu_io(
        &self,
        iqn: &str,
        access: &IscsiAccess,
        chap: &ChapCredentials,
    ) -> anyhow::Result<()> {
        let secret = self.site.folder().join("workstation.secret");
        fs::write(&secret, chap.secret.expose())?;
        let output = Command::new("qemu-io")
            .arg("--object")
            .arg(format!("secret,id=chap,file={}", secret.display()))
            .arg("--image-opts")
            .args([
                "-c",
                "write -P 0x5a 0 4M",
                "-c",
                "flush",
                "-c",
                "read -P 0x5a 0 4M",
            ])
            .arg(format!(
                "driver=iscsi,transport=tcp,portal=127.0.0.1:{},target={},lun={},\
                 initiator-name={iqn},user={},password-secret=chap",
                self.site.ports.iscsi,
                access.target,
                access.lun,
                chap.name.as_str()
            ))
            .output()
            .context("failed to start qemu-io")?;
        fs::remove_file(&secret)?;
        let said = String::from_utf8_lossy(&output.stdout);
        let worked = output.status.success()
            && said.contains("read 4194304/4194304")
            && !said.contains("verification failed");
        ensure!(
            worked,
            "qemu-io: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn extend(&mut self, attached: &Attached) -> anyhow::Result<()> {
        let spec = ExtendSpec { size: 2 * GIB };
        let volume = self.wait(self.client.volume_extend(attached.volume, &spec))?;
        let mut initiator = self.initiator()?;
        if attached.connection.iscsi.is_some() {
            initiator.rescan()?;
        }
        initiator.await_size(&attached.device, volume.size)?;
        tell(&format!(
            "{} grew to {}, and the initiator sees it",
            volume.name,
            gib(volume.size)
        ));
        Ok(())
    }

    fn snapshot(&self, attached: &Attached) -> anyhow::Result<Uuid> {
        let id = Uuid::new_v4();
        let spec = SnapshotSpec {
            name: "before".parse()?,
            volume: attached.volume,
            labels: Labels::default(),
        };
        self.wait(self.client.snapshot_create(id, &spec))?;
        tell("took a snapshot of alpha");
        Ok(id)
    }

    fn overwrite(&mut self, attached: &Attached) -> anyhow::Result<()> {
        let hash = self.initiator()?.write_random(&attached.device, WRITTEN)?;
        ensure!(hash != attached.hash, "two random writes are the same");
        tell(&format!(
            "the initiator wrote something else to alpha: sha256 {}",
            &hash[..16]
        ));
        Ok(())
    }

    /// A volume made of a snapshot has what the volume had then.
    fn clone_of(
        &mut self,
        snapshot: Uuid,
        pool: Uuid,
        host: Uuid,
        secrets: &HostSecrets,
        original: &Attached,
    ) -> anyhow::Result<Attached> {
        let volume = Uuid::new_v4();
        let spec = VolumeSpec {
            size: None,
            source: Some(Parent::Snapshot(snapshot)),
            ..VolumeSpec::blank("delta".parse()?, pool, GIB)
        };
        self.wait(self.client.volume_create(volume, &spec))?;
        let spec = ConnectionSpec {
            of: Connected::Volume(volume),
            host,
            transport: Transport::NvmeTcp,
            access: Default::default(),
        };
        let connection = self.wait(self.client.connection_create(Uuid::new_v4(), &spec))?;
        let access = connection.nvme.as_ref().context("no NVMe access")?;
        let device = self.initiator()?.connect(access, secrets)?;
        let clone = Attached {
            volume,
            connection,
            device,
            hash: original.hash.clone(),
        };
        tell("made volume delta of the snapshot and attached it:");
        self.verify(&clone)?;
        Ok(clone)
    }

    fn revert(&mut self, attached: &Attached, snapshot: Uuid) -> anyhow::Result<()> {
        let spec = RevertSpec {
            snapshot,
            interrupt: true,
        };
        self.wait(self.client.volume_revert(attached.volume, &spec))?;
        tell("alpha was put back beneath the initiator, which stays logged in:");
        self.verify(attached)
    }

    fn verify(&mut self, attached: &Attached) -> anyhow::Result<()> {
        let hash = self.initiator()?.hash(&attached.device, WRITTEN)?;
        ensure!(
            hash == attached.hash,
            "volume {} lost data",
            attached.volume
        );
        let transport = attached.connection.transport;
        tell(&format!(
            "by {transport} the same {WRITTEN} MiB: sha256 {}",
            &hash[..16]
        ));
        Ok(())
    }

    fn give_back(&mut self, attached: Attached) -> anyhow::Result<()> {
        let mut initiator = self.initiator()?;
        if let Some(access) = &attached.connection.iscsi {
            initiator.logout(access)?;
        }
        if let Some(access) = &attached.connection.nvme {
            initiator.disconnect(access)?;
        }
        self.wait(self.client.connection_delete(attached.connection.id))?;
        self.wait(self.client.volume_delete(attached.volume))?;
        tell(&format!("detached and deleted volume {}", attached.volume));
        Ok(())
    }

    fn initiator(&mut self) -> anyhow::Result<Initiator<'_>> {
        let machine = self
            .site
            .initiator
            .as_mut()
            .context("the site has no initiator")?;
        Ok(Initiator::on(machine))
    }

    /// Only what is in the kernel counts as done.
    fn wait<T>(
        &self,
        call: impl Future<Output = Result<Change<T>, ashlar_ctl::CallError>>,
    ) -> anyhow::Result<T> {
        self.runtime
            .block_on(call)?
            .done()
            .context("the appliance took longer than it was given")
    }
}

fn chapter(title: &str) {
    say(&format!("\n● {title}\n"));
}

fn tell(line: &str) {
    say(&format!("  {line}\n"));
}

/// A reader that went away, `demo | head`, is no reason to stop.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn gib(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let value = bytes as f64 / GIB as f64;
    format!("{value:.1} GiB")
}
