//! What holds from any state to any other.

use ashlar_kernel_iface::model::Step;
use ashlar_kernel_iface::tree::Errno;
use ashlar_targetd_protocol::Failure;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::wanted::*;
use crate::world::World;

const HOSTS: [&str; 3] = ["alpha", "beta", "gamma"];

/// An export in numbers: which addresses, and per host whether it is listed and with which
/// version of its secret (0: without).
type ExportSpec = ([bool; 2], [Option<u32>; 3]);

#[derive(Clone, Debug)]
struct Spec {
    growth: u64,
    iops: (u64, u64),
    total: Option<u64>,
    /// Whether its data is to be exchanged for that of another volume, which is active; or, when
    /// that is being made, not any more.
    revert: bool,
    held: bool,
    iscsi: Option<ExportSpec>,
    nvme: Option<ExportSpec>,
    cut: bool,
}

/// Where a volume is on its way from one state to the next.
#[derive(Clone, Copy, Debug)]
struct Stage {
    mib: u64,
    thin: u64,
    /// What it was on before.
    before: Option<(u64, Left)>,
}

/// How far a volume has left what it was on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Left {
    /// It is on it until the other is there.
    Not,
    /// It is on the other.
    Kept,
    /// And this is gone.
    Retired,
}

/// The volume that reverts take their data from.
const SOURCE: u32 = 40;

impl Stage {
    const FIRST: Stage = Stage {
        mib: 8,
        thin: 1,
        before: None,
    };

    fn next(self, spec: &Spec) -> Stage {
        let Stage { mib, thin, before } = self;
        let (thin, before) = match (before, spec.revert) {
            (Some((before, Left::Not)), false) => (thin, Some((before, Left::Kept))),
            (Some((before, Left::Not)), true) => (before, Some((thin, Left::Retired))),
            (Some((before, Left::Kept)), _) => (thin, Some((before, Left::Retired))),
            // What was given up has the highest number.
            (Some((before, Left::Retired)), true) => {
                (thin.max(before) + 100, Some((thin, Left::Not)))
            }
            (None, true) => (thin + 100, Some((thin, Left::Not))),
            (Some((_, Left::Retired)) | None, false) => (thin, None),
        };
        Stage {
            mib: mib + spec.growth,
            thin,
            before,
        }
    }

    fn volume(self) -> Wanted {
        let wanted = volume(1).sized(self.mib).on_thin(self.thin);
        match self.before {
            Some((before, Left::Not)) => wanted
                .new_data()
                .made_from(SOURCE, u64::from(SOURCE))
                .retiring(1, before),
            Some((before, Left::Kept)) => wanted.replacing().retiring(1, before),
            Some((before, Left::Retired)) => wanted.retiring(1, before),
            None => wanted,
        }
    }

    /// What its device is on.
    fn live(self) -> u64 {
        match self.before {
            Some((before, Left::Not)) => before,
            _ => self.thin,
        }
    }
}

impl Spec {
    fn wanted(&self, stage: Stage) -> Wanted {
        let mut wanted = stage.volume().iops(self.iops.0, self.iops.1);
        if let Some(total) = self.total {
            wanted = wanted.total_bytes(total);
        }
        if let Some((at, hosts)) = &self.iscsi {
            wanted = wanted.iscsi_at(&addresses(at), listed(hosts));
        }
        if let Some((at, hosts)) = &self.nvme {
            wanted = wanted.nvme_at(&addresses(at), listed(hosts));
        }
        wanted.0.held = self.held;
        match self.cut {
            true => wanted.cutting(&HOSTS),
            false => wanted,
        }
    }

    /// The device as it is when this state is reached.
    fn check_device(&self, world: &World, stage: Stage) {
        let device = ashlar_targetd::thin::observe(
            &ashlar_targetd::Kernel::model(&world.kernel),
            &volume_device(1),
        );
        let device = device.unwrap();
        let wanted = self.held || self.iscsi.is_some() || self.nvme.is_some();
        assert_eq!(device.active().is_some(), wanted, "{device:?}");
        if let Some(device) = device.active() {
            assert_eq!(u64::from(device.thin_id), stage.live());
            assert_eq!(device.size.0, stage.mib * MIB);
            let spoilt = device.read_only || device.second_table || device.suspended;
            assert!(!spoilt, "{device:?}");
        }
        assert!(!world.suspended(&volume_device(SOURCE)));
        if let Some((before, left)) = stage.before {
            assert_eq!(world.holds(before).is_some(), left != Left::Retired);
            assert!(left == Left::Retired || world.holds(stage.thin) == Some(2));
        }
    }

