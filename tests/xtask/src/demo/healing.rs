//! A disk goes, and another takes its place.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ashlar_protocol::{DiskId, MemberState, Pool, ScrubMode, ScrubSpec};
use ashlar_site::Writer;
use ashlar_site::disks::{all_in_sync, rests};
use uuid::Uuid;

use super::{Attached, Demo, WRITTEN, tell};

/// How long an emulated machine may take to copy a disk.
const LIMIT: Duration = Duration::from_secs(600);
/// So many more show that the initiator goes on.
const WRITES: u64 = 4;

impl Demo {
    pub(super) fn heal(&mut self, pool: Uuid, attached: &Attached) -> anyhow::Result<()> {
        let whole = self.becomes(pool, all_in_sync)?;
        let [_, gone] = whole.disks.as_slice() else {
            anyhow::bail!("the pool has {} disks", whole.disks.len());
        };
        let spare = whole.spares.first().context("the pool has no spare")?;
        let mut initiator = self.initiator()?;
        let writer = Writer::start(&mut initiator, "alpha", &attached.device, WRITTEN)?;
        tell("the initiator writes to alpha, block after block");

        let serial = serial(gone)?;
        self.site.appliance.pull(serial)?;
        let pulled = Instant::now();
        self.becomes(pool, |pool| {
            state_of(pool, gone) == Some(MemberState::Missing)
        })?;
        tell(&format!("{gone} was pulled out; the pool says so"));
        writer.goes_on(&mut self.initiator()?, WRITES)?;
        tell("the initiator writes on");

        self.becomes(pool, |pool| state_of(pool, spare).is_some())?;
        tell(&format!(
            "{spare} took its place by itself, {} s after it had gone",
            pulled.elapsed().as_secs()
        ));
        self.becomes(pool, all_in_sync)?;
        tell("it has everything now");
        self.compare(pool)?;

        let mut initiator = self.initiator()?;
        let (writes, longest) = writer.stop(&mut initiator)?;
        writer.whole(&mut initiator, &attached.device)?;
        tell(&format!(
            "{writes} writes, each of them there, the longest of {} ms",
            longest.as_millis()
        ));
        self.verify(attached)
    }

    /// Both disks have the same.
    fn compare(&self, pool: Uuid) -> anyhow::Result<()> {
        let spec = ScrubSpec {
            mode: ScrubMode::Check,
        };
        self.wait(self.client.pool_scrub(pool, &spec))?;
        let compared = self.becomes(pool, rests)?;
        let differing: u64 = compared.sets.iter().map(|set| set.mismatches).sum();
        ensure!(differing == 0, "{differing} places differ");
        tell("both disks were read and compared: no difference");
        Ok(())
    }

    fn becomes(&self, pool: Uuid, is_so: impl Fn(&Pool) -> bool) -> anyhow::Result<Pool> {
        let since = Instant::now();
        loop {
            let pool = self.runtime.block_on(self.client.pool_show(pool))?;
            if is_so(&pool) {
                return Ok(pool);
            }
            ensure!(since.elapsed() < LIMIT, "it stays {pool:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// The machine knows its disks by that.
fn serial(disk: &DiskId) -> anyhow::Result<&str> {
    let disk = disk.as_str();
    disk.strip_prefix("serial-")
        .with_context(|| format!("{disk} has no serial number"))
}

fn state_of(pool: &Pool, disk: &DiskId) -> Option<MemberState> {
    let place = pool.disks.iter().position(|of| of == disk)?;
    pool.members.get(place).map(|member| member.state)
}
