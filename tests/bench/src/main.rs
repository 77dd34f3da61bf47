//! Measures an appliance from inside its own guest.
//!
//! Two things run one after the other on the same kernel and the same pool:
//!
//! - the **floor** ([`floor`]): the bare system calls that a volume's life takes, written out
//!   in a loop, alone and from many threads;
//! - the **product** ([`product`]): the same life through the management port, over mutual TLS.
//!
//! What counts are the ratios. Absolute times are those of one machine on one day.

mod daemons;
mod floor;
mod io;
mod product;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use ashlar_ctl::client::{Client, Endpoint, Identity};
use ashlar_targetd_protocol::Transport;
use clap::Parser;
use uuid::Uuid;

use io::{Image, Writer};
use product::VOLUME_SIZE;
use report::{Copy, Cycle, Import, Pause, Report, Scale};

/// Measures an appliance against the kernel floor. Runs on the appliance, as root.
#[derive(Parser)]
struct Arguments {
    /// Where the agent listens.
    #[arg(long, env = "ASHLAR_ENDPOINT")]
    endpoint: Endpoint,
    /// An admin's certificate.
    #[arg(long, env = "ASHLAR_CERT")]
    certificate: PathBuf,
    /// Its key.
    #[arg(long, env = "ASHLAR_KEY")]
    key: PathBuf,
    /// The authority that signed the appliance's certificate.
    #[arg(long, env = "ASHLAR_CA")]
    authority: PathBuf,
    /// An online pool to work in.
    #[arg(long)]
    pool: Uuid,
    /// Volumes per serial measurement.
    #[arg(long, default_value_t = 12)]
    cycles: u32,
    /// Volumes in flight in the concurrent measurement.
    #[arg(long, default_value_t = 32)]
    in_flight: u32,
    /// Volumes present in the large measurement.
    #[arg(long, default_value_t = 2000)]
    many: u32,
    /// Members of the group that snapshots are taken of.
    #[arg(long, default_value_t = 32)]
    members: u32,
    /// A folder for an image, in memory so that no disk is read while it is written.
    #[arg(long)]
    folder: PathBuf,
    /// Size of the image in MiB; a tenth of it is data.
    #[arg(long, default_value_t = 8192)]
    image: u64,
}

/// Volumes present in the small measurement.
const FEW: u32 = 10;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let identity =
        Identity::from_files(&arguments.certificate, &arguments.key, &arguments.authority)?;
    let client =
        Client::new(arguments.endpoint.clone(), &identity).waiting(Duration::from_secs(60));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(measure(&arguments, &client))?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

async fn measure(arguments: &Arguments, client: &Client) -> anyhow::Result<Report> {
    let idle = daemons::memory().context("reading the daemons' memory")?;
    let bench = product::Bench::prepare(client, arguments.pool).await?;
    let mut cycles = Vec::new();
    for transport in [Transport::Iscsi, Transport::NvmeTcp] {
        cycles.push(compare(arguments, &bench, transport).await?);
    }
    let copies = copies(arguments, &bench).await?;
    let pause = pause(arguments, &bench).await?;
    let import = imported(arguments, &bench).await?;
    let scale = scale(arguments, &bench).await?;
    bench.finish().await?;
    Ok(Report {
        kernel: daemons::kernel()?,
        in_flight: arguments.in_flight,
        cycles,
        copies,
        import,
        pause,
        memory_idle: idle,
        binaries: daemons::binaries()?,
        scale,
    })
}

/// Floor and product by turns, so that a slow minute of the machine hits both.
async fn compare(
    arguments: &Arguments,
    bench: &product::Bench,
    transport: Transport,
) -> anyhow::Result<Cycle> {
    let floor = floor::Floor::open(arguments.pool, transport)?;
    let (mut floor_serial, mut serial) = (Duration::ZERO, Duration::ZERO);
    // One of each first, so that nothing is measured for the first time.
    floor.serial(1)?;
    bench.serial(transport, 1).await?;
    for _ in 0..arguments.cycles {
        floor_serial += floor.serial(1)?;
        serial += bench.serial(transport, 1).await?;
    }
    let rounds = 3;
    let (mut floor_together, mut together) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..rounds {
        floor_together += floor.together(arguments.in_flight)?;
        together += bench.together(transport, arguments.in_flight).await?;
    }
    floor.close()?;
    let per_volume =
        |total: Duration, volumes: u32| total.as_secs_f64() * 1000.0 / f64::from(volumes);
    Ok(Cycle::new(
        transport,
        per_volume(floor_serial, arguments.cycles),
        per_volume(serial, arguments.cycles),
        per_volume(floor_together, rounds * arguments.in_flight),
        per_volume(together, rounds * arguments.in_flight),
    ))
}

