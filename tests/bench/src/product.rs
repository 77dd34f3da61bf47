//! What volumes live through, through the management port.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ashlar_ctl::client::{Change, Client};
use ashlar_ctl::transfer::{Form, Source, import, unwatched};
use ashlar_protocol::{
    Authentication, Connected, ConnectionSpec, GroupSnapshotSpec, GroupSpec, HostSecrets, HostSpec,
    Labels, MemberSnapshot, Name, Parent, RevertSpec, SnapshotSpec, VolumeSpec,
};
use ashlar_targetd_protocol::Transport;
use tokio::task::JoinSet;
use uuid::Uuid;

/// Bytes of every volume made here.
pub const VOLUME_SIZE: u64 = 64 << 20;

/// Requests kept under way while many volumes are made or destroyed.
const FILLERS: usize = 32;

/// A client, a pool and a host to attach to.
#[derive(Clone)]
pub struct Bench {
    client: Client,
    pool: Uuid,
    host: Uuid,
}

impl Bench {
    /// Makes the host.
    pub async fn prepare(client: &Client, pool: Uuid) -> anyhow::Result<Bench> {
        let host = Uuid::new_v4();
        let spec = HostSpec {
            name: name("bench"),
            iqn: Some("iqn.2026-11.org.example:bench".parse()?),
            nqn: Some("nqn.2026-11.org.example:bench".parse()?),
            wwpns: Default::default(),
            authentication: Authentication::Required,
            dhchap: Default::default(),
            secrets: HostSecrets::default(),
        };
        done(client.host_create(host, &spec).await?)?;
        Ok(Bench {
            client: client.clone(),
            pool,
            host,
        })
    }

    /// Forgets the host.
    pub async fn finish(self) -> anyhow::Result<()> {
        done(self.client.host_delete(self.host).await?)
    }

    /// So many lives, one after the other.
    pub async fn serial(&self, transport: Transport, volumes: u32) -> anyhow::Result<Duration> {
        let start = Instant::now();
        for _ in 0..volumes {
            self.life(transport).await?;
        }
        Ok(start.elapsed())
    }

    /// So many lives at once.
    pub async fn together(&self, transport: Transport, volumes: u32) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let mut lives = JoinSet::new();
        for _ in 0..volumes {
            let bench = self.clone();
            lives.spawn(async move { bench.life(transport).await });
        }
        finish_all(lives).await?;
        Ok(start.elapsed())
    }

    /// Makes volumes that nobody uses.
    pub async fn fill(&self, volumes: u32) -> anyhow::Result<Vec<Uuid>> {
        let ids: Vec<Uuid> = (0..volumes).map(|_| Uuid::new_v4()).collect();
        let mut makers = JoinSet::new();
        for &id in &ids {
            if makers.len() >= FILLERS {
                makers.join_next().await.context("one is under way")???;
            }
            let bench = self.clone();
            makers.spawn(async move { bench.create(id).await });
        }
        finish_all(makers).await?;
        Ok(ids)
    }

    /// Destroys volumes.
    pub async fn clear(&self, ids: Vec<Uuid>) -> anyhow::Result<()> {
        let mut breakers = JoinSet::new();
        for id in ids {
            if breakers.len() >= FILLERS {
                breakers.join_next().await.context("one is under way")???;
            }
            let bench = self.clone();
            breakers.spawn(async move { done(bench.client.volume_delete(id).await?) });
        }
        finish_all(breakers).await
    }

    /// A volume to make others of, attached.
    pub async fn original(&self) -> anyhow::Result<Original> {
        let original = Original {
            bench: self.clone(),
            volume: Uuid::new_v4(),
            connection: Uuid::new_v4(),
            snapshot: Uuid::new_v4(),
        };
        self.create(original.volume).await?;
        self.attach(original.volume, original.connection).await?;
        original.take(original.snapshot).await?;
        Ok(original)
    }

    /// Writes an image to a volume made for it, which is gone after that; how long the writing took.
    pub async fn import(&self, image: &Path, size: u64) -> anyhow::Result<Duration> {
        let id = Uuid::new_v4();
        let spec = VolumeSpec::blank(name("import"), self.pool, size);
        done(self.client.volume_create(id, &spec).await?)?;
        let source = Source::open(image, Form::Raw)?;
        let start = Instant::now();
        import(&self.client, id, source, unwatched()).await?;
        let took = start.elapsed();
        done(self.client.volume_delete(id).await?)?;
        Ok(took)
    }

    /// A group of attached volumes.
    pub async fn group(&self, members: u32) -> anyhow::Result<Group> {
        let volumes = self.fill(members).await?;
        for &volume in &volumes {
            self.attach(volume, Uuid::new_v4()).await?;
        }
        let id = Uuid::new_v4();
        let spec = GroupSpec {
            name: name("group"),
            volumes: volumes.clone(),
            source: None,
        };
        done(self.client.group_create(id, &spec).await?)?;
        Ok(Group {
            bench: self.clone(),
            id,
            volumes,
        })
    }

    async fn attach(&self, volume: Uuid, connection: Uuid) -> anyhow::Result<()> {
        let spec = ConnectionSpec {
            of: Connected::Volume(volume),
            host: self.host,
            transport: Transport::Iscsi,
            access: Default::default(),
        };
        done(self.client.connection_create(connection, &spec).await?)
    }

    async fn life(&self, transport: Transport) -> anyhow::Result<()> {
        let (volume, connection) = (Uuid::new_v4(), Uuid::new_v4());
        self.create(volume).await?;
        let spec = ConnectionSpec {
            of: Connected::Volume(volume),
            host: self.host,
            transport,
            access: Default::default(),
        };
        done(self.client.connection_create(connection, &spec).await?)?;
        done(self.client.connection_delete(connection).await?)?;
        done(self.client.volume_delete(volume).await?)
    }

    async fn create(&self, id: Uuid) -> anyhow::Result<()> {
        let spec = VolumeSpec::blank(name("bench"), self.pool, VOLUME_SIZE);
        done(self.client.volume_create(id, &spec).await?)
    }
}

