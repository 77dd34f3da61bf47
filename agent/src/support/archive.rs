//! Parts into a tar, compressed and sealed, in a thread that waits for the client.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, Header};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::recipient::Recipient;
use super::sealed::Sealed;
use crate::clock::now;
use crate::engine::Broken;

/// The folder that all is in.
const FOLDER: &str = "ashlar-support";

/// A client that takes nothing for so long is gone.
const STALLED: Duration = Duration::from_secs(60);

/// What comes next.
#[derive(Debug)]
pub(super) enum Part {
    /// A file.
    File { name: String, bytes: Vec<u8> },
    /// Nothing more: it is whole.
    End,
}

/// Packs parts as they come, and sends what comes of them.
pub(super) async fn pack(
    parts: mpsc::Receiver<Part>,
    recipient: Recipient,
    pieces: mpsc::Sender<Result<Bytes, Broken>>,
) {
    let runtime = Handle::current();
    let out = Pieces {
        runtime,
        sender: pieces.clone(),
    };
    let packing = spawn_blocking(move || write(parts, &recipient, out));
    let outcome = packing.await.map_err(io::Error::other);
    if let Err(error) = outcome.flatten() {
        tracing::warn!("a support bundle broke off: {error}");
        let broken = Broken::internal(&format!("the bundle broke off: {error}"));
        // Whoever has gone does not need to know.
        drop(pieces.send(Err(broken)).await);
    }
}

fn write(mut parts: mpsc::Receiver<Part>, recipient: &Recipient, out: Pieces) -> io::Result<()> {
    let sealed = Sealed::begin(recipient, out)?;
    let mut tar = Builder::new(GzEncoder::new(sealed, Compression::default()));
    loop {
        match parts.blocking_recv() {
            Some(Part::File { name, bytes }) => {
                let mut header = Header::new_ustar();
                header.set_mode(0o644);
                header.set_mtime(now());
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, format!("{FOLDER}/{name}"), &bytes[..])?;
            }
            Some(Part::End) => break,
            None => return Err(io::Error::other("not all was gathered")),
        }
    }
    tar.into_inner()?.finish()?.finish()?;
    Ok(())
}

/// Writes to the client.
struct Pieces {
    runtime: Handle,
    sender: mpsc::Sender<Result<Bytes, Broken>>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sending = self.sender.send(Ok(Bytes::copy_from_slice(bytes)));
        let sending = async { tokio::time::timeout(STALLED, sending).await };
        match self.runtime.block_on(sending) {
            Ok(Ok(())) => Ok(bytes.len()),
            Ok(Err(_)) | Err(_) => Err(io::Error::other("its client has gone")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
