//! Bodies of requests.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::mpsc;

/// Pieces under way between whoever makes them and the connection.
const UNDER_WAY: usize = 4;

/// All of it at once, or piece by piece.
pub(super) enum Body {
    Whole(Full<Bytes>),
    Pieces(Outgoing),
}

impl Default for Body {
    fn default() -> Body {
        Body::Whole(Full::default())
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Body {
        Body::Whole(Full::from(bytes))
    }
}

/// A body that is made while it is sent: the end that is sent.
#[derive(Debug)]
pub struct Outgoing {
    /// `None` says that all of it was given.
    pieces: mpsc::Receiver<Option<Bytes>>,
    taken: Arc<AtomicU64>,
    /// How many bytes are to come, if that is known.
    left: Option<u64>,
    over: bool,
}

/// The end where it is made. Dropped before [`Giver::finish`], the body has broken off, and
/// whoever gets it knows.
#[derive(Debug)]
pub struct Giver {
    pieces: mpsc::Sender<Option<Bytes>>,
}

impl Outgoing {
    /// A body and its maker.
    pub fn new() -> (Giver, Outgoing) {
        let (sender, pieces) = mpsc::channel(UNDER_WAY);
        let body = Outgoing {
            pieces,
            taken: Arc::default(),
            left: None,
            over: false,
        };
        (Giver { pieces: sender }, body)
    }

    /// It has so many bytes, which the other side is told before they come.
    pub fn of_length(self, length: u64) -> Outgoing {
        Outgoing {
            left: Some(length),
            ..self
        }
    }

    /// Counts what the connection takes of it.
    pub(super) fn taken(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.taken)
    }
}

impl Giver {
    /// Gives the next piece once there is room for it; whether it is wanted. For threads that
    /// may block.
    pub fn give_blocking(&self, piece: Bytes) -> bool {
        self.pieces.blocking_send(Some(piece)).is_ok()
    }

    /// That was all.
    pub fn finish_blocking(self) -> bool {
        self.pieces.blocking_send(None).is_ok()
    }
}

/// A body has no end.
#[derive(Debug)]
pub(super) struct BrokenOff;

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body broke off")
    }
}

impl std::error::Error for BrokenOff {}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Body::Whole(whole) => Pin::new(whole)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            Body::Pieces(outgoing) => {
                if outgoing.over {
                    return Poll::Ready(None);
                }
                let piece = ready!(outgoing.pieces.poll_recv(cx));
                outgoing.over = !matches!(piece, Some(Some(_)));
                Poll::Ready(match piece {
                    Some(Some(bytes)) => {
                        outgoing.taken.fetch_add(1, Ordering::Relaxed);
                        if let Some(left) = &mut outgoing.left {
                            *left = left.saturating_sub(bytes.len() as u64);
                        }
                        Some(Ok(Frame::data(bytes)))
                    }
                    Some(None) => None,
                    None => Some(Err(BrokenOff)),
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Whole(whole) => whole.is_end_stream(),
            Body::Pieces(outgoing) => outgoing.over,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(whole) => whole.size_hint(),
            Body::Pieces(outgoing) => outgoing
                .left
                .map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
