//! The box as it is flashed, started by its machine's own firmware.

use std::time::Instant;

use anyhow::{Context, ensure};
use ashlar_image::{Again, Slot, again};
use ashlar_protocol::{PoolSpec, PoolState};
use ashlar_site::firmware::{await_entries, damage, slots_started};
use ashlar_site::{Options, Parts, Site, Start};
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_slot_gives_way_to_the_other() -> anyhow::Result<()> {
    let parts = Parts::from_env()?;
    let options = Options {
        start: Start::Firmware,
        ..Options::default()
    };
    let mut site = Site::create(&parts, &parts.work.join("firmware"), &options)?;
    let disk = site.folder().join("system.img");
    await_entries(&disk, ["ashlar-1-b+3.efi", "ashlar-2-a+2-1.efi"])?;
    site.await_management()?;
    ensure!(slots_started(&site)? == ["a"]);
    await_entries(&disk, ["ashlar-1-b+3.efi", "ashlar-2-a+3.efi"])?;
    println!("slot a came up, was counted, and then confirmed");

    let pool = Uuid::new_v4();
    let spec = PoolSpec::on(
        "tank".parse()?,
        vec!["serial-DISK0".parse()?, "serial-DISK1".parse()?],
    );
    let made = site.client("admin")?.pool_create(pool, &spec).await?;
    made.done().context("the pool was only accepted")?;

    site.appliance.cut_power()?;
    damage(&disk, Slot::A, &parts.appliance.cmdline)?;
    let begin = Instant::now();
    site.appliance.power_on()?;
    await_entries(&disk, ["ashlar-1-b+2-1.efi", "ashlar-2-a+0-3.efi"])?;
    site.await_management()?;
    println!("served by slot b after {} s", begin.elapsed().as_secs());
    // The counts say how often. A kernel that dies before it gets to its slot, as an emulated one
    // may, has used up a try all the same.
    let mut started = slots_started(&site)?;
    ensure!(started.pop().as_deref() == Some("b"), "after {started:?}");
    ensure!(started.iter().all(|slot| slot == "a"), "{started:?}, b");
    ensure!((1..=3).contains(&started.len()), "{started:?}, b");
    await_entries(&disk, ["ashlar-1-b+3.efi", "ashlar-2-a+0-3.efi"])?;
    let pool = site.client("admin")?.pool_show(pool).await?;
    ensure!(
        pool.state == PoolState::Online,
        "the pool is {:?}",
        pool.state
    );
    println!("slot b was confirmed, slot a is out, and the pool is there");
    Ok(())
}

/// From the same trees of packages: that these are the same is for `cargo xtask image --twice` to show,
/// which takes minutes.
#[test]
fn a_second_build_has_the_same_bytes() -> anyhow::Result<()> {
    let parts = Parts::from_env()?;
    let begin = Instant::now();
    let inputs = Parts::inputs(&parts.programs, &parts.cache, Some(&parts.updates));
    let differing = again(&inputs, Again::FromTrees)?;
    ensure!(
        differing.is_empty(),
        "it differs in {}",
        differing.join("; ")
    );
    println!("built again in {} s, the same", begin.elapsed().as_secs());
    Ok(())
}
