//! Events and audit records as a stream: a CBOR sequence (RFC 8742) that goes on until the client leaves, the
//! connection closes, or the client falls behind what is kept.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ashlar_protocol::Problem;
use bytes::Bytes;
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use crate::kept::{Numbered, Reader};

/// A sign of life comes at least this often.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// So many are written at once. With the one being sent and the one that waits for it, this is all
/// that a slow reader holds.
const CHUNK: usize = 64;

/// CBOR's null.
const SIGN_OF_LIFE: &[u8] = &[0xf6];

/// The body of a stream.
#[derive(Debug)]
pub(super) struct Sequence(mpsc::Receiver<Bytes>);

impl Sequence {
    /// Streams what `reader` reads, holding `permit`, until `closing`.
    pub(super) fn start<T: Numbered + Serialize + Send + 'static>(
        reader: Reader<T>,
        permit: OwnedSemaphorePermit,
        closing: CancellationToken,
    ) -> Sequence {
        let (sender, chunks) = mpsc::channel(1);
        tokio::spawn(async move {
            // Nothing is lost with a stream that is dropped: its reader asks on from where it is.
            tokio::select! {
                () = write(reader, &sender) => {}
                () = sender.closed() => {}
                () = closing.cancelled() => {}
            }
            drop(permit);
        });
        Sequence(chunks)
    }

    pub(super) fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Frame<Bytes>>> {
        self.get_mut()
            .0
            .poll_recv(context)
            .map(|chunk| chunk.map(Frame::data))
    }
}

async fn write<T: Numbered + Serialize>(mut reader: Reader<T>, sender: &mpsc::Sender<Bytes>) {
    // Headers reach the client with the first chunk, so it learns at once that it is heard.
    let mut chunk = Some(Bytes::from_static(SIGN_OF_LIFE));
    loop {
        if let Some(chunk) = chunk.take()
            && sender.send(chunk).await.is_err()
        {
            return;
        }
        chunk = match tokio::time::timeout(HEARTBEAT, reader.news()).await {
            Ok(true) => match reader.read(CHUNK) {
                Ok((news, _)) => Some(items(&news)),
                Err(problem) => return end(sender, &problem).await,
            },
            Ok(false) => return,
            Err(_quiet) => Some(Bytes::from_static(SIGN_OF_LIFE)),
        };
    }
}

async fn end(sender: &mpsc::Sender<Bytes>, problem: &Problem) {
    // Whoever has gone does not need to know.
    drop(sender.send(items(std::slice::from_ref(problem))).await);
}

fn items<T: Serialize>(all: &[T]) -> Bytes {
    let encoded = all
        .iter()
        .map(|item| ashlar_codec::to_vec(item).unwrap_or_default());
    Bytes::from(encoded.collect::<Vec<_>>().concat())
}
