use std::io::{Read, Write};
use std::sync::mpsc;
use std::time::Duration;

use ashlar_targetd_protocol::{Call, FailureKind, PROTOCOL_VERSION, Reply, frame};
use nix::unistd::Uid;

use super::*;

/// Answers `ListDisks` at once and holds `ListObjects` until released.
struct Scripted {
    begun: Mutex<mpsc::Sender<()>>,
    release: Mutex<mpsc::Receiver<()>>,
}

impl Service for Scripted {
    fn answer(&self, request: Request) -> Result<Response, Failure> {
        match request {
            Request::Hello { version } => Ok(Response::Hello {
                version,
                kernel: "model".to_owned(),
                features: Vec::new(),
            }),
            Request::ListObjects => {
                self.begun.lock().unwrap().send(()).unwrap();
                self.release.lock().unwrap().recv().unwrap();
                Ok(Response::Disks(Vec::new()))
            }
            _ => Ok(Response::Disks(Vec::new())),
        }
    }
}

struct Bench {
    server: Server,
    begun: mpsc::Receiver<()>,
    release: mpsc::Sender<()>,
    path: std::path::PathBuf,
    _directory: tempfile::TempDir,
}

fn bench() -> Bench {
    let (begin, begun) = mpsc::channel();
    let (release, held) = mpsc::channel();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = bind(&SocketOptions {
        path: path.clone(),
        group: None,
    });
    let service = Scripted {
        begun: Mutex::new(begin),
        release: Mutex::new(held),
    };
    let allowed = AllowedPeers {
        agent: Uid::current(),
    };
    Bench {
        server: Server::spawn(Arc::new(service), listener.unwrap(), allowed).unwrap(),
        begun,
        release,
        path,
        _directory: directory,
    }
}

impl Bench {
    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    fn greeted(&self) -> UnixStream {
        let mut stream = self.connect();
        send(
            &mut stream,
            1,
            Request::Hello {
                version: PROTOCOL_VERSION,
            },
        );
        assert!(matches!(
            receive(&mut stream).result,
            Ok(Response::Hello { .. })
        ));
        stream
    }
}

fn send(stream: &mut UnixStream, id: u64, request: Request) {
    let bytes = frame::encode(&Call { id, request }).unwrap();
    stream.write_all(&bytes).unwrap();
}

fn receive(stream: &mut UnixStream) -> Reply {
    frame::read(stream).unwrap().unwrap()
}

fn closed(stream: &mut UnixStream) -> bool {
    matches!(stream.read(&mut [0]), Ok(0))
}

#[test]
fn hello_comes_first_and_its_version_must_agree() {
    let bench = bench();
    for request in [
        Request::Hello {
            version: PROTOCOL_VERSION + 1,
        },
        Request::ListDisks,
    ] {
        let mut stream = bench.connect();
        send(&mut stream, 1, request);
        let refused = receive(&mut stream).result.unwrap_err();
        assert_eq!(refused.kind, FailureKind::Refused);
        assert!(closed(&mut stream));
    }
    bench.server.stop();
}

#[test]
fn a_malformed_frame_closes_its_connection_and_no_other() {
    let bench = bench();
    let (mut broken, mut whole) = (bench.greeted(), bench.greeted());
    broken.write_all(&[0, 0, 0, 2, 0xff, 0xff]).unwrap();
    assert!(closed(&mut broken));
    send(&mut whole, 2, Request::ListDisks);
    assert!(receive(&mut whole).result.is_ok());
    bench.server.stop();
}

#[test]
fn a_slow_call_holds_no_other_up() {
    let bench = bench();
    let mut stream = bench.greeted();
    send(&mut stream, 2, Request::ListObjects);
    bench.begun.recv().unwrap();
    send(&mut stream, 3, Request::ListDisks);
    assert_eq!(receive(&mut stream).id, 3);
    bench.release.send(()).unwrap();
    assert_eq!(receive(&mut stream).id, 2);
    bench.server.stop();
}

#[test]
fn stopping_finishes_what_has_begun() {
    let bench = bench();
    let mut stream = bench.greeted();
    send(&mut stream, 2, Request::ListObjects);
    bench.begun.recv().unwrap();
    let server = bench.server;
    let stopping = thread::spawn(move || server.stop());
    bench.release.send(()).unwrap();
    let reply = receive(&mut stream);
    assert!(reply.id == 2 && reply.result.is_ok());
    assert!(closed(&mut stream));
    stopping.join().unwrap();
}

#[test]
fn connections_are_bounded() {
    let bench = bench();
    let kept: Vec<UnixStream> = (0..MOST_CONNECTIONS).map(|_| bench.greeted()).collect();
    assert!(closed(&mut bench.connect()));
    drop(kept);
    bench.server.stop();
}

#[test]
fn both_ends_of_a_pair_can_be_used_in_one_process() {
    let bench = bench();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    bench.server.adopt(ours).unwrap();
    send(
        &mut theirs,
        1,
        Request::Hello {
            version: PROTOCOL_VERSION,
        },
    );
    assert!(receive(&mut theirs).result.is_ok());
    bench.server.stop();
}
