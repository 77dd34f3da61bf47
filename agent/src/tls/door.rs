//! The entry in force, and who has come in by it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

use super::{Entry, Peer};

/// Where entries are exchanged. Cheap to clone.
#[derive(Clone)]
pub struct Door {
    entry: watch::Sender<Arc<Entry>>,
    guests: Arc<Mutex<Guests>>,
}

#[derive(Default)]
struct Guests {
    last: u64,
    within: BTreeMap<u64, Known>,
}

/// Whom we know somebody as.
#[derive(Clone)]
struct Known {
    subject: String,
    chain: Arc<[CertificateDer<'static>]>,
}

/// Somebody who is in, until dropped.
pub struct Guest {
    number: u64,
    chain: Arc<[CertificateDer<'static>]>,
    entry: watch::Receiver<Arc<Entry>>,
    guests: Arc<Mutex<Guests>>,
}

impl Door {
    /// With a first entry.
    pub fn new(entry: Entry) -> Door {
        Door {
            entry: watch::Sender::new(Arc::new(entry)),
            guests: Arc::default(),
        }
    }

    /// The entry in force.
    pub fn entry(&self) -> Arc<Entry> {
        self.entry.borrow().clone()
    }

    /// Handshakes from now on go by this one, and whoever it would not let in has to leave.
    pub fn exchange(&self, entry: Entry) {
        self.entry.send_replace(Arc::new(entry));
    }

    /// Somebody came in by an entry that is perhaps not in force any more; `None` if the one that
    /// is would not let it in.
    pub fn enter(&self, peer: &Peer, by: &Arc<Entry>) -> Option<Guest> {
        let chain = Arc::clone(&peer.chain);
        let mut entry = self.entry.subscribe();
        let now = entry.borrow_and_update().clone();
        // The handshake has looked at the certificates by this one already.
        if !Arc::ptr_eq(&now, by) && !now.admits(&chain) {
            return None;
        }
        let mut guests = lock(&self.guests);
        guests.last += 1;
        let number = guests.last;
        let known = Known {
            subject: peer.subject.clone(),
            chain: Arc::clone(&chain),
        };
        guests.within.insert(number, known);
        Some(Guest {
            number,
            chain,
            entry,
            guests: Arc::clone(&self.guests),
        })
    }

    /// The subjects of those who would have to leave for an entry, each once.
    pub fn unwanted(&self, entry: &Entry) -> Vec<String> {
        // Looking at a chain takes a while, and whoever comes and goes waits for the lock.
        let all: Vec<Known> = lock(&self.guests).within.values().cloned().collect();
        let unwanted = all.into_iter().filter(|guest| !entry.admits(&guest.chain));
        let mut subjects: Vec<_> = unwanted.map(|guest| guest.subject).collect();
        subjects.sort_unstable();
        subjects.dedup();
        subjects
    }
}

impl Guest {
    /// Resolves to an entry that came into force and would not let it in; loses nothing by being
    /// dropped.
    pub async fn unwanted(&mut self) -> Arc<Entry> {
        while self.entry.changed().await.is_ok() {
            let entry = self.entry.borrow_and_update().clone();
            if !entry.admits(&self.chain) {
                return entry;
            }
        }
        // The door is gone with the server, which ends its connections by other means.
        std::future::pending().await
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        lock(&self.guests).within.remove(&self.number);
    }
}

fn lock(guests: &Mutex<Guests>) -> std::sync::MutexGuard<'_, Guests> {
    guests.lock().unwrap_or_else(PoisonError::into_inner)
}
