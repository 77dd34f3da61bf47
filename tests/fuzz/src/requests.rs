//! What targetd does for whoever may speak to it: any desired states, on a modelled kernel.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use arbitrary::Unstructured;
use ashlar_kernel_iface::lio::FcFabric;
use ashlar_kernel_iface::model::{ModelDisk, ModelKernel};
use ashlar_targetd::server::Caller;
use ashlar_targetd::{Kernel, Service, Targetd};
use ashlar_targetd_protocol::{
    Accesses, Bytes, Call, DataState, DesiredPool, DesiredVolume, DhGroup, DhchapExchange, Exports,
    Failure, FcAccess, FcExport, IscsiAcl, IscsiExport, NvmeExport, NvmeHost, NvmePort, PoolBefore,
    PoolDestruction, PoolDisk, PoolFormat, Qos, RaidLevel, Rate, Redundancy, Request, Response,
    Sectors, frame,
};
use tempfile::TempDir;
use uuid::Uuid;

use crate::journal::scratch;
use crate::seed::{self, word};

const MOST_REQUESTS: usize = 12;

/// Takes the bytes for requests, one after the other, with restarts and reboots between them.
///
/// # Panics
/// When an equal state is not found to be so already, when looking around fails, when a size
/// that nothing can have is taken, or when an answer tells a secret.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let mut machine = Machine::boot();
    for _ in 0..MOST_REQUESTS {
        if input.is_empty() {
            break;
        }
        match byte(&mut input) % 16 {
            0 => machine.restart(),
            1 => {
                machine.kernel.reboot();
                machine.restart();
            }
            2 => machine.look_around(),
            3 => machine.take_call(&mut input),
            4..8 => machine.apply(Request::ApplyPool(Box::new(pool(&mut input)))),
            _ => machine.apply(Request::ApplyVolume(Box::new(volume(&mut input)))),
        }
    }
    machine.look_around();
}

/// A box with three disks.
struct Machine {
    kernel: ModelKernel,
    targetd: Targetd,
    dbroot: TempDir,
}

impl Machine {
    fn boot() -> Machine {
        let kernel = ModelKernel::new();
        for (serial, size) in [("A1", 256 << 20), ("A2", 64 << 20), ("SMALL", 1 << 20)] {
            kernel.add_disk(ModelDisk::new(serial, Bytes(size)));
        }
        kernel.add_fc_host(word(seed::FC_HOST), FcFabric::LibFc);
        let dbroot = scratch();
        Machine {
            targetd: start(&kernel, dbroot.path()),
            kernel,
            dbroot,
        }
    }

    fn restart(&mut self) {
        self.targetd = start(&self.kernel, self.dbroot.path());
    }

    /// What was done once is done: the same again takes no step.
    fn apply(&self, request: Request) {
        if let Ok(Response::Applied(_)) = self.answer(request.clone()) {
            assert!(possible(&request), "{request:?}");
            let again = self.answer(request);
            let Ok(Response::Applied(report)) = &again else {
                panic!("it was so, and now {again:?}");
            };
            assert_eq!(report.steps, [""; 0], "it was so already");
        }
    }

    fn look_around(&self) {
        for request in [Request::ListDisks, Request::ListObjects] {
            if let Err(failure) = self.answer(request) {
                panic!("{failure}");
            }
        }
    }

    /// Any call that decodes.
    fn take_call(&self, input: &mut Unstructured<'_>) {
        let length = usize::from(input.arbitrary::<u16>().unwrap_or_default());
        let bytes = input.bytes(length.min(input.len())).unwrap_or_default();
        if let Ok(call) = frame::decode::<Call>(bytes) {
            drop(self.answer(call.request));
        }
    }

    fn answer(&self, request: Request) -> Result<Response, Failure> {
        let secrets = [
            seed::chap().secret.expose().to_owned(),
            seed::dhchap().expose().to_owned(),
        ];
        let answer = self.targetd.answer(Caller(1), request);
        let answer = answer.map(|answer| answer.response);
        let told = format!("{answer:?}");
        assert!(
            !secrets.iter().any(|secret| told.contains(secret)),
            "{told}"
        );
        answer
    }
}

