use std::fs::{self, Permissions};
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use ashlar_targetd_protocol::{
    Bytes, Call, FailureKind, OpenObject, PROTOCOL_VERSION, Reply, Response, frame,
};
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::Uid;

use super::*;

/// Answers `ListDisks` at once and holds `ListObjects` until released.
struct Scripted {
    begun: Mutex<mpsc::Sender<()>>,
    release: Mutex<mpsc::Receiver<()>>,
    ended: Arc<Mutex<Vec<Caller>>>,
    changes: Arc<Changes>,
}

impl Service for Scripted {
    fn answer(&self, _: Caller, request: Request) -> Result<Answer, Failure> {
        let response = match request {
            Request::Hello { version } => Response::Hello {
                version,
                kernel: "model".to_owned(),
                features: Vec::new(),
            },
            Request::ListObjects => {
                self.begun.lock().unwrap().send(()).unwrap();
                self.release.lock().unwrap().recv().unwrap();
                Response::Disks(Vec::new())
            }
            Request::OpenDevice { .. } => {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(b"passed").unwrap();
                let size = Bytes(6);
                return Ok(Answer::with(Response::Opened { size }, file));
            }
            _ => Response::Disks(Vec::new()),
        };
        Ok(Answer::from(response))
    }

    fn changes(&self) -> &Changes {
        &self.changes
    }

    fn gone(&self, caller: Caller) {
        self.ended.lock().unwrap().push(caller);
    }
}

struct Bench {
    server: Server,
    begun: mpsc::Receiver<()>,
    release: mpsc::Sender<()>,
    ended: Arc<Mutex<Vec<Caller>>>,
    changes: Arc<Changes>,
    path: std::path::PathBuf,
    _directory: tempfile::TempDir,
}

fn bench() -> Bench {
    admitting(Uid::current())
}

fn admitting(agent: Uid) -> Bench {
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
        ended: Arc::default(),
        changes: Arc::default(),
    };
    let ended = Arc::clone(&service.ended);
    let changes = Arc::clone(&service.changes);
    let allowed = AllowedPeers { agent };
    Bench {
        server: Server::spawn(Arc::new(service), listener.unwrap(), allowed).unwrap(),
        begun,
        release,
        ended,
        changes,
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

/// What comes next on the stream, and the descriptors with it.
fn receive_with(stream: &mut UnixStream) -> (Vec<u8>, Vec<String>) {
    let (mut bytes, mut room) = (vec![0; 4096], cmsg_space!([i32; 4]));
    let (length, passed) = {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message =
            recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut room), flags).unwrap();
        let passed: Vec<i32> = message
            .cmsgs()
            .unwrap()
            .flat_map(|control| match control {
                ControlMessageOwned::ScmRights(passed) => passed,
                other => panic!("{other:?}"),
            })
            .collect();
        (message.bytes, passed)
    };
    bytes.truncate(length);
    let content = |descriptor: i32| {
        // Reading by path leaves the descriptor, which ends with the test, as it is.
        std::fs::read_to_string(format!("/proc/self/fd/{descriptor}")).unwrap()
    };
    (bytes, passed.into_iter().map(content).collect())
}

#[test]
fn a_descriptor_comes_with_the_reply_that_names_it_and_no_other() {
    let bench = bench();
    let mut stream = bench.greeted();
    let open = Request::OpenDevice {
        object: OpenObject::Volume(uuid::Uuid::from_u128(1)),
        write: false,
    };
    for (id, request, expected) in [
        (2, Request::ListDisks, vec![]),
        (3, open, vec!["passed".to_owned()]),
        (4, Request::ListDisks, vec![]),
    ] {
        send(&mut stream, id, request);
        let (bytes, passed) = receive_with(&mut stream);
        let reply: Reply = frame::read(&mut bytes.as_slice()).unwrap().unwrap();
        assert_eq!((reply.id, passed), (id, expected));
    }
    bench.server.stop();
}