    /// What hosts can do when this state is reached.
    fn check_access(&self, world: &World) {
        for (index, host) in HOSTS.iter().enumerate() {
            for at in 0..2 {
                for version in 0..3 {
                    let allowed = |spec: &Option<ExportSpec>| {
                        spec.is_some_and(|(open, hosts)| {
                            // Who need not prove anything may offer any secret.
                            open[at] && hosts[index].is_some_and(|v| v == version || v == 0)
                        })
                    };
                    let chap = (version > 0).then(|| chap(host, version));
                    let login = world.kernel.iscsi_login(
                        portal(at).socket(),
                        &target(1),
                        &initiator(host),
                        chap.as_ref(),
                    );
                    assert_eq!(
                        login.is_ok(),
                        allowed(&self.iscsi),
                        "{host} {at} {version} {login:?}"
                    );
                    let key = (version > 0).then(|| key(version));
                    let connect = world.kernel.nvme_connect(
                        port(at).socket(),
                        &subsystem(1),
                        &nvme_host(host),
                        key.as_ref(),
                    );
                    assert_eq!(
                        connect.is_ok(),
                        allowed(&self.nvme),
                        "{host} {at} {version} {connect:?}"
                    );
                }
            }
        }
    }
}

fn addresses(at: &[bool; 2]) -> Vec<usize> {
    (0..2).filter(|index| at[*index]).collect()
}

fn listed(hosts: &[Option<u32>; 3]) -> impl Iterator<Item = (&'static str, Option<u32>)> {
    let listed = |(index, version): (usize, &Option<u32>)| {
        Some((HOSTS[index], version.map(|v| (v > 0).then_some(v))?))
    };
    hosts.iter().enumerate().filter_map(listed)
}

fn export() -> impl Strategy<Value = Option<ExportSpec>> {
    let at = prop_oneof![Just([true, false]), Just([false, true]), Just([true, true])];
    let host = || proptest::option::of(0..3_u32);
    proptest::option::of((at, [host(), host(), host()]))
}

fn spec() -> impl Strategy<Value = Spec> {
    let iops = (0..3_u64, 0..3_u64);
    let total = proptest::option::of(prop_oneof![Just(1 << 20), Just(3 << 20)]);
    let limits = (iops, total);
    let flags = any::<[bool; 3]>();
    (0..3_u64, limits, export(), export(), flags).prop_map(
        |(growth, (iops, total), iscsi, nvme, flags)| Spec {
            growth,
            revert: flags[0],
            held: flags[1],
            iops,
            total,
            iscsi,
            nvme,
            cut: flags[2],
        },
    )
}

/// With a volume that others are made from, and nothing else.
fn furnished() -> World {
    let world = World::pooled();
    world.apply(&volume(SOURCE).new_data()).unwrap();
    world.write(u64::from(SOURCE), 2);
    world.apply(&volume(SOURCE).held()).unwrap();
    world
}

/// A world in which these states were reached one after the other, and the stage by then.
fn reached(specs: &[Spec]) -> (World, Stage) {
    let world = furnished();
    world.apply(&volume(1).new_data()).unwrap();
    let mut stage = Stage::FIRST;
    for spec in specs {
        stage = stage.next(spec);
        world.apply(&spec.wanted(stage)).unwrap();
    }
    (world, stage)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_state_converges_to_any_other_and_then_stands_still(
        specs in proptest::collection::vec(spec(), 1..5)
    ) {
        let (world, stage) = reached(&specs);
        let last = specs.last().unwrap();
        world.kernel.take_log();
        let again = world.apply(&last.wanted(stage)).unwrap();
        prop_assert!(again.steps.is_empty(), "{:?}", again);
        // An idle volume is asked of its pool; whether it was ever made, only that knows.
        let asked = |call: &&Step| call.outcome.is_err() || is_rest(&call.operation);
        let log = world.kernel.take_log();
        prop_assert_eq!(log.iter().find(|call| !asked(call)), None);
        last.check_access(&world);
        last.check_device(&world, stage);
    }

    #[test]
    fn a_crash_after_any_step_is_recovered(from in spec(), to in spec(), at in any::<Index>()) {
        let way = Way::new(from, to);
        way.survives_a_crash_after(at.index(way.steps) as u64);
    }

    #[test]
    fn a_fault_at_any_step_is_reported_and_recovered(
        from in spec(), to in spec(), at in any::<Index>()
    ) {
        let way = Way::new(from, to);
        way.survives_a_fault_at(at.index(way.steps) as u64 + 1);
    }

    #[test]
    fn a_deleted_volume_leaves_nothing(specs in proptest::collection::vec(spec(), 0..3)) {
        let empty = furnished().picture();
        let (world, stage) = reached(&specs);
        world.apply(&stage.volume().tombstone().cutting(&HOSTS)).unwrap();
        prop_assert_eq!(world.picture(), empty);
        prop_assert_eq!(world.holds(stage.thin), None);
        if let Some((before, _)) = stage.before {
            prop_assert_eq!(world.holds(before), None);
        }
    }
}

