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
//!
//! With a reply may come one descriptor, of a device that targetd opened. It is for whoever
//! asked to open something, and closed for everyone else.

#[cfg(test)]
pub(crate) mod fake;
mod passing;
mod stream;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ashlar_targetd_protocol::{Failure, FeatureReport, OpenObject, Request, Response};
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use uuid::Uuid;

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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

/// An open device, for direct I/O: offsets, lengths and memory are aligned to its logical blocks.
#[derive(Debug)]
pub struct OpenDevice {
    /// The device.
    pub file: File,
    /// Its size in bytes.
    pub size: u64,
}

/// Thin metadata that are held, open for direct reading.
#[derive(Debug)]
pub struct OpenMetadata {
    /// The metadata device.
    pub file: File,
    /// The block, of 4 KiB, where the held state has its superblock.
    pub held_root: u64,
    /// The size of the device in bytes.
    pub size: u64,
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
    answer: oneshot::Sender<Result<Answer, Failure>>,
}

/// Where the answer to a call comes.
type Answered = oneshot::Receiver<Result<Answer, Failure>>;

/// What came back.
#[derive(Debug)]
struct Answer {
    response: Response,
    descriptor: Option<OwnedFd>,
}

/// Longest wait for one answer. Formatting many disks is the longest work there is; a stream
/// on which nothing moves for so long is as good as broken for the call.
const LATE: Duration = Duration::from_secs(300);

impl Targetd {
    /// Starts the task that keeps a stream to `socket`; it ends with the last handle.
    pub fn start(socket: PathBuf) -> Targetd {
        // A caller holds a slot before it queues, but for the one who waits for changes, so the
        // queue never fills.
        let (calls, queue) = mpsc::channel(IN_FLIGHT + 1);
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

    /// Why the kernel lacks a feature, as far as it is known.
    pub fn missing(&self, feature: &str) -> Option<String> {
        let link = self.link.borrow();
        let Link::Up(greeting) = &*link else {
            return None;
        };
        let mut named = greeting
            .features
            .iter()
            .filter(|found| found.name == feature);
        named.find_map(|found| found.problem.clone())
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

    /// Asks, and waits for the answer. A descriptor that comes with it is closed.
    ///
    /// # Errors
    /// When there is none, or it is no.
    pub async fn call(&self, request: Request) -> Result<Response, CallError> {
        Ok(self.ask(request).await?.response)
    }

    /// Opens a device that is active; the rest is as [`Request::OpenDevice`] says.
    ///
    /// # Errors
    /// When there is no answer, or it is no, or nothing came with it.
    pub async fn open_device(
        &self,
        object: OpenObject,
        write: bool,
    ) -> Result<OpenDevice, CallError> {
        let request = Request::OpenDevice { object, write };
        match self.ask(request).await? {
            Answer {
                response: Response::Opened { size },
                descriptor: Some(descriptor),
            } => Ok(OpenDevice {
                file: descriptor.into(),
                size: size.0,
            }),
            _ => Err(CallError::Unexpected {
                request: "open-device",
            }),
        }
    }

    /// Has a pool's thin metadata held, and opens them for reading. They are held until
    /// [`Request::ReleaseMetadata`], another opening, or the end of the stream.
    ///
    /// # Errors
    /// When there is no answer, or it is no, or nothing came with it.
    pub async fn open_metadata(&self, pool: Uuid) -> Result<OpenMetadata, CallError> {
        match self.ask(Request::OpenMetadata { pool }).await? {
            Answer {
                response: Response::Metadata { held_root, size },
                descriptor: Some(descriptor),
            } => Ok(OpenMetadata {
                file: descriptor.into(),
                held_root,
                size: size.0,
            }),
            _ => Err(CallError::Unexpected {
                request: "open-metadata",
            }),
        }
    }

    /// Opens the catalog of a pool; the rest is as [`Request::OpenCatalog`] says.
    ///
    /// # Errors
    /// When there is no answer, or it is no, or nothing came with it.
    pub async fn open_catalog(&self, pool: Uuid, write: bool) -> Result<OpenDevice, CallError> {
        match self.ask(Request::OpenCatalog { pool, write }).await? {
            Answer {
                response: Response::Opened { size },
                descriptor: Some(descriptor),
            } => Ok(OpenDevice {
                file: descriptor.into(),
                size: size.0,
            }),
            _ => Err(CallError::Unexpected {
                request: "open-catalog",
            }),
        }
    }

    /// Waits until targetd was told of more changes than `seen`, and says of how many. For one
    /// caller at a time, which is in the way of no other: it takes no slot, and waits for as long
    /// as the stream is there.
    ///
    /// # Errors
    /// When there is no answer, or it is no.
    pub async fn changed(&self, seen: u64) -> Result<u64, CallError> {
        let answered = self.send(Request::AwaitChange { seen }).await?;
        match answered.await {
            Ok(Ok(Answer {
                response: Response::Changed { count },
                ..
            })) => Ok(count),
            Ok(Ok(_)) => Err(CallError::Unexpected {
                request: "await-change",
            }),
            Ok(Err(failure)) => Err(failure.into()),
            Err(_) => Err(CallError::Lost),
        }
    }

    async fn ask(&self, request: Request) -> Result<Answer, CallError> {
        let slot = self.slots.acquire().await;
        let _slot = slot.map_err(|_| CallError::Lost)?;
        let answered = self.send(request).await?;
        match tokio::time::timeout(LATE, answered).await {
            Ok(Ok(result)) => Ok(result?),
            Ok(Err(_)) => Err(CallError::Lost),
            Err(_) => Err(CallError::Late(LATE)),
        }
    }

    async fn send(&self, request: Request) -> Result<Answered, CallError> {
        if let Link::Away(why) = &*self.link.borrow() {
            return Err(CallError::Away(why.clone()));
        }
        let (answer, answered) = oneshot::channel();
        let outgoing = Outgoing { request, answer };
        self.calls
            .send(outgoing)
            .await
            .map_err(|_| CallError::Lost)?;
        Ok(answered)
    }
}

#[cfg(test)]
mod tests;