#[test]
fn a_connection_is_gone_when_all_it_asked_is_answered() {
    let bench = bench();
    let mut stream = bench.greeted();
    send(&mut stream, 2, Request::ListObjects);
    bench.begun.recv().unwrap();
    drop(stream);
    let other = bench.greeted();
    assert_eq!(*bench.ended.lock().unwrap(), []);
    bench.release.send(()).unwrap();
    while bench.ended.lock().unwrap().is_empty() {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(*bench.ended.lock().unwrap(), [Caller(0)]);
    drop(other);
    bench.server.stop();
}

#[test]
fn who_waits_for_changes_holds_no_thread_and_is_told_of_each() {
    let bench = bench();
    let mut stream = bench.greeted();
    send(&mut stream, 2, Request::AwaitChange { seen: 0 });
    assert_eq!(receive(&mut stream).result, Ok(changed(1)));
    for id in 3..=4 {
        send(&mut stream, id, Request::AwaitChange { seen: 1 });
    }
    for id in 5..100 {
        send(&mut stream, id, Request::ListDisks);
        assert_eq!(receive(&mut stream).id, id);
    }
    bench.changes.count_up();
    for id in 3..=4 {
        let reply = receive(&mut stream);
        assert_eq!((reply.id, reply.result), (id, Ok(changed(2))));
    }
    bench.server.stop();
}

#[test]
fn waiting_ends_with_the_connection() {
    let bench = bench();
    let mut stream = bench.greeted();
    send(&mut stream, 2, Request::AwaitChange { seen: 1 });
    send(&mut stream, 3, Request::ListObjects);
    bench.begun.recv().unwrap();
    drop(stream);
    bench.release.send(()).unwrap();
    // Whoever is parked keeps its connection known to the service.
    while bench.ended.lock().unwrap().is_empty() {
        thread::yield_now();
    }
    assert_eq!(*bench.ended.lock().unwrap(), [Caller(0)]);
    bench.server.stop();
}

#[test]
fn waiting_ends_with_the_server() {
    let bench = bench();
    let mut stream = bench.greeted();
    send(&mut stream, 2, Request::AwaitChange { seen: 1 });
    // Read in their order, so that the one before is parked.
    send(&mut stream, 3, Request::ListDisks);
    assert_eq!(receive(&mut stream).id, 3);
    bench.server.stop();
    let reply = receive(&mut stream);
    let kind = reply.result.unwrap_err().kind;
    assert_eq!((reply.id, kind), (2, FailureKind::Stopping));
    assert!(closed(&mut stream));
}

fn changed(count: u64) -> Response {
    Response::Changed { count }
}

/// The socket's mode is not all that keeps strangers out.
#[test]
fn a_stranger_who_can_open_the_socket_is_hung_up_on() {
    const NOBODY: u32 = 65534;
    const CONNECT: &str = r#"
use Socket;
socket(my $socket, AF_UNIX, SOCK_STREAM, 0) or die "socket: $!";
connect($socket, sockaddr_un($ARGV[0])) or die "connect: $!";
print "connected", defined(sysread($socket, my $byte, 1)) ? ", hung up" : ", broken: $!";
"#;
    let us = Uid::current();
    let mut client = Command::new("perl");
    client.args(["-e", CONNECT]);
    // Root is admitted, and so is who runs the test but for being somebody else than the agent.
    let bench = if us.is_root() {
        client.uid(NOBODY).gid(NOBODY);
        bench()
    } else {
        admitting(Uid::from_raw(us.as_raw() + 1))
    };
    for open in [bench.path.as_path(), bench.path.parent().unwrap()] {
        fs::set_permissions(open, Permissions::from_mode(0o777)).unwrap();
    }
    let output = client.arg(&bench.path).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "connected, hung up", "{:?}", output.stderr);
    // Those who are admitted still are.
    if us.is_root() {
        bench.greeted();
    }
}
