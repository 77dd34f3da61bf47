//! Every scenario on the real kernel. The same files run on the model in `ashlar-tests`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::Context;
use ashlar_guest_tests::Guest;
use ashlar_tests::runner;
use ashlar_tests::scenario::{self, Scenario};

/// How many run at a time. An appliance that boots or waits leaves half of the host idle.
const AT_A_TIME: usize = 2;

/// One that fails keeps none of the others from being told: each has an appliance of its own.
#[test]
fn scenarios_hold_on_the_real_kernel() {
    let scenarios = scenario::all();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    println!("scenario {}", scenario.name);
                    if let Err(failed) = holds(scenario) {
                        println!("{failed:#}");
                        failures.lock().unwrap().push(scenario.name.clone());
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "failed: {}", failures.join(", "));
}

/// Makes the box's card a port of Fibre Channel, in software. There is nobody to see it.
const FC_PORT: &str = "modprobe fcoe && ip link set management promisc on && \
                       echo management >/sys/module/libfcoe/parameters/create_vn2vn";

/// Waits for guests, so each needs a thread of its own.
fn holds(scenario: &Scenario) -> anyhow::Result<()> {
    let name = format!("scenario-{}", scenario.name);
    let mut guest = Guest::boot(&name, false).with_context(|| format!("{name} does not boot"))?;
    if scenario.name == "fibre-channel" {
        guest
            .site
            .appliance
            .check(FC_PORT)
            .context("making the card a port of Fibre Channel")?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime
        .block_on(runner::run(scenario, &mut guest))
        .map_err(|failed| {
            let journal = guest
                .site
                .appliance
                .run("journalctl -b -n 60 --no-pager -u 'ashlar-*'");
            let journal = journal.map(|o| o.stdout).unwrap_or_default();
            anyhow::anyhow!("{failed}\n{journal}")
        })
}
