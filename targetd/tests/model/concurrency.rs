//! Many volumes at once, and the socket around it all.

use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;

use ashlar_kernel_iface::model::{ModelDisk, ModelKernel};
use ashlar_targetd::{AllowedPeers, Kernel, Server, Service, Targetd};
use ashlar_targetd_protocol::{
    Bytes, Call, PROTOCOL_VERSION, PoolFormat, Reply, Request, Response, frame,
};
use nix::unistd::Uid;

use crate::wanted::*;

fn targetd(kernel: &ModelKernel) -> (tempfile::TempDir, Targetd) {
    kernel.add_disk(ModelDisk::new("DISK0", Bytes(256 << 20)));
    let directory = tempfile::tempdir().unwrap();
    let dbroot = directory.path().join("target");
    let mut model = Kernel::model(kernel);
    model.at_once = true;
    let targetd = Targetd::start(model, &dbroot).unwrap();
    let pool = pool(1, &["DISK0"], PoolFormat::BlankOnly);
    targetd.answer(Request::ApplyPool(Box::new(pool))).unwrap();
    (directory, targetd)
}

fn apply(wanted: Wanted) -> Request {
    Request::ApplyVolume(Box::new(wanted.0))
}

/// A volume's whole life.
fn life(n: u32) -> [Request; 4] {
    let attached = volume(n).iscsi(&["alpha"]).nvme(&["alpha", "beta"]);
    [
        apply(volume(n).new_data().at_generation(1)),
        apply(attached.at_generation(2)),
        apply(volume(n).at_generation(3)),
        apply(volume(n).tombstone().at_generation(4)),
    ]
}

#[test]
fn volumes_that_share_ports_and_hosts_come_and_go_at_once() {
    let kernel = ModelKernel::new();
    let (_directory, targetd) = targetd(&kernel);
    thread::scope(|scope| {
        for worker in 0..16 {
            let targetd = &targetd;
            scope.spawn(move || {
                for round in 0..8 {
                    for request in life(1 + worker * 100 + round) {
                        targetd.answer(request).unwrap();
                    }
                }
            });
        }
    });
    let Ok(Response::Objects {
        volumes, foreign, ..
    }) = targetd.answer(Request::ListObjects)
    else {
        panic!("no list of objects");
    };
    assert_eq!((volumes.len(), foreign.len()), (0, 0));
    let nvmet = ashlar_kernel_iface::nvmet::Nvmet::new(&kernel);
    assert_eq!(
        (nvmet.ports().unwrap().len(), nvmet.hosts().unwrap().len()),
        (0, 0)
    );
}

#[test]
fn a_volume_lives_its_life_over_the_socket() {
    let kernel = ModelKernel::new();
    let (directory, targetd) = targetd(&kernel);
    let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
    let allowed = AllowedPeers {
        agent: Uid::current(),
    };
    let server = Server::spawn(Arc::new(targetd), listener, allowed).unwrap();
    let mut stream = UnixStream::connect(directory.path().join("socket")).unwrap();
    let mut ask = |id, request| {
        let bytes = frame::encode(&Call { id, request }).unwrap();
        stream.write_all(&bytes).unwrap();
        let reply: Reply = frame::read(&mut stream).unwrap().unwrap();
        assert_eq!(reply.id, id);
        reply.result.unwrap()
    };
    let version = PROTOCOL_VERSION;
    let Response::Hello { features, .. } = ask(1, Request::Hello { version }) else {
        panic!("no greeting");
    };
    assert!(
        features.iter().all(|feature| feature.problem.is_none()),
        "{features:?}"
    );
    for (id, request) in (2..).zip(life(1)) {
        assert!(matches!(ask(id, request), Response::Applied(report) if !report.steps.is_empty()));
    }
    server.stop();
}
