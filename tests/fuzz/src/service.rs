//! All that can come over a connection to targetd.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};
use std::thread;

use ashlar_targetd::changes::Changes;
use ashlar_targetd::server::{AllowedPeers, Answer, Caller, Server, Service, SocketOptions, bind};
use ashlar_targetd_protocol::frame::{self, FrameError};
use ashlar_targetd_protocol::{
    Call, Failure, FailureKind, PROTOCOL_VERSION, Reply, Report, Request, Response,
};
use nix::unistd::Uid;

use crate::calls;

/// Sends the bytes to a running server, after a proper greeting if the first is even, and reads
/// what it answers to the end.
///
/// # Panics
/// When the server says anything that is not a reply.
pub fn run(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else {
        return;
    };
    let (mut ours, theirs) = UnixStream::pair().expect("there are descriptors");
    adopt(theirs);
    let greeting = calls::framed(&Call {
        id: 0,
        request: Request::Hello {
            version: PROTOCOL_VERSION,
        },
    });
    let greeted = choice.is_multiple_of(2);
    // The server hangs up at the first thing it does not understand.
    let sent = match greeted {
        true => ours
            .write_all(&greeting)
            .and_then(|()| ours.write_all(bytes)),
        false => ours.write_all(bytes),
    };
    drop(sent.and_then(|()| ours.shutdown(Shutdown::Write)));
    while let Some(reply) = next(&mut ours) {
        assert_ne!(frame::encode(&reply).expect("a reply encodes").len(), 0);
    }
}

fn next(stream: &mut UnixStream) -> Option<Reply> {
    match frame::read::<Reply>(stream) {
        Ok(reply) => reply,
        // It closed while something of ours was unread.
        Err(FrameError::Io(_)) => None,
        Err(error) => panic!("the server said something else: {error:?}"),
    }
}

/// There is a most of connections, and those that ended are let go a moment later.
fn adopt(stream: UnixStream) {
    static SERVER: OnceLock<Server> = OnceLock::new();
    let server = SERVER.get_or_init(server);
    for _ in 0..1_000_000 {
        let again = stream.try_clone().expect("there are descriptors");
        if server.adopt(again).is_ok() {
            return;
        }
        thread::yield_now();
    }
    panic!("connections that ended are not let go");
}

fn server() -> Server {
    let directory = tempfile::tempdir().expect("there is a disk");
    let listener = bind(&SocketOptions {
        path: directory.path().join("socket"),
        group: None,
    });
    let allowed = AllowedPeers {
        agent: Uid::current(),
    };
    Server::spawn(
        Arc::new(Echo::default()),
        listener.expect("it can listen"),
        allowed,
    )
    .expect("it starts")
}

/// Answers each request with something of the right kind.
#[derive(Default)]
struct Echo {
    changes: Changes,
}

impl Service for Echo {
    fn answer(&self, _: Caller, request: Request) -> Result<Answer, Failure> {
        let applied = |generation| {
            Ok(Response::Applied(Report {
                generation,
                ..Report::default()
            }))
        };
        let response = match request {
            Request::Hello { version } => Ok(Response::Hello {
                version,
                kernel: String::new(),
                features: Vec::new(),
            }),
            Request::ApplyPool(pool) => applied(pool.generation),
            Request::ApplyVolume(volume) => applied(volume.generation),
            Request::ApplySnapshots(snapshots) => applied(snapshots.generation),
            Request::Unexport { .. } | Request::ScrubPool { .. } => applied(0),
            Request::ListDisks => Ok(Response::Disks(Vec::new())),
            _ => Err(Failure::new(FailureKind::Missing, "there is no such thing")),
        };
        response.map(Answer::from)
    }

    fn changes(&self) -> &Changes {
        &self.changes
    }
}

/// Calls alone and in a row, greeted and not.
pub fn seeds() -> Vec<Vec<u8>> {
    let calls = calls::requests().map(|request| calls::framed(&Call { id: 7, request }));
    let all = calls.concat();
    let each = calls.iter().map(|call| [&[0], &call[..]].concat());
    each.chain([[&[1], &all[..]].concat(), [&[0], &all[..]].concat()])
        .collect()
}