/// Snapshots, clones and reverts, by turns with the bare calls.
async fn copies(arguments: &Arguments, bench: &product::Bench) -> anyhow::Result<Vec<Copy>> {
    let floor = floor::Floor::open(arguments.pool, Transport::Iscsi)?;
    let mut bare = floor.original(VOLUME_SIZE)?;
    let original = bench.original().await?;
    let (mut floor_snapshots, mut snapshots) = (Duration::ZERO, Duration::ZERO);
    let (mut floor_reverts, mut reverts) = (Duration::ZERO, Duration::ZERO);
    let (mut floor_clones, mut clones) = (Duration::ZERO, Duration::ZERO);
    let kept = bare.keep()?;
    bare.snapshot()?;
    original.snapshot().await?;
    for _ in 0..arguments.cycles {
        floor_snapshots += bare.snapshot()?;
        snapshots += original.snapshot().await?;
        floor_clones += bare.copy_of(kept)?;
        clones += original.clone_of_it().await?;
        floor_reverts += bare.revert()?;
        reverts += original.revert().await?;
    }
    original.remove().await?;
    bare.drop_kept(kept)?;
    bare.remove()?;
    floor.close()?;
    let each = |total: Duration| total.as_secs_f64() * 1000.0 / f64::from(arguments.cycles);
    Ok(vec![
        Copy::new("snapshot", each(floor_snapshots), each(snapshots)),
        Copy::new("clone", each(floor_clones), each(clones)),
        Copy::new("revert", each(floor_reverts), each(reverts)),
    ])
}

/// How long a group's snapshot holds writes up, by turns with the bare calls.
async fn pause(arguments: &Arguments, bench: &product::Bench) -> anyhow::Result<Pause> {
    let rounds = 5;
    let floor = floor::Floor::open(arguments.pool, Transport::Iscsi)?;
    let bare: Vec<_> = (0..arguments.members)
        .map(|_| floor.original(VOLUME_SIZE))
        .collect::<anyhow::Result<_>>()?;
    let bare_nodes: Vec<_> = bare.iter().map(|one| one.node().to_owned()).collect();
    let group = bench.group(arguments.members).await?;
    let volumes = group.volumes().iter();
    let nodes: Vec<_> = volumes
        .map(|volume| floor.node_of(*volume))
        .collect::<anyhow::Result<_>>()?;
    let (mut floor_pauses, mut pauses) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..rounds {
        let writer = Writer::start(&bare_nodes)?;
        floor.instant(&bare)?;
        floor_pauses += writer.longest()?;
        let writer = Writer::start(&nodes)?;
        group.instant().await?;
        pauses += writer.longest()?;
    }
    group.remove().await?;
    bare.into_iter().try_for_each(floor::Original::remove)?;
    floor.close()?;
    let each = |total: Duration| total.as_secs_f64() * 1000.0 / f64::from(rounds);
    let (floor, product) = (each(floor_pauses), each(pauses));
    Ok(Pause::new(arguments.members, floor, product))
}

/// A sparse image imported, beside its data written by itself.
async fn imported(arguments: &Arguments, bench: &product::Bench) -> anyhow::Result<Import> {
    let image = Image::create(&arguments.folder, arguments.image << 20)?;
    let floor = floor::Floor::open(arguments.pool, Transport::Iscsi)?;
    let bare = floor.original(image.size())?;
    let written = image.write_to(bare.node())?;
    bare.remove()?;
    floor.close()?;
    let imported = bench.import(image.path(), image.size()).await?;
    let peak = daemons::memory_peak()?;
    Ok(Import::new(&image, written, imported, peak))
}

/// The same cycle with few and with many volumes present, none of them connected; each time by
/// turns with the bare calls, so that what a slow minute costs counts for neither.
async fn scale(arguments: &Arguments, bench: &product::Bench) -> anyhow::Result<Scale> {
    let few = bench.fill(FEW).await?;
    let with_few = by_turns(arguments, bench).await?;
    let many = bench.fill(arguments.many.saturating_sub(FEW)).await?;
    let with_many = by_turns(arguments, bench).await?;
    let memory = daemons::memory()?;
    bench.clear(few.into_iter().chain(many).collect()).await?;
    Ok(Scale::new(FEW, arguments.many, with_few, with_many, memory))
}

/// Milliseconds of the bare calls and of the product for a volume's cycle.
async fn by_turns(arguments: &Arguments, bench: &product::Bench) -> anyhow::Result<(f64, f64)> {
    let floor = floor::Floor::open(arguments.pool, Transport::Iscsi)?;
    let (mut bare, mut product) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..arguments.cycles {
        bare += floor.serial(1)?;
        product += bench.serial(Transport::Iscsi, 1).await?;
    }
    floor.close()?;
    let each = |total: Duration| total.as_secs_f64() * 1000.0 / f64::from(arguments.cycles);
    Ok((each(bare), each(product)))
}
