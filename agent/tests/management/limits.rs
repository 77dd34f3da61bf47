//! What one peer can hold, and for how long.

use std::time::Duration;

use ashlar_agent::config::Listen;
use ashlar_ctl::Change;
use ashlar_ctl::pki::Validity;
use ashlar_protocol::{JobState, Problem, ProblemCode, Role};
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::raw;
use ashlar_inprocess::{Appliance, volume};

/// Far longer than any deadline set here.
const PATIENCE: Duration = Duration::from_secs(20);

const GET: &[u8] = b"GET /v1/system HTTP/1.1\r\nhost: box1\r\n\r\n";

fn impatient(listen: &mut Listen) {
    listen.handshake_timeout = Duration::from_secs(1);
    listen.request_timeout = Duration::from_secs(1);
}

/// What arrives until the agent closes. A reset closes, too.
async fn until_closed(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut arrived = Vec::new();
    let read = stream.read_to_end(&mut arrived);
    let ended = tokio::time::timeout(PATIENCE, read).await;
    drop(ended.expect("the agent closes the connection"));
    arrived
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_never_handshakes_is_cut_off() {
    let appliance = Appliance::with(impatient).await;
    let mut silent = TcpStream::connect(appliance.address).await.unwrap();
    let mut slow = TcpStream::connect(appliance.address).await.unwrap();
    slow.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
    assert_eq!(until_closed(&mut silent).await, b"");
    assert_eq!(until_closed(&mut slow).await, b"");
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_never_end_are_cut_off() {
    let appliance = Appliance::with(impatient).await;
    let mut slow = raw::admin(&appliance, "http/1.1").await;
    slow.write_all(&GET[..20]).await.unwrap();
    until_closed(&mut slow).await;
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_never_asks_is_cut_off() {
    let appliance = Appliance::with(impatient).await;
    for protocol in ["http/1.1", "h2"] {
        let mut silent = raw::admin(&appliance, protocol).await;
        until_closed(&mut silent).await;
    }
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_ends_is_told_so() {
    let appliance = Appliance::with(impatient).await;
    let mut slow = raw::admin(&appliance, "http/1.1").await;
    let id = Uuid::new_v4();
    let head = format!(
        "PUT /v1/volumes/{id} HTTP/1.1\r\nhost: box1\r\ncontent-type: application/cbor\r\n\
         content-length: 100\r\n\r\n"
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    slow.write_all(&[0xa3, 0x64]).await.unwrap();
    let answer = until_closed(&mut slow).await;
    let at = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    assert!(answer.starts_with(b"HTTP/1.1 400"));
    let problem: Problem = ashlar_codec::from_slice(&answer[at..], &Default::default()).unwrap();
    assert_eq!(problem.code, ProblemCode::MalformedRequest);
    assert!(problem.detail.contains("within 1 s"), "{problem}");
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed() {
    let idle = |listen: &mut Listen| listen.idle_timeout = Duration::from_secs(1);
    let appliance = Appliance::with(idle).await;
    let mut tls = raw::admin(&appliance, "http/1.1").await;
    tls.write_all(GET).await.unwrap();
    assert!(until_closed(&mut tls).await.starts_with(b"HTTP/1.1 200"));
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_its_certificate() {
    let appliance = Appliance::start().await;
    let soon = OffsetDateTime::now_utc() + time::Duration::seconds(3);
    appliance.issue("brief", Some(Role::Reader), Validity::until(soon));
    let own = appliance.pki.paths("brief");
    let config = raw::config(&appliance.pki, Some(own), &["http/1.1"]);
    let mut tls = raw::connect(&appliance, config.into()).await.unwrap();
    tls.write_all(GET).await.unwrap();
    assert!(until_closed(&mut tls).await.starts_with(b"HTTP/1.1 200"));
    assert!(OffsetDateTime::now_utc() >= soon - time::Duration::seconds(1));
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_holds_only_so_many_handshakes() {
    let few = |listen: &mut Listen| listen.max_handshakes_per_address = 2;
    let appliance = Appliance::with(few).await;
    let first = TcpStream::connect(appliance.address).await.unwrap();
    let _second = TcpStream::connect(appliance.address).await.unwrap();
    let mut third = TcpStream::connect(appliance.address).await.unwrap();
    assert_eq!(until_closed(&mut third).await, b"");
    // Who has proved who it is no longer counts: these all live at once.
    drop(first);
    let mut lives = Vec::new();
    while lives.len() < 4 {
        let own = appliance.pki.paths("reader");
        let config = raw::config(&appliance.pki, Some(own), &["http/1.1"]);
        // The agent may take a moment to see that the first has gone.
        if let Ok(mut tls) = raw::connect(&appliance, config.into()).await {
            tls.write_all(GET).await.unwrap();
            let mut start = [0; 12];
            tls.read_exact(&mut start).await.unwrap();
            assert_eq!(&start, b"HTTP/1.1 200");
            lives.push(tls);
        }
    }
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_only_so_many_connections() {
    let one = |listen: &mut Listen| listen.max_connections = 1;
    let appliance = Appliance::with(one).await;
    let client = appliance.client("reader");
    client.system_show().await.unwrap();
    let mut second = TcpStream::connect(appliance.address).await.unwrap();
    assert_eq!(until_closed(&mut second).await, b"");
    client.system_show().await.unwrap();
    assert_eq!(client.connections_made(), 1);
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_requests_finish_and_takes_no_more() {
    let appliance = Appliance::start().await;
    let pool = appliance.pool().await;
    appliance.kernel.hold();
    let (client, id) = (appliance.client("operator"), Uuid::new_v4());
    let create = tokio::spawn(async move { client.volume_create(id, &volume(pool)).await });
    let looking = appliance.client("reader");
    let running = async {
        loop {
            let jobs = looking.job_list().await.unwrap();
            if jobs.iter().any(|job| job.state == JobState::Running) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, running).await.unwrap();

    appliance.begin_stop();
    let refused = async { while TcpStream::connect(appliance.address).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, refused).await.unwrap();
    appliance.kernel.release();
    let change = create.await.unwrap().unwrap();
    assert!(
        matches!(change, Change::Done { created: true, .. }),
        "{change:?}"
    );
    appliance.stop().await;
}
