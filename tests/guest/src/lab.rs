//! An appliance and a host with an initiator, for tests of what hosts see.

use anyhow::Context;
use ashlar_ctl::{Change, Client};
use ashlar_protocol::{
    Connected, Connection, ConnectionSpec, HostSecrets, PoolSpec, Redundancy, Transport, VolumeSpec,
};
use ashlar_site::{Device, Initiator, Options};
use uuid::Uuid;

use crate::Guest;

/// Bytes in a MiB.
pub const MIB: u64 = 1 << 20;

/// An appliance with a pool and a host that is known to it.
pub struct Lab {
    /// The machines.
    pub guest: Guest,
    /// An admin.
    pub client: Client,
    /// The pool.
    pub pool: Uuid,
    /// The host.
    pub host: Uuid,
    /// Its secrets.
    pub secrets: HostSecrets,
}

impl Lab {
    /// Boots an appliance and an initiator in a folder of that name.
    ///
    /// # Errors
    /// When anything of it fails; likewise below.
    pub async fn new(name: &str) -> anyhow::Result<Lab> {
        Lab::furnished(Guest::boot(name, true)?, &one_disk()?).await
    }

    /// The same on several processors, so that what is done at once is.
    pub async fn parallel(name: &str) -> anyhow::Result<Lab> {
        Lab::furnished(Guest::boot_parallel(name, true)?, &one_disk()?).await
    }

    /// The same on data disks of that size.
    pub async fn on(name: &str, disk_mib: u64) -> anyhow::Result<Lab> {
        Lab::furnished(Guest::boot_on(name, true, disk_mib * MIB)?, &one_disk()?).await
    }

    /// The same with its pool on the first disks, which stand in for each other, of so many that
    /// can be pulled.
    pub async fn in_slots(
        name: &str,
        (disks, disk_mib): (u32, u64),
        (redundancy, first): (Redundancy, u32),
    ) -> anyhow::Result<Lab> {
        let options = Options {
            initiator: true,
            disks,
            disk_size: disk_mib * MIB,
            slots: true,
            ..Options::default()
        };
        let serials = (0..first).map(|number| format!("serial-DISK{number}").parse());
        let pool = PoolSpec {
            disks: serials.collect::<Result<_, _>>()?,
            redundancy,
            ..one_disk()?
        };
        Lab::furnished(Guest::boot_with(name, options)?, &pool).await
    }

    async fn furnished(mut guest: Guest, spec: &PoolSpec) -> anyhow::Result<Lab> {
        let client = guest.site.client("admin")?;
        let pool = Uuid::new_v4();
        done(client.pool_create(pool, spec).await?)?;
        let host = Uuid::new_v4();
        let spec = initiator(&mut guest).host_spec("initiator")?;
        let created = done(client.host_create(host, &spec).await?)?;
        Ok(Lab {
            guest,
            client,
            pool,
            host,
            secrets: created.secrets,
        })
    }

    /// Creates a volume.
    pub async fn volume(&self, mib: u64) -> anyhow::Result<Uuid> {
        let id = Uuid::new_v4();
        let spec = VolumeSpec::blank("volume".parse()?, self.pool, mib * MIB);
        done(self.client.volume_create(id, &spec).await?)?;
        Ok(id)
    }

    /// Attaches a volume to the host.
    pub async fn connect(&self, volume: Uuid, transport: Transport) -> anyhow::Result<Connection> {
        let spec = ConnectionSpec {
            of: Connected::Volume(volume),
            host: self.host,
            transport,
            access: Default::default(),
        };
        done(self.client.connection_create(Uuid::new_v4(), &spec).await?)
    }

    /// Has the initiator log in.
    pub fn attach(&mut self, connection: &Connection) -> anyhow::Result<Device> {
        let secrets = self.secrets.clone();
        let mut initiator = initiator(&mut self.guest);
        match (&connection.iscsi, &connection.nvme) {
            (Some(access), _) if connection.transport == Transport::Iser => {
                initiator.login_iser(access, &secrets)
            }
            (Some(access), _) => initiator.login(access, &secrets),
            (_, Some(access)) if connection.transport == Transport::NvmeRdma => {
                initiator.connect_rdma(access, &secrets)
            }
            (_, Some(access)) => initiator.connect(access, &secrets),
            (None, None) => anyhow::bail!("no access"),
        }
    }

    /// Has the initiator log out.
    pub fn detach(&mut self, connection: &Connection) -> anyhow::Result<()> {
        let mut initiator = initiator(&mut self.guest);
        match (&connection.iscsi, &connection.nvme) {
            (Some(access), _) => initiator.logout(access),
            (_, Some(access)) => initiator.disconnect(access),
            (None, None) => anyhow::bail!("no access"),
        }
    }

    /// Bytes of the pool that are in use.
    pub async fn used(&self) -> anyhow::Result<u64> {
        self.client
            .pool_show(self.pool)
            .await?
            .used
            .context("the pool is not online")
    }
}

fn one_disk() -> anyhow::Result<PoolSpec> {
    Ok(PoolSpec::on("tank".parse()?, vec!["serial-DISK0".parse()?]))
}

/// The initiator of a lab.
///
/// # Panics
/// Where the guest was booted without one.
pub fn initiator(guest: &mut Guest) -> Initiator<'_> {
    Initiator::on(
        guest
            .site
            .initiator
            .as_mut()
            .expect("the lab has an initiator"),
    )
}

/// What a change came to, which had to be done at once.
///
/// # Errors
/// When it was only accepted.
pub fn done<T>(change: Change<T>) -> anyhow::Result<T> {
    change.done().context("only accepted")
}
