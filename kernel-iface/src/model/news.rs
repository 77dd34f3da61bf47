//! What the model tells by itself: a counter for each who listens, readable until it is taken.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Weak};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::ModelState;
use crate::dm::ThinPool;
use crate::news::{News, NewsError};
use crate::tree::Errno;

/// Those who listen, by what they listen to.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    pub(super) mapper: Source,
    pub(super) disks: Source,
    pub(super) network: Source,
}

/// Those who listen to one source.
#[derive(Debug, Default)]
pub(super) struct Source(Vec<Weak<EventFd>>);

impl Source {
    /// One more, who hears of what happens from now on.
    pub(super) fn listen(&mut self) -> Result<ModelNews, Errno> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let counter = Arc::new(EventFd::from_flags(flags)?);
        self.0.push(Arc::downgrade(&counter));
        Ok(ModelNews(counter))
    }

    /// Something happened.
    pub(super) fn tell(&mut self) {
        self.0.retain(|listener| match listener.upgrade() {
            // Its counter is full only if it has heard of a great many already.
            Some(counter) => counter.write(1).is_ok() || counter.read().is_ok(),
            None => false,
        });
    }
}

/// The model kernel's news of one source.
#[derive(Debug)]
pub struct ModelNews(Arc<EventFd>);

impl AsFd for ModelNews {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl News for ModelNews {
    fn take(&self) -> Result<bool, NewsError> {
        match self.0.read() {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN) => Ok(false),
            Err(errno) => {
                let operation = "read";
                Err(NewsError::Socket { operation, errno })
            }
        }
    }
}

impl ModelState {
    /// Tells of a pool that has passed one of its marks.
    pub(super) fn tell_of(&mut self, pool: &ThinPool) {
        let low_water = pool.low_water_blocks;
        let passed = self.metadata_mut(pool).map(|it| it.passes(low_water));
        if passed == Ok(true) {
            self.listeners.mapper.tell();
        }
    }
}
