//! Hearing the server out before speaking.
//!
//! With TLS 1.3 a client is done with its handshake before the server has looked at its
//! certificate. A server that refuses it sends an alert which says why, and closes; if our
//! request goes out just then, the write breaks and the reason is lost. But an HTTP/2 server
//! speaks at once, with its settings: whatever comes first tells.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// A server may wait for us to speak first; then we do.
const HEAR_OUT: Duration = Duration::from_secs(1);

/// A stream whose first byte has been read, and is read again.
pub(super) struct FirstWord<S> {
    stream: S,
    first: Option<u8>,
}

impl<S: AsyncRead + Unpin> FirstWord<S> {
    /// Waits a little for the first byte.
    ///
    /// # Errors
    /// What the server says instead, such as an alert.
    pub(super) async fn hear(mut stream: S) -> io::Result<Self> {
        let first = tokio::time::timeout(HEAR_OUT, stream.read_u8()).await;
        let first = first.ok().transpose()?;
        Ok(FirstWord { stream, first })
    }

    /// A stream on which the server does not speak first.
    pub(super) fn silent(stream: S) -> Self {
        FirstWord {
            stream,
            first: None,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstWord<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() > 0
            && let Some(first) = self.first.take()
        {
            buffer.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstWord<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
