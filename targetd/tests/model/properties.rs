//! What holds from any state to any other.

use ashlar_kernel_iface::tree::Errno;
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
    iscsi: Option<ExportSpec>,
    nvme: Option<ExportSpec>,
    force: bool,
}

impl Spec {
    fn wanted(&self, mib: u64) -> Wanted {
        let mut wanted = volume(1).sized(mib);
        if let Some((at, hosts)) = &self.iscsi {
            wanted = wanted.iscsi_at(&addresses(at), listed(hosts));
        }
        if let Some((at, hosts)) = &self.nvme {
            wanted = wanted.nvme_at(&addresses(at), listed(hosts));
        }
        wanted.0.force = self.force;
        wanted
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
    (0..3_u64, export(), export(), any::<bool>()).prop_map(|(growth, iscsi, nvme, force)| Spec {
        growth,
        iscsi,
        nvme,
        force,
    })
}

/// A world in which these states were reached one after the other, and the size by then.
fn reached(specs: &[Spec]) -> (World, u64) {
    let world = World::pooled();
    world.apply(&volume(1).new_data()).unwrap();
    let mut mib = 8;
    for spec in specs {
        mib += spec.growth;
        world.apply(&spec.wanted(mib)).unwrap();
    }
    (world, mib)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_state_converges_to_any_other_and_then_stands_still(
        specs in proptest::collection::vec(spec(), 1..5)
    ) {
        let (world, mib) = reached(&specs);
        let last = specs.last().unwrap();
        world.kernel.take_log();
        let again = world.apply(&last.wanted(mib)).unwrap();
        prop_assert!(again.steps.is_empty(), "{:?}", again);
        prop_assert_eq!(world.kernel.take_log(), Vec::new());
        last.check_access(&world);
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
        let empty = World::pooled().picture();
        let (world, _) = reached(&specs);
        world.apply(&volume(1).tombstone().forced()).unwrap();
        prop_assert_eq!(world.picture(), empty);
    }
}

#[test]
fn every_step_between_nothing_and_everything_can_be_the_last() {
    let nothing = Spec {
        growth: 0,
        iscsi: None,
        nvme: None,
        force: true,
    };
    let all = Some(([true, true], [Some(0), Some(1), None]));
    let everything = Spec {
        growth: 1,
        iscsi: all,
        nvme: all,
        force: true,
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
    mib: u64,
    /// Calls that change the kernel; at least one.
    steps: usize,
    arrived: Vec<String>,
}

impl Way {
    fn new(from: Spec, to: Spec) -> Way {
        let (world, mib) = reached(std::slice::from_ref(&from));
        let mib = mib + to.growth;
        world.kernel.take_log();
        world.apply(&to.wanted(mib)).unwrap();
        Way {
            steps: world.kernel.take_log().len().max(1),
            arrived: tidied(&world),
            from,
            to,
            mib,
        }
    }

    fn survives_a_crash_after(&self, step: u64) {
        let (world, _) = reached(std::slice::from_ref(&self.from));
        world.kernel.stop_after(step);
        // Only where there was nothing to do can it be done.
        let died = world.apply(&self.to.wanted(self.mib)).is_err() || self.steps == 1;
        assert!(died, "step {step}");
        world.restart();
        self.arrives(&world, step);
    }

    fn survives_a_fault_at(&self, step: u64) {
        let (world, _) = reached(std::slice::from_ref(&self.from));
        world.kernel.fail_step(step, Errno::EIO);
        match world.apply(&self.to.wanted(self.mib)) {
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
        world.apply(&self.to.wanted(self.mib)).unwrap();
        let again = world.apply(&self.to.wanted(self.mib)).unwrap();
        assert!(again.steps.is_empty(), "step {step}: {again:?}");
        assert_eq!(tidied(world), self.arrived, "step {step}");
        self.to.check_access(world);
    }
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
