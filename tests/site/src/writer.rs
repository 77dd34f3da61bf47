//! A program in the initiator guest that writes to a device all the time, and what became of each
//! write.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::initiator::{Device, Initiator};

/// Blocks that it goes round in, each in a block of the pool of its own.
pub const ROUND: u64 = 32;
/// A host gives up after 30 s.
const PATIENCE: Duration = Duration::from_secs(25);

/// Writes 1, 2, 3, … to one block after the other, and notes the last that is on the device and
/// the longest that one took, in hundredths of a second. An emulated machine takes long to start a
/// program: there are few for each write, and a pause, so that others get on.
const PROGRAM: &str = r#"#!/bin/sh
device=$1 name=$2 first=$3 round=$4 n=0 longest=0
now() {
    read -r up _ < /proc/uptime
    now=${up%.*}${up#*.}
}
rm -f "$name.stop" "$name.failed"
while [ ! -e "$name.stop" ]; do
    n=$((n + 1))
    now; begin=$now
    printf '%-4096s' $n | dd of="$device" bs=4096 count=1 seek=$((first + n % round * 16)) \
        iflag=fullblock oflag=direct conv=notrunc 2>/dev/null || echo $n >> "$name.failed"
    now; took=$((now - begin))
    [ $took -gt $longest ] && longest=$took
    echo "$n $longest" > "$name.new" && mv "$name.new" "$name.last"
    sleep 0.1
done
touch "$name.done"
"#;

/// It, while it runs and afterwards.
#[derive(Debug)]
pub struct Writer {
    name: String,
    /// Its first block of 4 KiB.
    first: u64,
}

impl Writer {
    /// Has it begin behind so many MiB of the device, and go round once.
    ///
    /// # Errors
    /// When it cannot be started; likewise below.
    pub fn start(
        host: &mut Initiator<'_>,
        name: &str,
        device: &Device,
        behind: u32,
    ) -> anyhow::Result<Writer> {
        let writer = Writer {
            name: format!("/run/writer-{name}"),
            first: u64::from(behind) << (20 - 12),
        };
        let (node, name, first) = (device.node(), &writer.name, writer.first);
        host.check(&format!("cat > /run/writer <<'END'\n{PROGRAM}END"))?;
        host.check(&format!(
            "setsid sh /run/writer {node} {name} {first} {ROUND} < /dev/null > /dev/null 2>&1 &"
        ))?;
        while writer.last(host)?.0 < ROUND {}
        Ok(writer)
    }

    /// The last number that is on the device, and the longest that one took.
    pub fn last(&self, host: &mut Initiator<'_>) -> anyhow::Result<(u64, Duration)> {
        let command = format!("cat {}.last 2>/dev/null || echo 0 0; sleep 0.2", self.name);
        let text = host.check(&command)?;
        let (last, longest) = text.trim().split_once(' ').context("no numbers")?;
        let longest: u64 = longest.parse()?;
        Ok((last.parse()?, Duration::from_millis(longest * 10)))
    }

    /// Waits until so many more are on the device.
    pub fn goes_on(&self, host: &mut Initiator<'_>, writes: u64) -> anyhow::Result<()> {
        let (before, _) = self.last(host)?;
        while self.last(host)?.0 < before + writes {}
        Ok(())
    }

    /// Has it write no more; every write succeeded, and none took so long that a host gives up.
    /// The number of writes, and the longest that one took.
    pub fn stop(&self, host: &mut Initiator<'_>) -> anyhow::Result<(u64, Duration)> {
        let name = &self.name;
        host.check(&format!(
            "touch {name}.stop; while [ ! -e {name}.done ]; do sleep 0.1; done"
        ))?;
        host.check(&format!("[ ! -e {name}.failed ]"))
            .context("a write failed")?;
        let (last, longest) = self.last(host)?;
        ensure!(longest < PATIENCE, "a write took {longest:?}");
        Ok((last, longest))
    }

    /// Each block has the last number that was written to it.
    pub fn whole(&self, host: &mut Initiator<'_>, device: &Device) -> anyhow::Result<()> {
        let (last, _) = self.last(host)?;
        let (node, first) = (device.node(), self.first);
        let text = host.check(&format!(
            "for i in $(seq 0 {}); do dd if={node} bs=4096 count=1 skip=$(({first} + i * 16)) \
             iflag=direct 2>/dev/null | tr -d ' \\000'; echo; done",
            ROUND - 1
        ))?;
        let found = text.lines().map(|line| line.trim().parse::<u64>());
        let found: Vec<u64> = found.collect::<Result<_, _>>().context("no numbers")?;
        let newest = |block: u64| last - (last + ROUND - block) % ROUND;
        let expected: Vec<u64> = (0..ROUND).map(newest).collect();
        ensure!(
            found == expected,
            "{}: {found:?}, not {expected:?}",
            self.name
        );
        Ok(())
    }
}
