//! Typed calls to an appliance.
//!
//! ```text
//! Client ── one method per route ─ calls
//!    │                               │ Exchange: method, path, body, request id
//!    └───────── Links ───────────────┘
//!               one HTTP/2 connection for everybody, or HTTP/1.1 connections, each for one
//!               request at a time; TLS 1.3 with our certificate; made when needed
//! ```
//!
//! Every request carries a request id, so that it can be repeated: when a connection that was
//! kept from before breaks under a request, the request is sent once more over a new one. A
//! [`Client`] is cheap to clone and its clones share connections.

mod body;
mod bulk;
mod calls;
mod change;
mod data;
mod endpoint;
mod error;
mod events;
mod exchange;
mod first_word;
mod identity;
mod jobs;
mod links;
mod seeded;

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

pub use body::{Giver, Outgoing};
pub use calls::PageQuery;
pub use change::Change;
pub use data::{ContentQuery, Download, ImageFormat, MediaType};
pub use endpoint::{DEFAULT_PORT, Endpoint, EndpointError};
pub use error::{CallError, Failure};
pub use events::{EventStream, Stream, Told};
pub use identity::{Identity, IdentityError};
pub use links::HttpVersion;

use links::Links;

/// An appliance, as seen by one identity.
#[derive(Clone)]
pub struct Client {
    links: Arc<Links>,
    options: Options,
}

/// What goes along with a request.
#[derive(Clone, Copy, Debug)]
struct Options {
    wait: Duration,
    request_id: Option<Uuid>,
    bandwidth: Option<u64>,
    silence: Duration,
}

/// How long the appliance is asked to work on a change before it answers with a job.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);

/// An appliance that has all of a body may take its time to make it durable.
const SILENCE: Duration = Duration::from_secs(300);

impl Client {
    /// A client of the appliance at `endpoint`. Connects when first used.
    pub fn new(endpoint: Endpoint, identity: &Identity) -> Self {
        Self::speaking(endpoint, identity, &[HttpVersion::H2, HttpVersion::H1])
    }

    /// A client that offers only these versions of HTTP, the favourite first.
    pub fn speaking(endpoint: Endpoint, identity: &Identity, versions: &[HttpVersion]) -> Self {
        Client {
            links: Arc::new(Links::new(endpoint, identity, versions)),
            options: Options {
                wait: DEFAULT_WAIT,
                request_id: None,
                bandwidth: None,
                silence: SILENCE,
            },
        }
    }

    /// The same client, waiting so long for a change before it is answered with a job.
    /// Whole seconds count, 60 at most; zero asks for a job at once.
    pub fn waiting(&self, wait: Duration) -> Self {
        let mut client = self.clone();
        client.options.wait = wait.min(Duration::from_secs(60));
        client
    }

    /// The same client for one request under this id. The same request under the same id gets
    /// the same answer; another request under it is a conflict.
    pub fn under(&self, request_id: Uuid) -> Self {
        let mut client = self.clone();
        client.options.request_id = Some(request_id);
        client
    }

    /// The same client, each request under a new id of its own, as is usual.
    pub fn under_new_ids(&self) -> Self {
        let mut client = self.clone();
        client.options.request_id = None;
        client
    }

    /// The same client, which has the appliance move so many bytes a second at most for each
    /// stream; as many as may be when absent.
    pub fn limited(&self, bandwidth: Option<u64>) -> Self {
        let mut client = self.clone();
        client.options.bandwidth = bandwidth;
        client
    }

    /// The same client, to which a peer is gone that neither gives nor takes anything of a
    /// stream for so long.
    pub fn bearing(&self, silence: Duration) -> Self {
        let mut client = self.clone();
        client.options.silence = silence;
        client
    }

    /// The id of the one request it is for, if it is.
    pub fn request_id(&self) -> Option<Uuid> {
        self.options.request_id
    }

    /// Where the appliance is.
    pub fn endpoint(&self) -> &Endpoint {
        self.links.endpoint()
    }

    /// Connections made so far.
    pub fn connections_made(&self) -> u64 {
        self.links.made()
    }
}
