//! Updates of the firmware: taken over the management port, written by the slot that runs, started
//! by the machine's own firmware.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use ashlar_ctl::Client;
use ashlar_ctl::transfer::{Form, Source, TransferError, install, unwatched};
use ashlar_protocol::{
    ActivateSpec, Firmware, JobResult, Problem, ProblemCode, Progress, SlotName,
};
use ashlar_site::firmware::{await_entries, entries, kernel_image, slots_started};
use ashlar_site::{Options, Parts, Site, Start};
use tokio::sync::watch;
use uuid::Uuid;

/// Other than the one that runs.
const VERSION: &str = "1000.2.3";

/// The last that a kernel says when its machine is started again in order.
const RESTARTS: &[u8] = b"reboot: Restarting system";

/// From a request to start again to a kernel that does.
const PATIENCE: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_is_started_when_it_is_whole_and_by_the_right_hand() -> anyhow::Result<()> {
    let parts = Parts::from_env()?;
    let options = Options::default();
    let mut site = Site::create(&parts, &parts.work.join("updates"), &options)?;
    site.await_management()?;
    let client = site.client("admin")?;
    let shown = client.firmware_show().await?;
    ensure!(shown.version == ashlar_image::VERSION, "{shown:?}");
    ensure!((shown.running, shown.next) == (SlotName::A, SlotName::A));
    ensure!(
        shown
            .slots
            .iter()
            .all(|slot| slot.good && slot.version.is_none())
    );

    let stranger = site.appliance.run(
        "setpriv --reuid=nobody busctl call de.pengutronix.rauc / \
         de.pengutronix.rauc.Installer GetPrimary",
    )?;
    ensure!(stranger.stderr.contains("denied"), "{stranger:?}");
    let good = bad_bundles(&parts, &client, site.folder()).await?;
    ensure!(kept(&mut site)?.is_empty(), "a bundle is kept");

    cut_off(&mut site, &client, &good).await?;
    let disk = site.folder().join("system.img");
    let begin = Instant::now();
    let done = installed(&client, &good).await.context("a whole one")?;
    ensure!(done.written == Some(fs::metadata(&good)?.len()), "{done:?}");
    println!("installed in {} s", begin.elapsed().as_secs());
    let shown = client.firmware_show().await?;
    ensure!((shown.running, shown.next) == (SlotName::A, SlotName::B));
    ensure!(b(&shown)?.1.as_deref() == Some(VERSION), "{shown:?}");
    site.appliance.cut_power()?;
    await_entries(&disk, ["ashlar-2-a+3.efi", "ashlar-3-b+3.efi"])?;
    let kernel = kernel_image(&disk, "ashlar-3-b+3.efi")?;
    let release = format!("\"Ashlar {VERSION}, slot b\"");
    let mut windows = kernel.windows(release.len());
    ensure!(windows.any(|there| there == release.as_bytes()));

    let by_firmware = Options {
        start: Start::Firmware,
        ..options
    };
    let mut site = site.again(&parts, &by_firmware)?;
    site.await_management()?;
    ensure!(slots_started(&site)? == ["b"]);
    await_entries(&disk, ["ashlar-2-a+3.efi", "ashlar-3-b+3.efi"])?;
    let client = site.client("admin")?;
    let shown = client.firmware_show().await?;
    ensure!((shown.running, shown.next) == (SlotName::B, SlotName::B));
    ensure!(shown.version == VERSION, "{shown:?}");
    let changed = format!("from {} to {VERSION}", ashlar_image::VERSION);
    let events = client.event_list().await?;
    let mut kinds = events
        .iter()
        .filter(|event| event.kind.as_str() == "system.firmware-changed");
    ensure!(
        kinds.next().and_then(|event| event.detail.as_deref()) == Some(&*changed),
        "{events:?}"
    );
    println!("slot b came up, and was confirmed");
    back(&mut site, &client).await
}

/// Each is refused for what it is, and slot a is started next. Answers a good one.
async fn bad_bundles(parts: &Parts, client: &Client, folder: &Path) -> anyhow::Result<PathBuf> {
    let built = parts.bundle(VERSION)?;
    let good = folder.join("good.raucb");
    fs::copy(&built, &good)?;
    for (signer, complaint) in [
        ("stranger", "unable to get local issuer certificate"),
        ("server", "unsuitable certificate purpose"),
    ] {
        let file = folder.join(signer);
        ashlar_image::resign(&built, &parts.updates.signer(signer), &file, &parts.cache)?;
        refused(client, &file, ProblemCode::MalformedRequest, complaint).await?;
    }
    let short = folder.join("short.raucb");
    fs::copy(&good, &short)?;
    let file = File::options().write(true).open(&short)?;
    file.set_len(file.metadata()?.len() - (1 << 20))?;
    let complaint = "Invalid bundle format";
    refused(client, &short, ProblemCode::MalformedRequest, complaint).await?;
    let damaged = folder.join("damaged.raucb");
    fs::copy(&good, &damaged)?;
    let file = File::options().write(true).open(&damaged)?;
    file.write_all_at(&[0; 64], 20 << 20)?;
    let complaint = "Input/output error";
    refused(client, &damaged, ProblemCode::KernelFailed, complaint).await?;
    ensure!(b(&client.firmware_show().await?)?.0, "slot b was touched");
    Ok(good)
}

