//! Killed daemons and cut power under load: nothing acknowledged is lost, nothing is left over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ashlar_ctl::{CallError, Change, Client};
use ashlar_guest_tests::Guest;
use ashlar_protocol::{
    Connected, ConnectionSpec, HostSecrets, HostSpec, PoolSpec, ProblemCode, Transport, VolumeSpec,
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

/// How long clients may take until they were told enough for an accident.
const BUSY_WITHIN: Duration = Duration::from_secs(120);

/// What clients were told, and so may count on.
#[derive(Default)]
struct Told {
    /// Volumes by what they are connected over.
    volumes: BTreeMap<Uuid, Option<Transport>>,
}

impl Told {
    /// Whether there is something to lose.
    fn is_much(&self) -> bool {
        let connected = self.volumes.values().flatten().count();
        self.volumes.len() >= WORKERS && connected >= 2
    }
}

struct Load {
    client: Client,
    pool: Uuid,
    host: Uuid,
    told: Mutex<Told>,
    stop: AtomicBool,
}

/// A volume that is there through all of it.
struct Standing {
    id: Uuid,
    /// Of what was written to it.
    hash: String,
    /// All that the kernel has when there is nothing else.
    view: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_is_left_over() -> anyhow::Result<()> {
    let mut guest = Guest::boot_parallel("crash", false)?;
    let client = guest.site.client("admin")?.waiting(Duration::from_secs(60));
    let (pool, host) = prepare(&client).await?;
    let standing = stand(&mut guest, &client, pool, host).await?;
    let seed = std::time::UNIX_EPOCH.elapsed()?.as_nanos() as u64 | 1;
    println!("seed {seed}");
    let mut random = Random(seed);
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
        let begin = Instant::now();
        while !load.told.lock().await.is_much() {
            ensure!(begin.elapsed() < BUSY_WITHIN, "clients are told too little");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.next() % 2500)).await;
        let what = if round % 3 == 2 {
            tokio::task::block_in_place(|| guest.power_cycle())?;
            "power"
        } else {
            let unit =
                ["ashlar-agent.service", "ashlar-targetd.service"][random.next() as usize % 2];
            guest.kill(unit)?;
            unit
        };
        load.stop.store(true, Ordering::Relaxed);
        while let Some(worker) = workers.join_next().await {
            worker?;
        }
        guest.site.await_management()?;
        let kept = verify(&mut guest, &load, &standing)
            .await
            .with_context(|| format!("round {round}, {what}"))?;
        println!("round {round}: {what} lost; {kept} acknowledged volumes, all there");
        settle(&mut guest, &load, &standing)
            .await
            .with_context(|| format!("round {round}, {what}"))?;
    }
    a_full_state_disk_is_told_and_survived(&mut guest, &client, pool).await
}

/// Changes are refused with the reason, what is there is shown; and once there is room all goes on.
async fn a_full_state_disk_is_told_and_survived(
    guest: &mut Guest,
    client: &Client,
    pool: Uuid,
) -> anyhow::Result<()> {
    println!("the state disk is full");
    let filler = "/var/lib/ashlar/filler";
    guest.site.appliance.check(&format!(
        "dd if=/dev/zero of={filler} bs=64k status=none 2> /dev/null; sync; [ -s {filler} ]"
    ))?;
    let spec = VolumeSpec::blank("late".parse()?, pool, 16 << 20);
    let id = Uuid::new_v4();
    let refused = client.volume_create(id, &spec).await.err();
    let refused = refused.context("it was made")?;
    let code = refused.problem().map(|problem| problem.code);
    ensure!(code == Some(ProblemCode::StateDiskFull), "{refused}");
    let volumes = client.volume_list().await?.len();
    ensure!(volumes == 1, "{volumes} volumes are shown");
    guest.site.appliance.check(&format!("rm {filler}"))?;
    persist(client, || client.volume_create(id, &spec)).await?;
    persist(client, || client.volume_delete(id)).await?;
    Ok(())
}