/// What is there has a size that a device can have.
fn possible(request: &Request) -> bool {
    let fits = |size: Sectors| (1..1 << 54).contains(&size.0);
    match request {
        Request::ApplyVolume(volume) => volume.data == DataState::Tombstone || fits(volume.size),
        Request::ApplyPool(pool) => pool.absent || fits(pool.metadata) && fits(pool.block),
        _ => true,
    }
}

fn start(kernel: &ModelKernel, dbroot: &Path) -> Targetd {
    fs::create_dir_all(dbroot).expect("it is ours");
    Targetd::start(Kernel::model(kernel), dbroot).expect("nothing stands in its way")
}

fn byte(input: &mut Unstructured<'_>) -> u8 {
    input.arbitrary().unwrap_or_default()
}

fn one<T: Clone>(input: &mut Unstructured<'_>, of: &[T]) -> T {
    of[usize::from(byte(input)) % of.len()].clone()
}

/// Sizes that work, and those that nothing can have.
fn number(input: &mut Unstructured<'_>) -> u64 {
    let numbers = [
        8192,
        128,
        16_384,
        4096,
        0,
        1,
        7,
        20_480,
        131_072,
        2_097_152,
        1 << 31,
        1 << 32,
        1 << 40,
        1 << 55,
        u64::MAX / 512,
        u64::MAX / 512 + 1,
        u64::MAX - 7,
        u64::MAX,
    ];
    one(input, &numbers)
}

fn pool_id(input: &mut Unstructured<'_>) -> Uuid {
    one(input, &[seed::id(1), seed::id(1), seed::id(2), Uuid::nil()])
}

fn pool(input: &mut Unstructured<'_>) -> DesiredPool {
    let which = byte(input);
    let named = [
        "serial-A1",
        "serial-A2",
        "serial-SMALL",
        "serial-GONE",
        "serial-A1",
    ];
    let mut pool = DesiredPool {
        id: pool_id(input),
        generation: byte(input).into(),
        disks: Vec::new(),
        redundancy: None,
        metadata: Sectors(number(input)),
        block: Sectors(number(input)),
        low_water_blocks: number(input),
        format: one(
            input,
            &[PoolFormat::BlankOnly, PoolFormat::Wipe, PoolFormat::Never],
        ),
        absent: byte(input) % 8 == 7,
        destroy: None,
        grows_from: (byte(input) % 4 == 3).then(|| PoolBefore {
            disks: (byte(input) % 4).into(),
            metadata: Sectors(number(input)),
        }),
        holder: seed::id(9),
        takes: false,
    };
    let how = byte(input);
    let force = how & 1 == 1;
    pool.destroy = (how & 6 == 6).then_some(PoolDestruction { force });
    let rooms = byte(input);
    let mut room = |bit: usize| match rooms >> bit & 1 {
        1 => number(input),
        // All of the metadata on the first disk.
        _ if bit == 0 => pool.metadata.0.checked_next_multiple_of(2048).unwrap_or(0),
        _ => 0,
    };
    let named = named.iter().enumerate();
    let chosen = named.filter(|(bit, _)| which >> bit & 1 == 1);
    let disks = chosen.enumerate();
    let disks = disks.map(|(place, (_, id))| PoolDisk::new(word(id), Sectors(room(place))));
    pool.disks = disks.collect();
    redundancy(input, &mut pool);
    pool
}

