//! All that targetd, or whoever sits in its place, can answer the agent.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ashlar_agent::targetd::{CallError, Link, Targetd};
use ashlar_targetd_protocol::{PROTOCOL_VERSION, Reply, Request, Response, frame};
use tempfile::TempDir;
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::calls;

/// Far longer than it takes; the agent waits for a greeting up to this.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers an agent's greeting with the bytes, or, if the first is even, greets it properly and
/// answers its first call with them; then hangs up.
///
/// # Panics
/// When the agent does not notice that the stream ended, or its call is left without an answer.
pub fn run(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else {
        return;
    };
    let greeted = choice.is_multiple_of(2);
    // Each run has its own socket: nothing left of the one before can answer.
    let place = place()
        .path()
        .join(RUNS.fetch_add(1, Ordering::Relaxed).to_string());
    let listener = UnixListener::bind(&place).expect("it can listen");
    thread::scope(|scope| {
        scope.spawn(|| answer(&listener, greeted, bytes));
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("there are descriptors");
        runtime.block_on(async {
            let talk = talk(Targetd::start(place.clone()));
            timeout(PATIENCE, talk)
                .await
                .expect("the agent does not wait for ever");
        });
    });
    fs::remove_file(&place).expect("it is ours");
}

async fn talk(targetd: Targetd) {
    let mut link = targetd.link();
    let dies = "the task that owns the stream ended";
    link.changed().await.expect(dies);
    if matches!(*link.borrow_and_update(), Link::Up(_)) {
        match targetd.call(Request::ListDisks).await {
            Ok(_) | Err(CallError::Failed(_) | CallError::Lost | CallError::Away(_)) => {}
            Err(error) => panic!("{error}"),
        }
        link.wait_for(|link| matches!(link, Link::Away(_)))
            .await
            .expect(dies);
    }
}

/// One connection's worth of targetd.
fn answer(listener: &UnixListener, greeted: bool, bytes: &[u8]) {
    let (mut stream, _) = listener.accept().expect("the agent connects");
    // The agent hangs up at the first thing it does not understand.
    drop(converse(&mut stream, greeted, bytes));
}

fn converse(stream: &mut UnixStream, greeted: bool, bytes: &[u8]) -> std::io::Result<()> {
    take_call(stream)?;
    if greeted {
        let result = Ok(Response::Hello {
            version: PROTOCOL_VERSION,
            kernel: "6.12".to_owned(),
            features: Vec::new(),
        });
        stream.write_all(&calls::framed(&Reply { id: 0, result }))?;
        take_call(stream)?;
    }
    stream.write_all(bytes)?;
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

fn take_call(stream: &mut UnixStream) -> std::io::Result<()> {
    let mut prefix = [0; frame::PREFIX];
    stream.read_exact(&mut prefix)?;
    let length = frame::body_length(prefix).expect("the agent frames its calls");
    stream.read_exact(&mut vec![0; length])
}

static RUNS: AtomicU64 = AtomicU64::new(0);

fn place() -> &'static TempDir {
    static PLACE: OnceLock<TempDir> = OnceLock::new();
    PLACE.get_or_init(|| tempfile::tempdir().expect("there is a disk"))
}

/// Replies to the greeting and to the first call.
pub fn seeds() -> Vec<Vec<u8>> {
    let [hello, applied, .., failure] = calls::results();
    let framed = |id, result| calls::framed(&Reply { id, result });
    vec![
        [&[1], &framed(0, hello)[..]].concat(),
        [&[0], &framed(1, Ok(Response::Disks(Vec::new())))[..]].concat(),
        [&[0], &framed(2, applied)[..], &framed(1, failure)].concat(),
    ]
}