async fn prepare(client: &Client) -> anyhow::Result<(Uuid, Uuid)> {
    let (pool, host) = (Uuid::new_v4(), Uuid::new_v4());
    let spec = PoolSpec::on(
        "tank".parse()?,
        vec!["serial-DISK0".parse()?, "serial-DISK1".parse()?],
    );
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

/// Makes a volume, connects and fills it.
async fn stand(
    guest: &mut Guest,
    client: &Client,
    pool: Uuid,
    host: Uuid,
) -> anyhow::Result<Standing> {
    let id = Uuid::new_v4();
    let spec = VolumeSpec::blank("standing".parse()?, pool, 16 << 20);
    let made = client.volume_create(id, &spec).await?;
    made.done().context("volume")?;
    let spec = ConnectionSpec {
        of: Connected::Volume(id),
        host,
        transport: Transport::NvmeTcp,
        access: Default::default(),
    };
    let made = client.connection_create(Uuid::new_v4(), &spec).await?;
    made.done().context("connection")?;
    let device = device(guest, id)?;
    guest.site.appliance.check(&format!(
        "dd if=/dev/urandom of={device} bs=1M count=16 iflag=fullblock oflag=direct conv=fsync \
         status=none"
    ))?;
    Ok(Standing {
        id,
        hash: hash(guest, id)?,
        view: guest.view()?,
    })
}

/// The device of a volume that is connected.
fn device(guest: &mut Guest, id: Uuid) -> anyhow::Result<String> {
    let name = guest
        .site
        .appliance
        .check(&format!("grep -l {id} /sys/block/dm-*/dm/name"))?;
    let device = name.trim().split('/').nth(3).context("no device")?;
    Ok(format!("/dev/{device}"))
}

fn hash(guest: &mut Guest, id: Uuid) -> anyhow::Result<String> {
    let device = device(guest, id)?;
    guest.site.appliance.check(&format!(
        "dd if={device} bs=1M iflag=direct status=none | sha256sum"
    ))
}

impl Load {
    /// Makes, attaches, detaches and deletes volumes until told to stop. What fails was not
    /// acknowledged, and its volume is forgotten: it may be there or not.
    async fn work(self: Arc<Self>) {
        let mut turn = 0;
        while !self.stop.load(Ordering::Relaxed) {
            turn += 1;
            let id = Uuid::new_v4();
            if self.life(id, turn % 3).await.is_none() {
                // Nobody is there who would answer.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    async fn life(&self, id: Uuid, kind: u32) -> Option<()> {
        let spec = VolumeSpec::blank("crash".parse().ok()?, self.pool, 16 << 20);
        acknowledged(self.client.volume_create(id, &spec).await)?;
        self.tell(id, Some(None)).await;
        let connection = Uuid::new_v4();
        if kind != 0 {
            let transport = match kind {
                1 => Transport::Iscsi,
                _ => Transport::NvmeTcp,
            };
            let spec = ConnectionSpec {
                of: Connected::Volume(id),
                host: self.host,
                transport,
                access: Default::default(),
            };
            self.tell(id, None).await;
            acknowledged(self.client.connection_create(connection, &spec).await)?;
            self.tell(id, Some(Some(transport))).await;
        }
        if kind == 2 {
            self.tell(id, None).await;
            acknowledged(self.client.connection_delete(connection).await)?;
            acknowledged(self.client.volume_delete(id).await)?;
        }
        Some(())
    }

    /// Notes what is certain of a volume; `None` while a change is under way.
    async fn tell(&self, id: Uuid, connected: Option<Option<Transport>>) {
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

/// Everything acknowledged is there, in the store and in the kernel, and what was written.
async fn verify(guest: &mut Guest, load: &Load, standing: &Standing) -> anyhow::Result<usize> {
    let told = load.told.lock().await;
    let exports = told.volumes.iter().filter_map(|(id, over)| match over {
        Some(Transport::Iscsi) => Some(format!("iscsi {id} ")),
        Some(_) => Some(format!("nvme {id} ")),
        None => None,
    });
    let mut lacking: Vec<String> = exports.collect();
    let begin = Instant::now();
    while !lacking.is_empty() {
        ensure!(begin.elapsed() < PATIENCE, "not served: {lacking:?}");
        let view = guest.view()?;
        lacking.retain(|export| !view.iter().any(|line| line.starts_with(export)));
    }
    ensure!(hash(guest, standing.id)? == standing.hash, "data were lost");
    for (id, connected) in &told.volumes {
        let volume = load
            .client
            .volume_show(*id)
            .await
            .with_context(|| format!("volume {id}"))?;
        ensure!(
            (volume.connections > 0) == connected.is_some(),
            "volume {id}: acknowledged connected: {connected:?}, has {}",
            volume.connections
        );
    }
    Ok(told.volumes.len())
}

/// After all other volumes are deleted through the front door, the kernel has only what it had at
/// first: whatever else there were would be an orphan.
async fn settle(guest: &mut Guest, load: &Load, standing: &Standing) -> anyhow::Result<()> {
    let volumes = load.client.volume_list().await?;
    for volume in volumes.iter().filter(|volume| volume.id != standing.id) {
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
    let expected = &standing.view;
    let mut left = guest.view()?;
    for _ in 0..100 {
        if left == *expected {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        left = guest.view()?;
    }
    ensure!(left == *expected, "left over in the kernel: {left:?}");
    let pool = load.client.pool_show(load.pool).await?;
    ensure!(
        pool.volumes == 1,
        "left over in the store: {} volumes",
        pool.volumes
    );
    let thin = load.client.thin_devices(load.pool).await?;
    ensure!(thin.len() == 1, "left over in the pool: {thin:?}");
    // Backstores, targets and subsystems that no host may use are in no view; what is a volume's
    // has its id in its name.
    let named = guest.site.appliance.check(
        "cd /sys/kernel/config && find target nvmet -mindepth 2 -maxdepth 3 && \
         cat /sys/block/dm-*/dm/name",
    )?;
    let known = [load.pool, standing.id].map(|id| [id.to_string(), id.simple().to_string()]);
    let known: Vec<String> = known.into_iter().flatten().collect();
    let orphans: Vec<_> = named
        .lines()
        .filter(|line| has_id(line) && !known.iter().any(|id| line.contains(id)))
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

/// xorshift: the moments differ, and those of a run are found again by its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