/// Disks that stand in for each other, in sets that may not fit.
fn redundancy(input: &mut Unstructured<'_>, pool: &mut DesiredPool) {
    let how = byte(input);
    if how & 1 == 0 {
        return;
    }
    let sets = match how >> 1 & 3 {
        0 => vec![pool.disks.len() as u32],
        1 => vec![2, pool.disks.len().saturating_sub(2) as u32],
        2 => vec![number(input) as u32],
        _ => Vec::new(),
    };
    let level = one(input, &RaidLevel::ALL);
    pool.redundancy = Some(Redundancy { level, sets });
    for disk in &mut pool.disks {
        let how = byte(input);
        disk.stale = how % 8 == 7;
        disk.turn = u32::from(how >> 3 & 1);
        disk.takes_place = (how >> 4 == 15).then_some(pool.format);
    }
}

fn rate(input: &mut Unstructured<'_>) -> Rate {
    let limit = |input: &mut Unstructured<'_>| (byte(input) % 2 == 1).then(|| number(input));
    match byte(input) % 8 {
        0..5 => Rate::default(),
        5 => Rate::Total(number(input)),
        _ => Rate::Each {
            read: limit(input),
            write: limit(input),
        },
    }
}

fn volume(input: &mut Unstructured<'_>) -> DesiredVolume {
    let number_of_it = byte(input) % 3;
    DesiredVolume {
        id: seed::id(7 + u128::from(number_of_it)),
        generation: byte(input).into(),
        pool: pool_id(input),
        thin_id: one(input, &[5, 6, 0, 0xff_ffff])
            .try_into()
            .expect("it has 24 bits"),
        size: Sectors(number(input)),
        data: one(
            input,
            &[
                DataState::Provision,
                DataState::Replace,
                DataState::Present,
                DataState::Tombstone,
            ],
        ),
        source: None,
        retired: BTreeSet::new(),
        moving: None,
        exports: Exports {
            fc: fc(input),
            iscsi: iscsi(input, number_of_it),
            nvme: nvme(input, number_of_it),
        },
        qos: Qos {
            operations: rate(input),
            bytes: rate(input),
        },
        held: false,
        cut: match byte(input) % 2 {
            0 => Accesses::default(),
            _ => seed::accesses(),
        },
    }
}

/// Numbers of which others may have the same, at a port that is there and one that is not.
fn fc(input: &mut Unstructured<'_>) -> Option<FcExport> {
    let choice = byte(input);
    let access = FcAccess {
        lun: u64::from(choice >> 1 & 1).try_into().expect("a LUN"),
        read_only: choice & 4 == 4,
    };
    let initiators = ["2100000000000001", "2100000000000002"];
    (choice & 1 == 1).then(|| FcExport {
        ports: some(input, &[seed::FC_HOST, "20000025b5aa0c20"])
            .map(word)
            .collect(),
        unit: u64::from(choice >> 3 & 1).try_into().expect("a LUN"),
        initiators: some(input, &initiators)
            .map(|name| (word(name), access))
            .collect(),
    })
}

fn iscsi(input: &mut Unstructured<'_>, volume: u8) -> Option<IscsiExport> {
    let choice = byte(input);
    let chap = (choice & 1 == 1).then(seed::chap);
    let acl = IscsiAcl {
        mutual: chap.clone().filter(|_| choice & 2 == 2),
        read_only: choice & 4 == 4,
        chap,
    };
    let hosts = ["iqn.1993-08.org.debian:01:a", "eui.02004567a425678d"];
    let portals = ["0.0.0.0:3260", "[::1]:3260", "192.0.2.1:1"];
    (choice & 0x80 == 0).then(|| IscsiExport {
        target: target(input, "iqn", volume),
        portals: some(input, &portals).map(word).collect(),
        iser: some(input, &portals).map(word).collect(),
        initiators: some(input, &hosts)
            .map(|host| (word(host), acl.clone()))
            .collect(),
    })
}

