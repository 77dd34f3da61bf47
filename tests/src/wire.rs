//! A bare client: any path, any body, so that a scenario can send what no well-made client would.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use ashlar_codec::Limits;
use ashlar_protocol::{MEDIA_TYPE, PROBLEM_MEDIA_TYPE, REQUEST_ID_HEADER};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::contract;
use crate::runner::Answer;
use crate::scenario::{Request, from_cbor, to_cbor};

const REPLY_LIMITS: Limits = Limits {
    bytes: 4 << 20,
    depth: 16,
};

/// One identity at one appliance. Each request has a connection of its own.
pub struct Wire {
    address: String,
    connector: TlsConnector,
}

/// A reply as bytes.
pub struct RawReply {
    /// The HTTP status.
    pub status: u16,
    /// The `content-type`, or nothing.
    pub media_type: Option<String>,
    /// The body.
    pub body: Bytes,
}

impl Wire {
    /// The identity in `dir/NAME.pem` and `dir/NAME.key`, trusting `dir/ca.pem`.
    pub fn new(address: &str, dir: &Path, name: &str) -> anyhow::Result<Wire> {
        let mut roots = RootCertStore::empty();
        for root in certificates(&dir.join("ca.pem"))? {
            roots.add(root)?;
        }
        let key = dir.join(format!("{name}.key"));
        let key = PrivateKeyDer::from_pem_file(&key).with_context(|| key.display().to_string())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates(&dir.join(format!("{name}.pem")))?, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Wire {
            address: address.to_owned(),
            connector: TlsConnector::from(Arc::new(config)),
        })
    }

    /// Sends a scenario's request and reads its answer as JSON. Both must be as the contract says.
    pub async fn exchange(&self, request: &Request) -> anyhow::Result<Answer> {
        let body = match &request.body {
            Some(json) => Bytes::from(ashlar_codec::to_vec(&to_cbor(json))?),
            None => Bytes::new(),
        };
        let reply = self.send(request, MEDIA_TYPE, body.clone()).await?;
        let (method, path) = (&request.method, &request.path);
        contract::check(method, path, &body, reply.status, &reply.body)?;
        let json = if reply.body.is_empty() {
            serde_json::Value::Null
        } else {
            let expected = if reply.status < 400 {
                MEDIA_TYPE
            } else {
                PROBLEM_MEDIA_TYPE
            };
            if reply.media_type.as_deref() != Some(expected) {
                bail!(
                    "answer {} has content-type {:?}",
                    reply.status,
                    reply.media_type
                );
            }
            from_cbor(&ashlar_codec::from_slice(&reply.body, &REPLY_LIMITS)?)
        };
        Ok(Answer {
            status: reply.status,
            body: json,
        })
    }

    /// Sends any body under any media type.
    pub async fn send(
        &self,
        request: &Request,
        media_type: &str,
        body: Bytes,
    ) -> anyhow::Result<RawReply> {
        let stream = TcpStream::connect(&self.address).await?;
        let host = self
            .address
            .rsplit_once(':')
            .map_or(&*self.address, |(host, _)| host);
        let name = ServerName::try_from(host.to_owned())?;
        let stream = self.connector.connect(name, stream).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let mut builder = hyper::Request::builder()
            .method(request.method.as_str())
            .uri(&request.path)
            .header(HOST, &self.address);
        if !body.is_empty() {
            builder = builder.header(CONTENT_TYPE, media_type);
        }
        if let Some(id) = request.request_id {
            builder = builder.header(REQUEST_ID_HEADER, id.to_string());
        }
        let response = sender.send_request(builder.body(Full::new(body))?).await?;
        let status = response.status().as_u16();
        let media_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let body = response.into_body().collect().await?.to_bytes();
        connection.abort();
        Ok(RawReply {
            status,
            media_type,
            body,
        })
    }
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    read().with_context(|| path.display().to_string())
}
