//! Locks by key, made when they are taken and gone when they are not.
//!
//! There are two levels, and nobody who holds a lock of the second takes another lock:
//!
//! 1. an **object** (a volume, a snapshot, a pool), held for a whole observe, plan, apply; who
//!    needs several takes them together, in their order;
//! 2. a **shared kernel object** (an nvmet port, an nvmet host, the gates of portal addresses),
//!    held for one step.
//!
//! So there is no cycle to wait in.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard};

/// A lock for each key.
pub struct KeyLocks<K> {
    held: Mutex<BTreeSet<K>>,
    freed: Condvar,
}

impl<K> Default for KeyLocks<K> {
    fn default() -> Self {
        KeyLocks {
            held: Mutex::new(BTreeSet::new()),
            freed: Condvar::new(),
        }
    }
}

/// Frees its key when dropped.
pub struct KeyGuard<'a, K: Ord> {
    locks: &'a KeyLocks<K>,
    key: K,
}

impl<K: Ord + Clone> KeyLocks<K> {
    /// Holds several keys, waiting for each in turn. As everyone takes them in the order of the
    /// set, nobody waits in a circle; who holds any must not come back for more.
    pub fn lock_all(&self, keys: &BTreeSet<K>) -> Vec<KeyGuard<'_, K>> {
        keys.iter().map(|key| self.lock(key)).collect()
    }

    /// Waits until nobody holds the key, and holds it.
    pub fn lock(&self, key: &K) -> KeyGuard<'_, K> {
        let mut held = self.held();
        while !held.insert(key.clone()) {
            held = self
                .freed
                .wait(held)
                .expect("nothing panics while holding this lock");
        }
        KeyGuard {
            locks: self,
            key: key.clone(),
        }
    }
}

impl<K> KeyLocks<K> {
    fn held(&self) -> MutexGuard<'_, BTreeSet<K>> {
        self.held
            .lock()
            .expect("nothing panics while holding this lock")
    }
}

impl<K: Ord> Drop for KeyGuard<'_, K> {
    fn drop(&mut self) {
        self.locks.held().remove(&self.key);
        self.locks.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn one_key_has_one_holder() {
        let locks = KeyLocks::default();
        let inside = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let _guard = locks.lock(&1);
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(locks.held().is_empty());
    }

    #[test]
    fn who_needs_several_never_waits_in_a_circle() {
        let locks = KeyLocks::default();
        thread::scope(|scope| {
            for keys in [[1, 2], [2, 3], [3, 1]] {
                let (locks, keys) = (&locks, BTreeSet::from(keys));
                scope.spawn(move || {
                    for _ in 0..200 {
                        assert_eq!(locks.lock_all(&keys).len(), 2);
                    }
                });
            }
        });
        assert!(locks.held().is_empty());
    }

    #[test]
    fn different_keys_are_held_at_once() {
        let locks = KeyLocks::default();
        let both = Barrier::new(2);
        thread::scope(|scope| {
            for key in [1, 2] {
                let (locks, both) = (&locks, &both);
                scope.spawn(move || {
                    let _guard = locks.lock(&key);
                    both.wait();
                });
            }
        });
    }
}
