//! Many volumes at once, and the socket around it all.

use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;

use ashlar_kernel_iface::model::{ModelDisk, ModelKernel};
use ashlar_targetd::{AllowedPeers, Kernel, Server, Service, Targetd};
use ashlar_targetd_protocol::{
    Bytes, Call, DataState, PROTOCOL_VERSION, PoolFormat, Reply, Request, Response, ThinId, frame,
};
use nix::unistd::Uid;
use uuid::Uuid;

use crate::wanted::*;
use crate::world::CALLER;

fn targetd(kernel: &ModelKernel) -> (tempfile::TempDir, Targetd) {
    kernel.add_disk(ModelDisk::new("DISK0", Bytes(256 << 20)));
    let directory = tempfile::tempdir().unwrap();
    let dbroot = directory.path().join("target");
    let mut model = Kernel::model(kernel);
    model.at_once = true;
    let targetd = Targetd::start(model, &dbroot).unwrap();
    let pool = pool(1, &["DISK0"], PoolFormat::BlankOnly);
    targetd
        .answer(CALLER, Request::ApplyPool(Box::new(pool)))
        .unwrap();
    (directory, targetd)
}

fn apply(wanted: Wanted) -> Request {
    Request::ApplyVolume(Box::new(wanted.0))
}

fn shots(volumes: &[u32], id: u128, tombstone: bool) -> Request {
    let mut wanted = shots_of(volumes).0;
    for member in &mut wanted.members {
        // Thin devices and names of this one alone.
        member.id = Uuid::from_u128(id << 32 | member.id.as_u128() & 0xff);
        let thin_id = id as u64 * 8 + u64::from(member.source.thin_id.value());
        member.thin_id = ThinId::try_from(1000 + thin_id).unwrap();
    }
    wanted.id = Uuid::from_u128(id);
    wanted.generation = 1 + u64::from(tombstone);
    if tombstone {
        wanted.data = DataState::Tombstone;
    }
    Request::ApplySnapshots(Box::new(wanted))
}

#[test]
fn snapshots_of_groups_that_overlap_are_taken_while_their_volumes_are_attached() {
    let kernel = ModelKernel::new();
    let (_directory, targetd) = targetd(&kernel);
    for n in 1..=4 {
        let request = apply(volume(n).new_data().at_generation(1));
        targetd.answer(CALLER, request).unwrap();
    }
    let groups: [&[u32]; 4] = [&[1, 2, 3], &[3, 2, 4], &[4, 1], &[2, 1, 4, 3]];
    thread::scope(|scope| {
        for n in 1..=4 {
            let targetd = &targetd;
            scope.spawn(move || {
                for round in 1..20 {
                    let attached = volume(n).iscsi(&["alpha"]).at_generation(2 * round);
                    targetd.answer(CALLER, apply(attached)).unwrap();
                    let detached = volume(n).at_generation(2 * round + 1);
                    targetd.answer(CALLER, apply(detached)).unwrap();
                }
            });
        }
        for (which, volumes) in groups.iter().enumerate() {
            let targetd = &targetd;
            scope.spawn(move || {
                for round in 0..20 {
                    let id = 1 + which as u128 + 4 * round;
                    targetd.answer(CALLER, shots(volumes, id, false)).unwrap();
                    targetd.answer(CALLER, shots(volumes, id, true)).unwrap();
                }
            });
        }
    });
    assert_eq!(kernel.careless_snapshots(), []);
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
                        targetd.answer(CALLER, request).unwrap();
                    }
                }
            });
        }
    });
    let Ok(Response::Objects {
        volumes, foreign, ..
    }) = targetd
        .answer(CALLER, Request::ListObjects)
        .map(|answer| answer.response)
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
