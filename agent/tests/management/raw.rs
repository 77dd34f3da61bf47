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
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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

/// A client that speaks HTTP/2 by itself, and answers no ping.
pub struct Stubborn {
    tls: TlsStream<TcpStream>,
    next: u32,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

impl Stubborn {
    /// As the admin of a box that is being made.
    pub async fn open(appliance: &Appliance) -> Stubborn {
        let own = appliance.pki.paths("admin");
        let mut config = config(&appliance.pki, Some(own), &["h2"]);
        config
            .dangerous()
            .set_certificate_verifier(Arc::new(Anybody));
        let tls = connect(appliance, Arc::new(config)).await.unwrap();
        let mut stubborn = Stubborn { tls, next: 1 };
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        stubborn.tls.write_all(preface).await.unwrap();
        stubborn.frame(SETTINGS, 0, 0, &[]).await;
        stubborn
    }

    /// Asks, and says whether that was all; answers the stream, for more.
    pub async fn ask(&mut self, method: &str, path: &str, whole: bool) -> u32 {
        let mut block = Vec::new();
        for (name, value) in [
            (":method", method),
            (":scheme", "https"),
            (":path", path),
            (":authority", "box"),
            ("content-type", "application/cbor"),
        ] {
            // Literal, without indexing, with a new name.
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).unwrap());
                block.extend_from_slice(text.as_bytes());
            }
        }
        let end = if whole { END_STREAM } else { 0 };
        let stream = self.next;
        self.next += 2;
        self.frame(HEADERS, END_HEADERS | end, stream, &block).await;
        stream
    }

    /// Gives a body, all of it.
    pub async fn give(&mut self, stream: u32, body: &[u8]) {
        self.frame(DATA, END_STREAM, stream, body).await;
    }

    async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        // One that has been cut off is told when it listens.
        drop(self.tls.write_all(&frame).await);
    }

    /// The next frame: what kind, of which stream, and what is in it; `None` at the end.
    async fn heard(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.tls.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.tls.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some((head[3], stream, payload))
    }

    /// Whether what was asked last is answered with status 200, and not refused or cut off.
    pub async fn is_answered(&mut self) -> bool {
        let asked = self.next - 2;
        while let Some((kind, stream, payload)) = self.heard().await {
            if kind == HEADERS && stream == asked {
                // In the static table.
                return payload[0] == 0x88;
            }
        }
        false
    }

    /// Waits for the end of the connection, however much there is to hear before.
    pub async fn end(&mut self) {
        while self.heard().await.is_some() {}
    }
}

/// Takes any certificate.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _own: &CertificateDer<'_>,
        _between: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ED25519,
        ]
    }
}
