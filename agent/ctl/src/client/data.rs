//! What volumes hold, as streams in and out.

use std::sync::atomic::Ordering;

use ashlar_codec::{Limits, from_slice};
use ashlar_protocol::{JobResult, Operation, SupportSpec, support};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use uuid::Uuid;

use super::body::{Body, Outgoing};
use super::calls::changed;
use super::error::{CallError, Failure};
use super::exchange::{Exchange, Lost, Reply, converse, encode, send};
use super::links::{Link, Sender};
use super::{Change, Client};

/// A problem, or what a transfer came to.
const LIMITS: Limits = Limits {
    bytes: 64 << 10,
    depth: 8,
};

/// What a stream is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType {
    /// The bytes themselves.
    Raw,
    /// Data, zeros and holes, with a checksum: see `ashlar_extents`.
    Extents,
    /// An image of a disk.
    Image(ImageFormat),
}

/// How an image of a disk is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// As its signature says; raw without one. Only of what is there already.
    Auto,
    /// QEMU's.
    Qcow2,
    /// VMware's.
    Vmdk,
    /// Virtual PC's.
    Vhd,
    /// Hyper-V's.
    Vhdx,
}

impl MediaType {
    /// What it is called in headers.
    pub fn as_str(self) -> &'static str {
        match self {
            MediaType::Raw => "application/octet-stream",
            MediaType::Extents => ashlar_extents::MEDIA_TYPE,
            MediaType::Image(_) => "application/vnd.ashlar.image",
        }
    }

    fn parameter(self) -> &'static str {
        match self {
            MediaType::Raw => "raw",
            MediaType::Extents => "extents",
            MediaType::Image(ImageFormat::Auto) => "auto",
            MediaType::Image(ImageFormat::Qcow2) => "qcow2",
            MediaType::Image(ImageFormat::Vmdk) => "vmdk",
            MediaType::Image(ImageFormat::Vhd) => "vhd",
            MediaType::Image(ImageFormat::Vhdx) => "vhdx",
        }
    }
}

/// What is to be read of a volume or snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentQuery {
    /// What the stream is to be.
    pub media_type: MediaType,
    /// From which byte on, a multiple of 4096.
    pub offset: u64,
    /// How many bytes, likewise unless up to the end; all of them when absent.
    pub length: Option<u64>,
    /// Only what differs from this snapshot; of extents.
    pub since: Option<Uuid>,
}

impl ContentQuery {
    /// Everything.
    pub fn all(media_type: MediaType) -> ContentQuery {
        ContentQuery {
            media_type,
            offset: 0,
            length: None,
            since: None,
        }
    }

    fn to_query(self, bandwidth: Option<u64>) -> String {
        let mut query = format!("format={}", self.media_type.parameter());
        if self.offset != 0 {
            query += &format!("&offset={}", self.offset);
        }
        if let Some(length) = self.length {
            query += &format!("&length={length}");
        }
        if let Some(since) = self.since {
            query += &format!("&since={since}");
        }
        if let Some(bandwidth) = bandwidth {
            query += &format!("&bandwidth={bandwidth}");
        }
        query
    }
}

/// A stream that is being read.
pub struct Download {
    client: Client,
    operation: Operation,
    body: Incoming,
    /// How long it is, if that is known.
    length: Option<u64>,
    link: Option<Link>,
}

impl Client {
    /// Writes a stream to a volume, beginning at `offset` if it is raw bytes. Resolves
    /// once all of it is durable. It is sent once: when it breaks off, the job under its request
    /// id says where to go on.
    ///
    /// # Errors
    /// When the appliance refuses, the body breaks off, or the call fails.
    pub async fn volume_import(
        &self,
        id: Uuid,
        media_type: MediaType,
        offset: u64,
        body: Outgoing,
    ) -> Result<Change<JobResult>, CallError> {
        let exchange = Exchange {
            operation: Operation::VolumeImport,
            id: Some(id),
            query: match (media_type, self.options.bandwidth) {
                (MediaType::Image(_), None) => format!("format={}", media_type.parameter()),
                (MediaType::Image(_), Some(bandwidth)) => {
                    format!("format={}&bandwidth={bandwidth}", media_type.parameter())
                }
                (_, None) if offset == 0 => String::new(),
                (_, None) => format!("offset={offset}"),
                (_, Some(bandwidth)) => format!("offset={offset}&bandwidth={bandwidth}"),
            },
            body: None,
        };
        self.upload(&exchange, media_type, body).await
    }