fn nvme(input: &mut Unstructured<'_>, volume: u8) -> Option<NvmeExport> {
    let choice = byte(input);
    let key = (choice & 1 == 1).then(seed::dhchap);
    let host = NvmeHost {
        controller_key: key.clone().filter(|_| choice & 2 == 2),
        key,
        exchange: DhchapExchange {
            group: match choice & 4 {
                0 => DhGroup::None,
                _ => DhGroup::Ffdhe2048,
            },
            ..DhchapExchange::default()
        },
    };
    let hosts = [
        "nqn.2014-08.org.nvmexpress:uuid:a",
        "nqn.2014-08.org.nvmexpress.discovery",
    ];
    let ports = ["0.0.0.0:4420", "[::1]:4420", "192.0.2.1:1"];
    (choice & 0x80 == 0).then(|| NvmeExport {
        subsystem: target(input, "nqn", volume),
        ports: some(input, &ports)
            .zip([1, 2, 65_535])
            .map(|(address, port)| {
                let at = match port {
                    2 => NvmePort::Rdma(word(address)),
                    65_535 => NvmePort::Fc(word("nn-0x10000025b5aa0c1f:pn-0x20000025b5aa0c1f")),
                    _ => NvmePort::Tcp(word(address)),
                };
                (port.try_into().expect("a port"), at)
            })
            .collect(),
        hosts: some(input, &hosts)
            .map(|name| (word(name), host.clone()))
            .collect(),
    })
}

/// Mostly the volume's own name, sometimes one that others have.
fn target<T: TryFrom<String, Error: std::fmt::Debug>>(
    input: &mut Unstructured<'_>,
    kind: &str,
    volume: u8,
) -> T {
    let id = seed::id(7 + u128::from(volume));
    match byte(input) % 8 {
        0 => word(&format!("{kind}.2026-11.io.ashlar:box:shared")),
        1 => word(&format!("{kind}.2026-11.io.ashlar:box:{}", seed::id(7))),
        _ => word(&format!("{kind}.2026-11.io.ashlar:box:{id}")),
    }
}

/// Those of a list whose bit is set.
fn some<'a>(input: &mut Unstructured<'_>, of: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    let which = byte(input);
    let chosen = of
        .iter()
        .enumerate()
        .filter(move |(bit, _)| which >> bit & 1 == 1);
    chosen.map(|(_, text)| *text)
}

/// A pool and volumes in all their lives.
pub fn seeds() -> Vec<Vec<u8>> {
    let pool = [4, 1, 0, 1, 0, 1, 4, 0, 0, 0, 0, 0];
    // On a second disk, which brings room for as much metadata again.
    let growth = [4, 3, 0, 2, 2, 1, 4, 0, 0, 3, 1, 0, 0, 3, 0, 0];
    let destruction = [4, 1, 0, 99, 0, 1, 4, 2, 7, 0, 7, 0];
    let volume = |generation: u8, size: u8, data: u8, rest: &[u8]| {
        [&[8, 0, generation, 0, 0, size, data], rest].concat()
    };
    // One portal or port, two hosts, with secrets.
    let exports = [3, 7, 1, 3, 1, 7, 1, 3, 0];
    let none = [0x80, 0x80, 0];
    let life = [
        volume(1, 2, 0, &none),
        volume(2, 2, 1, &exports),
        volume(3, 7, 1, &exports),
        volume(4, 7, 1, &none),
        volume(5, 7, 2, &none),
    ];
    let beginning = [&pool[..], &life[0], &life[1]].concat();
    vec![
        pool.to_vec(),
        [&pool[..], &life.concat()].concat(),
        [&beginning[..], &growth, &[1], &growth].concat(),
        [&pool[..], &destruction, &pool].concat(),
        [&beginning[..], &[0], &life[2]].concat(),
        [
            &beginning[..],
            &[1, 4, 1, 0, 1, 0, 1, 4, 2, 0, 0, 0, 0],
            &life[2],
        ]
        .concat(),
        [&beginning[..], &volume(9, 17, 1, &exports)].concat(),
        [4, 1, 0, 1, 17, 1, 17, 0, 0].to_vec(),
        [4, 0x1f, 0, 1, 0, 9, 16, 1, 0].to_vec(),
    ]
}