#[test]
fn every_step_between_nothing_and_everything_can_be_the_last() {
    let nothing = Spec {
        growth: 0,
        iops: (0, 0),
        total: None,
        revert: false,
        held: false,
        iscsi: None,
        nvme: None,
        cut: true,
    };
    let all = Some(([true, true], [Some(0), Some(1), None]));
    let everything = Spec {
        growth: 1,
        iops: (100, 100),
        total: Some(1 << 20),
        revert: true,
        held: true,
        iscsi: all,
        nvme: all,
        cut: true,
    };
    for (from, to) in [(&nothing, &everything), (&everything, &nothing)] {
        let way = Way::new(from.clone(), to.clone());
        assert!(way.steps > 20, "{}", way.steps);
        for step in 0..way.steps as u64 {
            way.survives_a_crash_after(step);
            way.survives_a_fault_at(step + 1);
        }
    }
}

/// From one state to another, and how it is when nothing goes wrong.
struct Way {
    from: Spec,
    to: Spec,
    stage: Stage,
    /// Calls that change the kernel; at least one.
    steps: usize,
    arrived: Vec<String>,
}

impl Way {
    fn new(from: Spec, to: Spec) -> Way {
        let (world, stage) = reached(std::slice::from_ref(&from));
        let stage = stage.next(&to);
        world.kernel.take_log();
        world.apply(&to.wanted(stage)).unwrap();
        Way {
            steps: world.kernel.take_log().len().max(1),
            arrived: tidied(&world),
            from,
            to,
            stage,
        }
    }

    fn wanted(&self) -> Wanted {
        self.to.wanted(self.stage)
    }

    fn survives_a_crash_after(&self, step: u64) {
        let (world, _) = reached(std::slice::from_ref(&self.from));
        world.kernel.stop_after(step);
        // Only where there was nothing to do can it be done.
        let died = world.apply(&self.wanted()).is_err() || self.steps == 1;
        assert!(died, "step {step}");
        world.restart();
        self.arrives(&world, step);
    }

    fn survives_a_fault_at(&self, step: u64) {
        let (world, _) = reached(std::slice::from_ref(&self.from));
        world.kernel.fail_step(step, Errno::EIO);
        match world.apply(&self.wanted()) {
            Ok(_) => assert_eq!(self.steps, 1, "step {step}"),
            Err(failure) => {
                assert!(failure.message.contains("EIO"), "{failure}");
                assert!(!failure.message.contains("Secret0"), "{failure}");
            }
        }
        self.arrives(&world, step);
    }

    fn arrives(&self, world: &World, step: u64) {
        world.kernel.revive();
        world.apply(&self.wanted()).unwrap();
        let again = world.apply(&self.wanted()).unwrap();
        assert!(again.steps.is_empty(), "step {step}: {again:?}");
        assert_eq!(tidied(world), self.arrived, "step {step}");
        self.to.check_access(world);
        // The source goes on by its own apply, where nothing was to be made from it any more.
        world.apply(&volume(SOURCE).held()).unwrap();
        self.to.check_device(world, self.stage);
    }
}

/// Resting and going on, for nothing.
fn is_rest(operation: &str) -> bool {
    operation.starts_with("dm suspend") || operation.starts_with("dm resume")
}

/// All names, but for a host or a port that nobody uses any more: whoever died between the last
/// use and the removal left it behind, unreachable, until the next volume uses it.
fn tidied(world: &World) -> Vec<String> {
    let names = world.picture();
    let used = |name: &String| {
        let shared = ["nvmet/hosts/", "nvmet/ports/"];
        match shared.iter().find_map(|prefix| name.strip_prefix(prefix)) {
            None => true,
            Some(rest) => {
                let directory = rest.split('/').next().unwrap_or_default();
                let host = format!("-> nvmet/hosts/{directory}");
                let port = format!("nvmet/ports/{directory}/subsystems/nqn");
                names
                    .iter()
                    .any(|other| other.ends_with(&host) || other.starts_with(&port))
            }
        }
    };
    names.iter().filter(|name| used(name)).cloned().collect()
}