async fn refused(
    client: &Client,
    bundle: &Path,
    code: ProblemCode,
    complaint: &str,
) -> anyhow::Result<()> {
    let problem: Problem = match installed(client, bundle).await {
        Err(TransferError::Call(error)) => error.problem().cloned().context(error)?,
        other => bail!("{}: {other:?}", bundle.display()),
    };
    ensure!(problem.code == code, "{}: {problem}", bundle.display());
    ensure!(problem.detail.contains(complaint), "{problem}");
    ensure!(client.firmware_show().await?.next == SlotName::A);
    println!("refused: {problem}");
    Ok(())
}

/// The power goes while a slot is written.
async fn cut_off(site: &mut Site, client: &Client, bundle: &Path) -> anyhow::Result<()> {
    let length = fs::metadata(bundle)?.len();
    let disk = site.folder().join("system.img");
    let before = ["ashlar-1-b+3.efi", "ashlar-2-a+3.efi"];
    ensure!(entries(&disk)? == before, "slot b was touched");
    let (sent, mut seen) = watch::channel(0);
    let tell = Arc::new(move |progress: Progress| {
        sent.send_replace(progress.done);
    });
    let job = Uuid::new_v4();
    let source = Source::open(bundle, Form::Raw)?;
    let installing = tokio::spawn({
        let client = client.under(job);
        async move { install(&client, source, tell).await }
    });
    seen.wait_for(|sent| *sent == length).await?;
    let begin = Instant::now();
    loop {
        let shown = client.job_show(job).await?;
        let done = shown.progress.unwrap_or_default().done;
        // The first 40 hundredths are checks, those to 70 the root. A kernel image would start a
        // root that it was not made with: by then there is none.
        if done >= length + length * 45 / 100 {
            println!("cut at {done} of {length} and as many");
            break;
        }
        ensure!(begin.elapsed() < PATIENCE, "{shown:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    site.appliance.cut_power()?;
    installing.abort();
    let left = entries(&disk)?;
    ensure!(left == ["ashlar-2-a+3.efi"], "{left:?}");
    site.appliance.power_on()?;
    site.await_management()?;
    let shown = client.firmware_show().await?;
    ensure!((shown.running, shown.next) == (SlotName::A, SlotName::A));
    ensure!(!b(&shown)?.0, "{shown:?}");
    let problem = client.job_show(job).await?.problem;
    let code = problem.map(|problem| problem.code);
    ensure!(code == Some(ProblemCode::Interrupted), "{code:?}");
    ensure!(kept(site)?.is_empty(), "a bundle is kept");
    Ok(())
}

/// The firmware before, by a restart that is asked for.
async fn back(site: &mut Site, client: &Client) -> anyhow::Result<()> {
    let spec = ActivateSpec { slot: SlotName::A };
    let shown = client.firmware_activate(&spec).await?;
    ensure!(shown.done().is_some_and(|shown| shown.next == SlotName::A));
    client.system_restart().await?;
    let begin = Instant::now();
    while !fs::read(site.appliance.console())?
        .windows(RESTARTS.len())
        .any(|there| there == RESTARTS)
    {
        ensure!(begin.elapsed() < PATIENCE, "it was not started again");
        sleep(Duration::from_millis(200));
    }
    // An emulated machine does not always come back from a reset.
    site.appliance.cut_power()?;
    site.appliance.power_on()?;
    site.await_management()?;
    ensure!(slots_started(site)? == ["a"]);
    let shown = client.firmware_show().await?;
    ensure!((shown.running, shown.next) == (SlotName::A, SlotName::A));
    ensure!(shown.version == ashlar_image::VERSION, "{shown:?}");
    println!("slot a came up when that was asked for");
    Ok(())
}

async fn installed(client: &Client, bundle: &Path) -> Result<JobResult, TransferError> {
    install(client, Source::open(bundle, Form::Raw)?, unwatched()).await
}

/// Whether slot b is good, and its version.
fn b(shown: &Firmware) -> anyhow::Result<(bool, Option<String>)> {
    let mut slots = shown.slots.iter();
    let slot = slots.find(|slot| slot.name == SlotName::B);
    let slot = slot.context("there is no slot b")?;
    Ok((slot.good, slot.version.clone()))
}

/// What is where the agent keeps bundles.
fn kept(site: &mut Site) -> anyhow::Result<String> {
    site.appliance.check("ls /var/lib/ashlar/update")
}
