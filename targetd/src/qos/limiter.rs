//! Which devices have limits, and setting them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use ashlar_kernel_iface::blkio::{Blkio, Throttles};
use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_kernel_iface::tree::{Change, TreeError};
use ashlar_targetd_protocol::{IoCounters, Qos, Rate};

use super::governor;
use super::throttles::{changes, pairs, wanted};
use crate::kernel::Kernel;

/// All limits. Clones are handles on the same.
#[derive(Clone)]
pub struct Limiter {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) kernel: Kernel,
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// Devices with limits, and no others.
    limited: BTreeMap<DeviceNumber, Throttles>,
    /// Devices with a total that is to be divided.
    pub(super) governed: BTreeMap<DeviceNumber, Governed>,
    /// Whether the governor's thread runs.
    pub(super) running: bool,
}

/// A device with a total, and what it had done when it was last looked at.
pub(super) struct Governed {
    pub(super) qos: Qos,
    pub(super) seen: Option<(Instant, IoCounters)>,
    /// What it did in a second, smoothed, in the order of [`pairs`].
    pub(super) used: [(u64, u64); 2],
}

impl Limiter {
    /// Learns which limits there are. Without the controller there are none.
    pub fn learn(kernel: Kernel) -> Result<Limiter, TreeError> {
        let limited = match Blkio::new(&*kernel.blkio).limits() {
            Err(error) if error.is_absent() => BTreeMap::new(),
            limits => limits?,
        };
        let state = State {
            limited,
            ..State::default()
        };
        let inner = Inner {
            kernel,
            state: Mutex::new(state),
        };
        Ok(Limiter {
            inner: Arc::new(inner),
        })
    }

    /// The limits of a device.
    pub fn throttles(&self, device: DeviceNumber) -> Throttles {
        let state = self.inner.lock();
        state.limited.get(&device).cloned().unwrap_or_default()
    }

    /// Sets the limits of a device so that they hold `qos`. What was set before a refusal stays.
    pub fn limit(&self, device: DeviceNumber, qos: &Qos) -> Result<Change, TreeError> {
        let mut state = self.inner.lock();
        let present = state.limited.get(&device).cloned().unwrap_or_default();
        let wanted = wanted(qos, &present);
        let change = self.inner.set(&mut state, device, &present, &wanted);
        drop(state);
        self.govern(device, qos);
        change
    }

    /// Has a total divided, if there is one, for as long as the device is there.
    pub fn govern(&self, device: DeviceNumber, qos: &Qos) {
        let total = |rate: &Rate| matches!(rate, Rate::Total(_));
        let wanted = pairs(qos).iter().any(|pair| total(&pair.rate));
        let mut state = self.inner.lock();
        if !wanted {
            state.governed.remove(&device);
            return;
        }
        let present = state.governed.get(&device);
        if present.is_none_or(|present| present.qos != *qos) {
            let fresh = Governed {
                qos: *qos,
                seen: None,
                used: [(0, 0); 2],
            };
            state.governed.insert(device, fresh);
        }
        // A model does nothing of itself.
        if self.inner.kernel.at_once && !state.running {
            state.running = governor::start(&self.inner);
        }
    }

    /// The number is a new device's, or nobody's: limits went with the one before.
    pub fn forget(&self, device: DeviceNumber) {
        self.inner.lock().forget(device);
    }

    /// Looks at all totals once and divides them anew.
    pub fn look(&self, now: Instant) {
        governor::look(&self.inner, now);
    }
}

impl State {
    pub(super) fn forget(&mut self, device: DeviceNumber) {
        self.limited.remove(&device);
        self.governed.remove(&device);
    }

    pub(super) fn throttles(&self, device: DeviceNumber) -> Throttles {
        self.limited.get(&device).cloned().unwrap_or_default()
    }
}

impl Inner {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while holding this lock")
    }

    /// Goes from the present limits to others, and remembers how far it got.
    pub(super) fn set(
        &self,
        state: &mut State,
        device: DeviceNumber,
        present: &Throttles,
        wanted: &Throttles,
    ) -> Result<Change, TreeError> {
        let blkio = Blkio::new(&*self.kernel.blkio);
        let mut change = Change::Unchanged;
        for (throttle, limit) in changes(present, wanted) {
            blkio.set(device, throttle, limit)?;
            change = Change::Changed;
            let limits = state.limited.entry(device).or_default();
            match limit {
                Some(limit) => drop(limits.insert(throttle, limit)),
                None => drop(limits.remove(&throttle)),
            }
        }
        if state.limited.get(&device).is_some_and(Throttles::is_empty) {
            state.limited.remove(&device);
        }
        Ok(change)
    }
}
