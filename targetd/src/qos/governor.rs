//! The thread that divides totals between reads and writes, by what devices are seen to do.
//!
//! It runs while there is anything to divide. Should this process end, the limits stay as they
//! are, and the total is still held.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use ashlar_kernel_iface::blkio::Throttles;
use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_kernel_iface::tree::Errno;
use ashlar_targetd_protocol::{IoCounters, IoTotals, Rate};

use super::limiter::{Inner, State};
use super::share::Use;
use super::throttles::pairs;

/// Who begins to read while others only write waits this long for a fair share.
const PERIOD: Duration = Duration::from_millis(250);
/// Two files are read and a few numbers compared.
const STACK: usize = 128 << 10;

/// Starts the thread; answers whether it runs.
pub(super) fn start(inner: &Arc<Inner>) -> bool {
    let inner = Arc::downgrade(inner);
    let builder = thread::Builder::new()
        .name("governor".to_owned())
        .stack_size(STACK);
    match builder.spawn(move || run(&inner)) {
        Ok(_) => true,
        Err(error) => {
            tracing::error!(%error, "failed to start the thread that divides totals");
            false
        }
    }
}

fn run(inner: &Weak<Inner>) {
    loop {
        thread::sleep(PERIOD);
        let Some(inner) = inner.upgrade() else { return };
        look(&inner, Instant::now());
        let mut state = inner.lock();
        if state.governed.is_empty() {
            state.running = false;
            return;
        }
    }
}

/// Looks at each device once and divides its total anew.
pub(super) fn look(inner: &Inner, now: Instant) {
    let devices: Vec<DeviceNumber> = inner.lock().governed.keys().copied().collect();
    for device in devices {
        match inner.kernel.disks.counters(device) {
            Ok(counters) => divide(inner, device, now, counters),
            Err(error) => {
                tracing::debug!(%device, %error, "a limited device has gone");
                inner.lock().governed.remove(&device);
            }
        }
    }
}

fn divide(inner: &Inner, device: DeviceNumber, now: Instant, counters: IoCounters) {
    let mut state = inner.lock();
    let present = state.throttles(device);
    // An apply may have changed its mind meanwhile.
    let Some(governed) = state.governed.get_mut(&device) else {
        return;
    };
    let Some((then, before)) = governed.seen.replace((now, counters)) else {
        return;
    };
    let mut wanted = present.clone();
    for (index, pair) in pairs(&governed.qos).into_iter().enumerate() {
        let (Rate::Total(total), Some(share)) = (pair.rate, pair.share(&present)) else {
            continue;
        };
        let passed = now.duration_since(then);
        let reads = kind(index, before.reads, counters.reads);
        let writes = kind(index, before.writes, counters.writes);
        let used = &mut governed.used[index];
        *used = (
            smoothed(used.0, a_second(reads.done, passed)),
            smoothed(used.1, a_second(writes.done, passed)),
        );
        let seen = |done: u64, moved: Use| Use {
            done,
            grain: a_second(moved.grain, passed),
        };
        let next = share.next(total, seen(used.0, reads), seen(used.1, writes));
        wanted.insert(pair.read, next.read);
        wanted.insert(pair.write, next.write);
    }
    set(inner, &mut state, device, &present, &wanted);
}

fn set(
    inner: &Inner,
    state: &mut State,
    device: DeviceNumber,
    present: &Throttles,
    wanted: &Throttles,
) {
    match inner.set(state, device, present, wanted) {
        Ok(_) => {}
        Err(error) if error.errno() == Some(Errno::ENODEV) => state.forget(device),
        // The next look tries again; until then the total is held as it was.
        Err(error) => tracing::warn!(%device, %error, "failed to divide a total"),
    }
}

/// What was done between two looks, of the kind of limit at `index` in [`pairs`], and what one
/// operation amounts to.
fn kind(index: usize, before: IoTotals, after: IoTotals) -> Use {
    let operations = after.operations.saturating_sub(before.operations);
    let bytes = after.bytes.0.saturating_sub(before.bytes.0);
    match index {
        0 => Use {
            done: operations,
            grain: 1,
        },
        _ => Use {
            done: bytes,
            grain: bytes / operations.max(1),
        },
    }
}

fn a_second(amount: u64, passed: Duration) -> u64 {
    let micros = passed.as_micros().max(1);
    let amount = u128::from(amount) * 1_000_000 / micros;
    u64::try_from(amount).unwrap_or(u64::MAX)
}

/// Half of what was and half of what is: one large operation is not a rush.
fn smoothed(before: u64, now: u64) -> u64 {
    before / 2 + now / 2 + (before & now & 1)
}
