//! Killed daemons and cut power under load: nothing acknowledged is lost, nothing is left over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ashlar_ctl::{CallError, Change, Client};
use ashlar_guest_tests::Guest;
use ashlar_protocol::{
    Connected, ConnectionSpec, HostSecrets, HostSpec, PoolSpec, Transport, VolumeSpec, Watermarks,
};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use uuid::Uuid;

const WORKERS: usize = 6;
/// Two kills, then a power cut, and so on.
const ROUNDS: u32 = 9;
/// How long a client goes on repeating what it is told to repeat. A killed daemon is back, and the
/// other one has noticed, within a few seconds of an emulated machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What clients were told, and so may count on.
#[derive(Default)]
struct Told {
    /// Volumes by whether they are connected.
    volumes: BTreeMap<Uuid, bool>,
}

struct Load {
    client: Client,
    pool: Uuid,
    host: Uuid,
    told: Mutex<Told>,
    stop: AtomicBool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_is_left_over() -> anyhow::Result<()> {
    let mut guest = Guest::boot_parallel("crash", false)?;
    let client = guest.site.client("admin")?.waiting(Duration::from_secs(60));
    let (pool, host) = prepare(&client).await?;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..ROUNDS {
        let load = Arc::new(Load {
            client: client.clone(),
            pool,
            host,
            told: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            workers.spawn(Arc::clone(&load).work());
        }
        tokio::time::sleep(Duration::from_millis(500 + random.next() % 2500)).await;
        load.stop.store(true, Ordering::Relaxed);
        let what = if round % 3 == 2 {
            tokio::task::block_in_place(|| guest.power_cycle())?;
            "power"
        } else {
            let unit =
                ["ashlar-agent.service", "ashlar-targetd.service"][random.next() as usize % 2];
            guest.kill(unit)?;
            unit
        };
        while let Some(worker) = workers.join_next().await {
            worker?;
        }
        guest.site.await_management()?;
        let kept = verify(&load)
            .await
            .with_context(|| format!("round {round}, {what}"))?;
        println!("round {round}: {what} lost; {kept} acknowledged volumes, all there");
        settle(&mut guest, &load)
            .await
            .with_context(|| format!("round {round}, {what}"))?;
    }
    Ok(())
}

async fn prepare(client: &Client) -> anyhow::Result<(Uuid, Uuid)> {
    let (pool, host) = (Uuid::new_v4(), Uuid::new_v4());
    let spec = PoolSpec {
        name: "tank".parse()?,
        disks: vec!["serial-DISK0".parse()?, "serial-DISK1".parse()?],
        block_size: None,
        metadata_size: None,
        wipe: false,
        over_subscription: 0,
        reserved: 0,
        redundancy: Default::default(),
        watermarks: Watermarks::default(),
    };
    client
        .pool_create(pool, &spec)
        .await?
        .done()
        .context("pool")?;
    let spec = HostSpec {
        name: "host".parse()?,
        iqn: Some("iqn.2026-11.org.example:crash".parse()?),
        nqn: Some("nqn.2026-11.org.example:crash".parse()?),
        wwpns: Default::default(),
        authentication: Default::default(),
        dhchap: Default::default(),
        secrets: HostSecrets::default(),
    };
    client
        .host_create(host, &spec)
        .await?
        .done()
        .context("host")?;
    Ok((pool, host))
}

impl Load {
    /// Makes, attaches, detaches and deletes volumes until told to stop. What fails was not
    /// acknowledged, and its volume is forgotten: it may be there or not.
    async fn work(self: Arc<Self>) {
        let mut turn = 0;
        while !self.stop.load(Ordering::Relaxed) {
            turn += 1;
            let id = Uuid::new_v4();
            let _ = self.life(id, turn % 3).await;
        }
    }

    async fn life(&self, id: Uuid, kind: u32) -> Option<()> {
        let spec = VolumeSpec::blank("crash".parse().ok()?, self.pool, 16 << 20);
        acknowledged(self.client.volume_create(id, &spec).await)?;
        self.tell(id, Some(false)).await;
        let connection = Uuid::new_v4();
        if kind != 0 {
            let spec = ConnectionSpec {
                of: Connected::Volume(id),
                host: self.host,
                transport: if kind == 1 {
                    Transport::Iscsi
                } else {
                    Transport::NvmeTcp
                },
                access: Default::default(),
            };
            self.tell(id, None).await;
            acknowledged(self.client.connection_create(connection, &spec).await)?;
            self.tell(id, Some(true)).await;
        }
        if kind == 2 {
            self.tell(id, None).await;
            acknowledged(self.client.connection_delete(connection).await)?;
            acknowledged(self.client.volume_delete(id).await)?;
        }
        Some(())
    }

    /// Notes what is certain of a volume; `None` while a change is under way.
    async fn tell(&self, id: Uuid, connected: Option<bool>) {
        let mut told = self.told.lock().await;
        match connected {
            Some(connected) => told.volumes.insert(id, connected),
            None => told.volumes.remove(&id),
        };
    }
}

fn acknowledged<T>(answer: Result<Change<T>, CallError>) -> Option<T> {
    answer.ok()?.done()
}

/// Asks for a change and waits for it, and asks again while told that the same may succeed later.
async fn persist<T>(
    client: &Client,
    ask: impl AsyncFn() -> Result<Change<T>, CallError>,
) -> Result<(), CallError> {
    let begin = Instant::now();
    loop {
        let outcome = match ask().await {
            Ok(change) => client.settle(&change).await,
            Err(error) => Err(error),
        };
        match outcome {
            Err(error) if error.retryable() && begin.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            outcome => return outcome,
        }
    }
}

/// Everything acknowledged is there.
async fn verify(load: &Load) -> anyhow::Result<usize> {
    let told = load.told.lock().await;
    for (id, connected) in &told.volumes {
        let volume = load
            .client
            .volume_show(*id)
            .await
            .with_context(|| format!("volume {id}"))?;
        ensure!(
            (volume.connections > 0) == *connected,
            "volume {id}: acknowledged connected: {connected}, has {}",
            volume.connections
        );
    }
    Ok(told.volumes.len())
}

/// After all volumes are deleted through the front door, the kernel has only the pool: whatever
/// else there were would be an orphan.
async fn settle(guest: &mut Guest, load: &Load) -> anyhow::Result<()> {
    for volume in load.client.volume_list().await? {
        if volume.connections > 0 {
            persist(&load.client, || load.client.volume_detach_all(volume.id)).await?;
        }
        match persist(&load.client, || load.client.volume_delete(volume.id)).await {
            Ok(()) => {}
            // Its deletion was under way when the accident happened.
            Err(_) if load.client.volume_show(volume.id).await.is_err() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let expected = [format!("pool {}", load.pool)];
    let mut left = guest.view()?;
    for _ in 0..100 {
        if left == expected {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        left = guest.view()?;
    }
    ensure!(left == expected, "left over in the kernel: {left:?}");
    let pool = load.client.pool_show(load.pool).await?;
    ensure!(
        pool.volumes == 0,
        "left over in the store: {} volumes",
        pool.volumes
    );
    let thin = load.client.thin_devices(load.pool).await?;
    ensure!(thin.is_empty(), "left over in the pool: {thin:?}");
    // Backstores, targets and subsystems that no host may use are in no view; what is a volume's
    // has its id in its name.
    let named = guest.site.appliance.check(
        "cd /sys/kernel/config && find target nvmet -mindepth 2 -maxdepth 3 && \
         cat /sys/block/dm-*/dm/name",
    )?;
    let orphans: Vec<_> = named
        .lines()
        .filter(|line| has_id(line) && !line.contains(&load.pool.to_string()))
        .collect();
    ensure!(orphans.is_empty(), "left over by name: {orphans:?}");
    Ok(())
}

/// Whether a UUID is in it, written in either way.
fn has_id(line: &str) -> bool {
    let hexadecimal = |word: &str| word.len() == 12 && word.bytes().all(|b| b.is_ascii_hexdigit());
    line.split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| {
            hexadecimal(word) || word.len() == 32 && word.bytes().all(|b| b.is_ascii_hexdigit())
        })
}

/// xorshift: the moments differ, the run can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