    /// Sends an update of the firmware. Resolves once it is installed. It is sent once: when it
    /// breaks off, the job under its request id says what came of it.
    ///
    /// # Errors
    /// When the appliance refuses, the body breaks off, or the call fails.
    pub async fn firmware_install(&self, body: Outgoing) -> Result<Change<JobResult>, CallError> {
        let exchange = Exchange {
            operation: Operation::FirmwareInstall,
            id: None,
            query: String::new(),
            body: None,
        };
        self.upload(&exchange, MediaType::Raw, body).await
    }

    /// Reads what a volume holds; refused while it has connections.
    ///
    /// # Errors
    /// When the appliance refuses, or the call fails; likewise below.
    pub async fn volume_export(
        &self,
        id: Uuid,
        query: &ContentQuery,
    ) -> Result<Download, CallError> {
        self.download(Operation::VolumeExport, id, query).await
    }

    /// Reads what a snapshot holds.
    pub async fn snapshot_export(
        &self,
        id: Uuid,
        query: &ContentQuery,
    ) -> Result<Download, CallError> {
        self.download(Operation::SnapshotExport, id, query).await
    }

    /// Has a support bundle made, for the bearer of a certificate.
    ///
    /// # Errors
    /// Likewise, and when nothing can be encrypted to the certificate.
    pub async fn support_bundle(&self, spec: &SupportSpec) -> Result<Download, CallError> {
        let operation = Operation::SupportBundle;
        let exchange = Exchange {
            operation,
            id: None,
            query: String::new(),
            body: Some(encode(operation, spec)?),
        };
        let opened = self.open_content(&exchange, support::MEDIA_TYPE).await;
        opened.map_err(|failure| CallError { operation, failure })
    }

    async fn upload(
        &self,
        exchange: &Exchange,
        media_type: MediaType,
        body: Outgoing,
    ) -> Result<Change<JobResult>, CallError> {
        let operation = exchange.operation;
        let sent = self.send_body(exchange, media_type, body).await;
        sent.and_then(|reply| changed(&reply))
            .map_err(|failure| CallError { operation, failure })
    }

    async fn send_body(
        &self,
        exchange: &Exchange,
        media_type: MediaType,
        body: Outgoing,
    ) -> Result<Reply, Failure> {
        let mut link = self.unused_link().await?;
        let request_id = self.options.request_id.unwrap_or_else(Uuid::new_v4);
        let taken = body.taken();
        let request = self.request(exchange, request_id, &link)?;
        let mut request = request.map(|_| Body::Pieces(body));
        let media_type = HeaderValue::from_static(media_type.as_str());
        request.headers_mut().insert(CONTENT_TYPE, media_type);
        let silence = self.options.silence;
        let mut before = 0;
        let outcome = {
            let conversation = converse(&mut link, request);
            tokio::pin!(conversation);
            loop {
                match tokio::time::timeout(silence, &mut conversation).await {
                    Ok(outcome) => break outcome,
                    Err(_) if taken.load(Ordering::Relaxed) != before => {
                        before = taken.load(Ordering::Relaxed);
                    }
                    Err(_) => return Err(self.silent(silence)),
                }
            }
        };
        match outcome {
            Ok((status, problem, body)) => {
                self.links.release(link).await;
                self.reply((status, problem), body)
            }
            Err(error) => Err(self.lost(&mut link, error).await),
        }
    }

