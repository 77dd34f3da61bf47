//! Requests that the client library would not make.

use std::sync::Arc;

use ashlar_codec::Limits;
use ashlar_ctl::pki::{Directory, Paths};
use ashlar_protocol::{PROBLEM_MEDIA_TYPE, Problem, REQUEST_ID_HEADER};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use ashlar_inprocess::Appliance;

/// A TLS configuration of ours, for one of the agent's certificates or none.
pub fn config(pki: &Directory, own: Option<Paths>, protocols: &[&str]) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(pki.paths("ca").certificate).unwrap())
        .unwrap();
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        Some(own) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(own.certificate).unwrap()],
                PrivateKeyDer::from_pem_file(own.key).unwrap(),
            )
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    config
}

/// A TLS connection to the agent.
pub async fn connect(
    appliance: &Appliance,
    config: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(appliance.address).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(config).connect(name, tcp).await
}

/// As the admin, over one version of HTTP.
pub async fn admin(appliance: &Appliance, protocol: &str) -> TlsStream<TcpStream> {
    let own = appliance.pki.paths("admin");
    let config = config(&appliance.pki, Some(own), &[protocol]);
    connect(appliance, Arc::new(config)).await.unwrap()
}

pub enum Sender {
    H1(http1::SendRequest<Full<Bytes>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

/// An answer, read to its end.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The problem, which must agree with its own status.
    pub fn problem(&self) -> Problem {
        assert_eq!(self.headers["content-type"], PROBLEM_MEDIA_TYPE);
        assert!(self.headers.contains_key(REQUEST_ID_HEADER));
        let problem: Problem = ashlar_codec::from_slice(&self.body, &Limits::default()).unwrap();
        assert_eq!(problem.code.status(), self.status);
        problem
    }
}

impl Sender {
    pub async fn open(tls: TlsStream<TcpStream>) -> Sender {
        let is_h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(tls);
        if is_h2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            Sender::H2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            Sender::H1(sender)
        }
    }

    /// Sends a request whose target is only a path.
    pub async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let response = match self {
            Sender::H1(sender) => {
                request.headers_mut().insert("host", "box1".parse()?);
                sender.send_request(request).await?
            }
            Sender::H2(sender) => {
                let path = request.uri().to_string();
                *request.uri_mut() = format!("https://box1{path}").parse()?;
                sender.send_request(request).await?
            }
        };
        let (parts, body) = response.into_parts();
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.collect().await?.to_bytes(),
        })
    }
}
