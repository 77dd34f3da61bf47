use std::os::fd::OwnedFd;

use ashlar_targetd_protocol::Response;

/// One connection, for as long as this process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caller(pub u64);

/// An answer, and the descriptor that goes with it.
#[derive(Debug)]
pub struct Answer {
    /// What is said.
    pub response: Response,
    /// Handed to the caller and closed here.
    pub descriptor: Option<OwnedFd>,
}

impl Answer {
    /// An answer that hands over a descriptor.
    pub fn with(response: Response, descriptor: impl Into<OwnedFd>) -> Answer {
        Answer {
            response,
            descriptor: Some(descriptor.into()),
        }
    }
}

impl From<Response> for Answer {
    fn from(response: Response) -> Answer {
        Answer {
            response,
            descriptor: None,
        }
    }
}
