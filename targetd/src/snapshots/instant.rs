//! Several snapshots at one instant: all, or none.
//!
//! While all origins rest, the thin devices are made in their order, and whatever has to be
//! unmade is unmade in the reverse order. The pool commits each of these before it answers. So at
//! any moment, a power cut included, those which exist are the first few; and if the last exists,
//! all do, from one attempt that came to its end.

use std::thread;

use ashlar_kernel_iface::dm::{DmName, PoolMessage, SuspendFlags};
use ashlar_kernel_iface::tree::{Change, Errno};

use super::step::Shot;
use crate::kernel::{Kernel, KernelError};
use crate::ours::{self, PoolPart};
use crate::thin;

/// Devices are brought to rest by this many threads, as nearly all of it is waiting. They are let
/// go on one after the other: that does not wait, and threads would only be in each other's way.
const AT_ONCE: usize = 32;
/// None of them calls anything deep.
const STACK: usize = 128 << 10;

/// Why not all snapshots exist.
struct Broken {
    /// How many were made before, of the first.
    made: usize,
    cause: KernelError,
}

/// Takes all snapshots while all of `resting` rest. Whatever comes of it, they all go on; and
/// unless all snapshots exist, what was made goes, as far as it can.
pub(super) fn take(
    kernel: &Kernel,
    shots: &[Shot],
    resting: &[DmName],
) -> Result<Change, KernelError> {
    let rested = each(kernel, resting, |device| {
        kernel.dm.suspend(device, SuspendFlags::NO_FLUSH)
    });
    let all_rest = rested.iter().all(Result::is_ok);
    let taken = all_rest.then(|| create_all(kernel, shots));
    let both = resting.iter().zip(&rested);
    let at_rest = both.filter(|(_, rested)| rested.is_ok());
    let at_rest = at_rest.map(|(device, _)| device);
    let resumed: Vec<_> = at_rest.map(|device| thin::resume(kernel, device)).collect();
    if let Some(Err(Broken { made, .. })) = &taken {
        // What stays in spite of this is found by the next attempt. The first error is the one
        // to tell.
        let _ = delete_all(kernel, &shots[..*made]);
    }
    rested.into_iter().try_for_each(|rested| rested.map(drop))?;
    let taken = taken.unwrap_or(Ok(Change::Unchanged));
    let change = taken.map_err(|broken| broken.cause)?;
    resumed.into_iter().collect::<Result<(), KernelError>>()?;
    Ok(change)
}

fn create_all(kernel: &Kernel, shots: &[Shot]) -> Result<Change, Broken> {
    let untouched = |cause| Broken { made: 0, cause };
    let Some((first, last)) = shots.first().zip(shots.last()) else {
        return Ok(Change::Unchanged);
    };
    match create(kernel, first) {
        Ok(()) => create_rest(kernel, shots, 1),
        Err(error) if error.errno() == Some(Errno::EEXIST) => {
            if shots.len() == 1 || exists(kernel, last).map_err(untouched)? {
                return Ok(Change::Unchanged);
            }
            // An attempt that was cut short, at another instant.
            delete_all(kernel, shots).map_err(untouched)?;
            create_rest(kernel, shots, 0)
        }
        Err(error) => Err(untouched(error)),
    }
}

/// Makes those after the first `made`.
fn create_rest(kernel: &Kernel, shots: &[Shot], made: usize) -> Result<Change, Broken> {
    for (made, shot) in shots.iter().enumerate().skip(made) {
        create(kernel, shot).map_err(|cause| Broken { made, cause })?;
    }
    Ok(Change::Changed)
}

fn create(kernel: &Kernel, shot: &Shot) -> Result<(), KernelError> {
    let Shot { pool, id, of } = *shot;
    let message = PoolMessage::CreateSnapshot { id, origin: of };
    let pool = ours::pool_device(pool, PoolPart::Thin);
    Ok(kernel.dm.message(&pool, &message)?)
}

/// Asks for a snapshot of what is to be known of as itself. The pool looks for the new one first
/// and for the origin then, so it makes nothing, and says which of them stopped it.
fn exists(kernel: &Kernel, shot: &Shot) -> Result<bool, KernelError> {
    let itself = Shot {
        of: shot.id,
        ..*shot
    };
    match create(kernel, &itself) {
        Err(error) if error.errno() == Some(Errno::ENODATA) => Ok(false),
        Err(error) if error.errno() == Some(Errno::EEXIST) => Ok(true),
        outcome => outcome.map(|()| true),
    }
}

/// The last to be made is the first to go.
fn delete_all(kernel: &Kernel, shots: &[Shot]) -> Result<(), KernelError> {
    for shot in shots.iter().rev() {
        let message = PoolMessage::Delete(shot.id);
        let _ = thin::tell(kernel, shot.pool, &message, Errno::ENODATA)?;
    }
    Ok(())
}

/// Does something to each device, several at once where that is allowed, and answers in their
/// order.
fn each<T: Send, E: Send>(
    kernel: &Kernel,
    devices: &[DmName],
    act: impl Fn(&DmName) -> Result<T, E> + Sync,
) -> Vec<Result<T, E>> {
    if devices.len() < 2 || !kernel.at_once {
        return devices.iter().map(act).collect();
    }
    let act = &act;
    let share = |some: &[DmName]| some.iter().map(act).collect::<Vec<_>>();
    thread::scope(|scope| {
        let begun: Vec<_> = devices
            .chunks(devices.len().div_ceil(AT_ONCE))
            .map(|some| {
                let builder = thread::Builder::new().stack_size(STACK);
                (some, builder.spawn_scoped(scope, move || share(some)))
            })
            .collect();
        let ended = begun.into_iter().map(|(some, thread)| match thread {
            Ok(thread) => thread.join().expect("a call to the kernel does not panic"),
            // Without a thread for it, here.
            Err(_) => share(some),
        });
        ended.flatten().collect()
    })
}
