//! The thread that waits for what the kernel tells by itself.
//!
//! ```text
//!   events of device-mapper ──┐
//!   disks that come and go ───┤
//!   addresses that do so ─────┼─ poll ──► take ──► count up ──► who waits looks, and waits again
//!   the end of this daemon ───┘
//! ```
//!
//! It takes before it counts: whatever happens after that is counted anew, so that nobody who
//! looks because of the count can miss it. A kernel that does not tell is served all the same.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use ashlar_kernel_iface::news::{News, NewsError};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::changes::Changes;
use crate::kernel::Kernel;

/// A message is read and decoded, and answers are sent.
const STACK: usize = 256 << 10;

type Source = Box<dyn News>;

/// The thread, which ends when this is dropped.
pub struct Watch {
    /// Dropped to wake it.
    wake: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts to count what a kernel tells.
    pub fn start(kernel: &Kernel, changes: Arc<Changes>) -> io::Result<Watch> {
        let (wake, woken) = UnixStream::pair()?;
        let sources = sources(kernel);
        let thread = thread::Builder::new()
            .name("watch".to_owned())
            .stack_size(STACK)
            .spawn(move || watch(sources, &changes, &woken))?;
        Ok(Watch {
            wake: Some(wake),
            thread: Some(thread),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.wake.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if matches!(ended, Some(Err(_))) {
            tracing::error!("the thread that watches the kernel panicked");
        }
    }
}

fn sources(kernel: &Kernel) -> Vec<Source> {
    let opened = [kernel.dm.news(), kernel.disks.news(), kernel.network.news()];
    let usable = |source: Result<Source, NewsError>| {
        source
            .inspect_err(|error| tracing::warn!(%error, "not told of changes"))
            .ok()
    };
    opened.into_iter().filter_map(usable).collect()
}

fn watch(mut sources: Vec<Source>, changes: &Changes, woken: &UnixStream) {
    loop {
        let ready = match ready(&sources, woken) {
            Ok(Some(ready)) => ready,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(%error, "failed to wait for what the kernel tells");
                return;
            }
        };
        let mut news = false;
        let mut ready = ready.into_iter();
        sources.retain(|source| {
            if ready.next() != Some(true) {
                return true;
            }
            let taken = source.take();
            // What can be told no more may have been about anything.
            news |= *taken.as_ref().unwrap_or(&true);
            taken
                .inspect_err(|error| tracing::error!(%error, "no longer told of changes"))
                .is_ok()
        });
        if news {
            changes.count_up();
        }
    }
}

/// Waits, and says which sources have something; `None` when it is over.
fn ready(sources: &[Source], woken: &UnixStream) -> Result<Option<Vec<bool>>, Errno> {
    let descriptors = sources.iter().map(|source| source.as_fd());
    let mut waiting: Vec<PollFd<'_>> = descriptors
        .chain([woken.as_fd()])
        .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN))
        .collect();
    loop {
        match poll(&mut waiting, PollTimeout::NONE) {
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    let mut ready: Vec<bool> = waiting
        .iter()
        .map(|waited| waited.any().unwrap_or(true))
        .collect();
    let over = ready.pop().unwrap_or(true);
    Ok((!over).then_some(ready))
}
