//! The client's end of the stream to targetd.
//!
//! ```text
//! call() ── bounded queue ── one task owns the stream: connect, hello, serve, and again
//!    ▲                            │ replies by call id, in any order
//!    └────────────────────────────┘
//! link() ── watch: Away(why) or Up(greeting), one epoch per stream
//! ```
//!
//! A call made while targetd is away fails at once, and one under way when the stream breaks
//! fails as lost: whether it was carried out is unknown. Every request may be sent again.

#[cfg(test)]
pub(crate) mod fake;
mod stream;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ashlar_targetd_protocol::{Failure, FeatureReport, Request, Response};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// Calls in flight at most. targetd serves as many at once.
pub const IN_FLIGHT: usize = 64;

/// Whether targetd is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// It is not, and why.
    Away(String),
    /// It is, and said this.
    Up(Greeting),
}

/// What targetd says when greeted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Counts the streams of this process from 1. A new one may mean a new targetd.
    pub epoch: u64,
    /// The kernel's release.
    pub kernel: String,
    /// What the kernel can do.
    pub features: Vec<FeatureReport>,
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// targetd is not there; nothing was sent.
    #[error("targetd is not answering: {0}")]
    Away(String),
    /// The stream broke; whether the call was carried out is unknown.
    #[error("the stream to targetd broke during a call")]
    Lost,
    /// targetd took longer than any of its work takes.
    #[error("targetd did not answer within {} s", .0.as_secs())]
    Late(Duration),
    /// targetd says no.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The answer belongs to another question.
    #[error("targetd answered {request} with something else")]
    Unexpected {
        /// What was asked.
        request: &'static str,
    },
}

/// A handle for calls. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Targetd {
    calls: mpsc::Sender<Outgoing>,
    slots: Arc<Semaphore>,
    link: watch::Receiver<Link>,
}

/// A call on its way to the task that owns the stream.
struct Outgoing {
    request: Request,
    answer: oneshot::Sender<Result<Response, Failure>>,
}

/// Longest wait for one answer. Formatting many disks is the longest work there is; a stream
/// on which nothing moves for so long is as good as broken for the call.
const LATE: Duration = Duration::from_secs(300);

impl Targetd {
    /// Starts the task that keeps a stream to `socket`; it ends with the last handle.
    pub fn start(socket: PathBuf) -> Targetd {
        // A caller holds a slot before it queues, so the queue never fills.
        let (calls, queue) = mpsc::channel(IN_FLIGHT);
        let (told, link) = watch::channel(Link::Away("not connected yet".to_owned()));
        tokio::spawn(stream::keep(socket, queue, told));
        Targetd {
            calls,
            slots: Arc::new(Semaphore::new(IN_FLIGHT)),
            link,
        }
    }

    /// Whether targetd is there, and when that changes.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    /// Its greeting, while it is there.
    pub fn greeting(&self) -> Option<Greeting> {
        match &*self.link.borrow() {
            Link::Up(greeting) => Some(greeting.clone()),
            Link::Away(_) => None,
        }
    }

    /// Whether it is there.
    pub fn is_up(&self) -> bool {
        matches!(&*self.link.borrow(), Link::Up(_))
    }

    /// Waits until it is there; `false` when that will never be.
    pub async fn up(&self) -> bool {
        let mut link = self.link.clone();
        link.wait_for(|link| matches!(link, Link::Up(_)))
            .await
            .is_ok()
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// When there is none, or it is no.
    pub async fn call(&self, request: Request) -> Result<Response, CallError> {
        let slot = self.slots.acquire().await;
        let _slot = slot.map_err(|_| CallError::Lost)?;
        if let Link::Away(why) = &*self.link.borrow() {
            return Err(CallError::Away(why.clone()));
        }
        let (answer, answered) = oneshot::channel();
        let outgoing = Outgoing { request, answer };
        self.calls
            .send(outgoing)
            .await
            .map_err(|_| CallError::Lost)?;
        match tokio::time::timeout(LATE, answered).await {
            Ok(Ok(result)) => Ok(result?),
            Ok(Err(_)) => Err(CallError::Lost),
            Err(_) => Err(CallError::Late(LATE)),
        }
    }
}

#[cfg(test)]
mod tests;
