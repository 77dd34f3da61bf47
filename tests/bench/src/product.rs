//! The life of a volume through the management port.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ashlar_ctl::client::{Change, Client};
use ashlar_protocol::{Authentication, ConnectionSpec, HostSecrets, HostSpec, Name, VolumeSpec};
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
            authentication: Authentication::Required,
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

    async fn life(&self, transport: Transport) -> anyhow::Result<()> {
        let (volume, connection) = (Uuid::new_v4(), Uuid::new_v4());
        self.create(volume).await?;
        let spec = ConnectionSpec {
            volume,
            host: self.host,
            transport,
        };
        done(self.client.connection_create(connection, &spec).await?)?;
        done(self.client.connection_delete(connection).await?)?;
        done(self.client.volume_delete(volume).await?)
    }

    async fn create(&self, id: Uuid) -> anyhow::Result<()> {
        let spec = VolumeSpec {
            name: name("bench"),
            pool: self.pool,
            size: VOLUME_SIZE,
        };
        done(self.client.volume_create(id, &spec).await?)
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