/// An attached volume with a snapshot.
pub struct Original {
    bench: Bench,
    volume: Uuid,
    connection: Uuid,
    snapshot: Uuid,
}

impl Original {
    /// Takes and destroys a snapshot.
    pub async fn snapshot(&self) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let id = Uuid::new_v4();
        self.take(id).await?;
        done(self.bench.client.snapshot_delete(id).await?)?;
        Ok(start.elapsed())
    }

    /// Makes and destroys a clone of the snapshot.
    pub async fn clone_of_it(&self) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let id = Uuid::new_v4();
        let spec = VolumeSpec {
            source: Some(Parent::Snapshot(self.snapshot)),
            ..VolumeSpec::blank(name("clone"), self.bench.pool, VOLUME_SIZE)
        };
        done(self.bench.client.volume_create(id, &spec).await?)?;
        done(self.bench.client.volume_delete(id).await?)?;
        Ok(start.elapsed())
    }

    /// Puts the volume back to its snapshot, attached as it is.
    pub async fn revert(&self) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let spec = RevertSpec {
            snapshot: self.snapshot,
            interrupt: true,
        };
        done(self.bench.client.volume_revert(self.volume, &spec).await?)?;
        Ok(start.elapsed())
    }

    /// Removes all of it.
    pub async fn remove(self) -> anyhow::Result<()> {
        let client = &self.bench.client;
        done(client.snapshot_delete(self.snapshot).await?)?;
        done(client.connection_delete(self.connection).await?)?;
        done(client.volume_delete(self.volume).await?)
    }

    async fn take(&self, id: Uuid) -> anyhow::Result<()> {
        let spec = SnapshotSpec {
            name: name("snapshot"),
            volume: self.volume,
            labels: Labels::default(),
        };
        done(self.bench.client.snapshot_create(id, &spec).await?)
    }
}

/// Attached volumes of which snapshots are taken together.
pub struct Group {
    bench: Bench,
    id: Uuid,
    volumes: Vec<Uuid>,
}

impl Group {
    /// Its members.
    pub fn volumes(&self) -> &[Uuid] {
        &self.volumes
    }

    /// Takes a snapshot of all members at one instant, and destroys it.
    pub async fn instant(&self) -> anyhow::Result<()> {
        let id = Uuid::new_v4();
        let member = |&volume| MemberSnapshot {
            volume,
            snapshot: Uuid::new_v4(),
        };
        let spec = GroupSnapshotSpec {
            name: name("instant"),
            group: self.id,
            snapshots: self.volumes.iter().map(member).collect(),
        };
        let client = &self.bench.client;
        done(client.group_snapshot_create(id, &spec).await?)?;
        done(client.group_snapshot_delete(id).await?)
    }

    /// Removes all of it.
    pub async fn remove(self) -> anyhow::Result<()> {
        let client = &self.bench.client;
        done(client.group_delete(self.id).await?)?;
        for &volume in &self.volumes {
            done(client.volume_detach_all(volume).await?)?;
        }
        self.bench.clear(self.volumes).await
    }
}

async fn finish_all(mut tasks: JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// Only what is in the kernel counts as done.
fn done<T>(change: Change<T>) -> anyhow::Result<()> {
    match change {
        Change::Done { .. } => Ok(()),
        Change::Accepted(job) => bail!("{:?} was only accepted", job.operation),
    }
}

fn name(text: &str) -> Name {
    text.parse().expect("a plain word is a name")
}
