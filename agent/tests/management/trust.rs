//! Whom the agent speaks with at all.

use std::error::Error;
use std::sync::Arc;

use ashlar_ctl::client::{Client, Failure, Identity};
use ashlar_ctl::pki::{Profile, Validity};
use ashlar_protocol::Role;
use rustls::HandshakeKind;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::raw;
use ashlar_inprocess::{Appliance, strangers};

/// What a call's failure says, cause by cause.
async fn refusal(client: Client) -> String {
    let error = client.system_show().await.unwrap_err();
    assert!(
        matches!(error.failure, Failure::Transport { .. }),
        "{error:?}"
    );
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_refused_in_the_handshake() {
    let appliance = Appliance::start().await;
    let past = OffsetDateTime::now_utc() - time::Duration::hours(1);
    appliance.issue("old", Some(Role::Admin), Validity::until(past));
    let told = refusal(appliance.client("old")).await;
    assert!(told.contains("CertificateExpired"), "{told}");
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_authoritys_certificate_is_refused_in_the_handshake() {
    let appliance = Appliance::start().await;
    let (pki, _) = strangers(appliance.dir.path());
    let profile = Profile::Client {
        role: Some(Role::Admin),
    };
    let own = pki.issue("eve", &profile, Validity::days(1)).unwrap();
    let ca = appliance.pki.paths("ca").certificate;
    let identity = Identity::from_files(&own.certificate, &own.key, &ca).unwrap();
    let told = refusal(Client::new(appliance.endpoint(), &identity)).await;
    assert!(told.contains("UnknownCA"), "{told}");
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_certificate_does_not_make_a_client() {
    let appliance = Appliance::start().await;
    let told = refusal(appliance.client("server")).await;
    assert!(told.contains("fatal alert"), "{told}");
    appliance.stop().await;
}

/// Whether the agent keeps a TLS connection open long enough to answer on it.
async fn is_answered(appliance: &Appliance, config: rustls::ClientConfig) -> bool {
    let Ok(mut tls) = raw::connect(appliance, Arc::new(config)).await else {
        return false;
    };
    let request = b"GET /v1/system HTTP/1.1\r\nhost: box1\r\n\r\n";
    let mut first = [0];
    tls.write_all(request).await.is_ok() && matches!(tls.read(&mut first).await, Ok(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_nobody_is_answered() {
    let appliance = Appliance::start().await;
    let own = appliance.pki.paths("reader");
    let known = raw::config(&appliance.pki, Some(own), &["http/1.1"]);
    assert!(is_answered(&appliance, known).await);
    let nobody = raw::config(&appliance.pki, None, &["http/1.1"]);
    assert!(!is_answered(&appliance, nobody).await);
    appliance.stop().await;
}

/// Greets as a client that knows TLS 1.2 only.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_tls_is_refused() {
    let appliance = Appliance::start().await;
    let mut hello = vec![0x03, 0x03];
    hello.extend([7; 32]); // random
    hello.push(0); // no session
    hello.extend([0, 4, 0xc0, 0x2f, 0xc0, 0x2b]); // ECDHE with AES-128-GCM, for RSA and ECDSA
    hello.extend([1, 0]); // no compression
    let extensions = [
        0, 10, 0, 4, 0, 2, 0, 23, // groups: secp256r1
        0, 13, 0, 6, 0, 4, 4, 3, 8, 4, // signatures: ECDSA and RSA-PSS with SHA-256
        0, 11, 0, 2, 1, 0, // points: uncompressed
    ];
    hello.extend([0, u8::try_from(extensions.len()).unwrap()]);
    hello.extend(extensions);
    let length = u8::try_from(hello.len()).unwrap();
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    let mut tcp = TcpStream::connect(appliance.address).await.unwrap();
    tcp.write_all(&record).await.unwrap();
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).await.unwrap();
    // A fatal alert: protocol_version.
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 70]);
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protocol_must_be_agreed_on() {
    let appliance = Appliance::start().await;
    for protocols in [&[][..], &["spdy/3"][..]] {
        let own = appliance.pki.paths("reader");
        let config = raw::config(&appliance.pki, Some(own), protocols);
        assert!(!is_answered(&appliance, config).await, "{protocols:?}");
    }
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_connection_shows_its_certificate_again() {
    let appliance = Appliance::start().await;
    let own = appliance.pki.paths("reader");
    // This client would resume if it were let: it keeps what tickets it gets.
    let config = Arc::new(raw::config(&appliance.pki, Some(own), &["http/1.1"]));
    for _ in 0..2 {
        let mut tls = raw::connect(&appliance, config.clone()).await.unwrap();
        let request = b"GET /v1/system HTTP/1.1\r\nhost: box1\r\nconnection: close\r\n\r\n";
        tls.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        tls.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200"));
        let session = tls.get_ref().1;
        assert_eq!(session.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(session.tls13_tickets_received(), 0);
    }
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resumption_does_not_outlive_trust() {
    let appliance = Appliance::start().await;
    let own = appliance.pki.paths("reader");
    let config = raw::config(&appliance.pki, Some(own), &["http/1.1"]);
    let trusted = appliance.pki.paths("ca").certificate;
    let known = std::fs::read(&trusted).unwrap();
    assert!(is_answered(&appliance, config.clone()).await);

    // The owner no longer trusts whoever signed it.
    let (pki, _) = strangers(appliance.dir.path());
    std::fs::copy(pki.paths("ca").certificate, &trusted).unwrap();
    appliance.own.reload().unwrap();
    assert!(!is_answered(&appliance, config.clone()).await);

    std::fs::write(&trusted, known).unwrap();
    appliance.own.reload().unwrap();
    assert!(is_answered(&appliance, config).await);
    appliance.stop().await;
}