/// What is wanted of snapshots that stay: which are held.
type Held = [bool; 3];

const VOLUMES: [u32; 3] = [1, 2, 3];

/// Takes the snapshots, unless they are there, and holds the chosen, each by itself; answers the
/// steps.
fn snapshots(world: &World, held: Held, provision: bool) -> Result<Vec<String>, Failure> {
    let mut steps = Vec::new();
    if provision {
        steps.extend(world.snapshots(&shots_of(&VOLUMES))?.steps);
    }
    for (n, held) in VOLUMES.into_iter().zip(held) {
        let one = shots_of(&[n]).present().holding(|_| held);
        steps.extend(world.snapshots(&one)?.steps);
    }
    Ok(steps)
}

/// Three volumes, of which the chosen are in use.
fn volumes(used: Held) -> World {
    let world = World::pooled();
    for (n, used) in VOLUMES.into_iter().zip(used) {
        world.apply(&volume(n).new_data()).unwrap();
        world.write(u64::from(n), 1);
        let mut wanted = volume(n);
        wanted.0.held = used;
        world.apply(&wanted).unwrap();
    }
    world.kernel.take_log();
    world
}

fn check_snapshots(world: &World, held: Held) {
    let chosen = VOLUMES.iter().zip(held).filter(|(_, held)| *held);
    let chosen: Vec<_> = chosen.map(|(n, _)| snapshot_id(n + 100)).collect();
    assert_eq!(world.active_snapshots(), chosen);
    let found = VOLUMES.map(|n| world.holds(u64::from(n + 100)));
    assert!(found[0].is_some());
    assert_eq!(found, [found[0]; 3]);
    for (n, held) in VOLUMES.into_iter().zip(held) {
        if held {
            assert!(!world.suspended(&snapshot_device(n + 100)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn snapshots_converge_and_then_stand_still(
        used: Held, all in proptest::collection::vec(any::<(Held, bool)>(), 1..4)
    ) {
        let world = volumes(used);
        snapshots(&world, all[0].0, true).unwrap();
        for (held, provision) in &all {
            snapshots(&world, *held, *provision).unwrap();
            let again = snapshots(&world, *held, *provision).unwrap();
            prop_assert!(again.is_empty(), "{:?}", again);
            check_snapshots(&world, *held);
        }
        let last = all.last().unwrap().0;
        world.kernel.take_log();
        snapshots(&world, last, false).unwrap();
        prop_assert_eq!(world.kernel.take_log(), Vec::new());
        world.snapshots(&shots_of(&VOLUMES).tombstone()).unwrap();
        prop_assert!(world.active_snapshots().is_empty());
        prop_assert_eq!(VOLUMES.map(|n| world.holds(u64::from(n + 100))), [None; 3]);
    }

    #[test]
    fn snapshots_recover_from_a_crash_or_a_fault_at_any_step(
        used: Held, from in any::<Option<Held>>(), to: Held, dies: bool, at in any::<Index>()
    ) {
        let start = || {
            let world = volumes(used);
            if let Some(from) = from {
                snapshots(&world, from, true).unwrap();
            }
            world.kernel.take_log();
            world
        };
        let wanted = |world: &World| snapshots(world, to, from.is_none());
        let world = start();
        wanted(&world).unwrap();
        let steps = world.calls().len().max(1);
        let arrived = world.picture();

        let world = start();
        match dies {
            true => world.kernel.stop_after(at.index(steps) as u64),
            false => world.kernel.fail_step(at.index(steps) as u64 + 1, Errno::EIO),
        }
        let failed = wanted(&world).is_err();
        prop_assert!(failed || steps == 1);
        if dies {
            world.restart();
        }
        world.kernel.revive();
        for n in VOLUMES {
            world.write(u64::from(n), 2);
        }
        wanted(&world).unwrap();
        prop_assert_eq!(world.picture(), arrived);
        check_snapshots(&world, to);
        for (n, used) in VOLUMES.into_iter().zip(used) {
            prop_assert!(!used || !world.suspended(&volume_device(n)));
        }
    }
}