    async fn download(
        &self,
        operation: Operation,
        id: Uuid,
        query: &ContentQuery,
    ) -> Result<Download, CallError> {
        let exchange = Exchange {
            operation,
            id: Some(id),
            query: query.to_query(self.options.bandwidth),
            body: None,
        };
        let opened = self
            .open_content(&exchange, query.media_type.as_str())
            .await;
        opened.map_err(|failure| CallError { operation, failure })
    }

    async fn open_content(
        &self,
        exchange: &Exchange,
        media_type: &'static str,
    ) -> Result<Download, Failure> {
        let mut link = self.unused_link().await?;
        let request_id = self.options.request_id.unwrap_or_else(Uuid::new_v4);
        let mut request = self.request(exchange, request_id, &link)?;
        let media_type = HeaderValue::from_static(media_type);
        request.headers_mut().insert(ACCEPT, media_type);
        let silence = self.options.silence;
        let answer = tokio::time::timeout(silence, send(&mut link, request)).await;
        let answer = match answer.map_err(|_| self.silent(silence))? {
            Ok(answer) => answer,
            Err(error) => return Err(self.lost(&mut link, error.into()).await),
        };
        let status = answer.status().as_u16();
        let length = answer.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
        let mut download = Download {
            client: self.clone(),
            operation: exchange.operation,
            body: answer.into_body(),
            length,
            link: Some(link),
        };
        match status {
            200 => Ok(download),
            _ => Err(download.refusal(status).await),
        }
    }

    /// A connection that has not gone stale, as far as can be told: a body is not sent twice.
    async fn unused_link(&self) -> Result<Link, Failure> {
        let link = self.links.acquire().await?;
        match link.kept {
            true => self.links.fresh().await,
            false => Ok(link),
        }
    }

    async fn lost(
        &self,
        link: &mut Link,
        error: Box<dyn std::error::Error + Send + Sync>,
    ) -> Failure {
        match link.cause().await {
            Some(cause) => self.links.failed("talk to", cause),
            None => self.links.failed("talk to", Lost(error)),
        }
    }
}

impl Download {
    /// How long the stream is, if that is known.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next piece; `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// When the stream ends before it is whole.
    pub async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        let operation = self.operation;
        let piece = self.piece().await;
        piece.map_err(|failure| CallError { operation, failure })
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        let silence = self.client.options.silence;
        loop {
            let frame = tokio::time::timeout(silence, self.body.frame()).await;
            match frame.map_err(|_| self.client.silent(silence))? {
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
                Some(Err(error)) => return Err(self.client.links.failed("read from", error)),
                None => {
                    if let Some(mut link) = self.link.take() {
                        if let Sender::H1(sender) = &mut link.sender {
                            // One that closes now is only not used again.
                            let _ = sender.ready().await;
                        }
                        self.client.links.release(link).await;
                    }
                    return Ok(None);
                }
            }
        }
    }

    /// What was said instead of a stream.
    async fn refusal(&mut self, status: u16) -> Failure {
        let mut said = BytesMut::new();
        while said.len() <= LIMITS.bytes {
            match self.piece().await {
                Ok(Some(bytes)) => said.extend_from_slice(&bytes),
                _ => break,
            }
        }
        match from_slice(&said, &LIMITS) {
            Ok(problem) => Failure::Problem(problem),
            Err(error) => Failure::Protocol {
                endpoint: self.client.endpoint().to_string(),
                status,
                reason: format!("which is neither a stream nor a problem: {error}"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_is_not_as_usual() {
        let mut query = ContentQuery::all(MediaType::Raw);
        assert_eq!(query.to_query(None), "format=raw");
        query = ContentQuery {
            media_type: MediaType::Extents,
            offset: 4096,
            length: Some(8192),
            since: Some(Uuid::from_u128(1)),
        };
        assert_eq!(
            query.to_query(Some(1 << 20)),
            "format=extents&offset=4096&length=8192\
             &since=00000000-0000-0000-0000-000000000001&bandwidth=1048576"
        );
        query = ContentQuery::all(MediaType::Image(ImageFormat::Vhdx));
        assert_eq!(query.to_query(None), "format=vhdx");
    }
}
