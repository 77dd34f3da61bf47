//! Every scenario on the real kernel. The same files run on the model in `ashlar-tests`.

use ashlar_guest_tests::Guest;
use ashlar_tests::{runner, scenario};

/// One that fails keeps none of the others from being told: each has an appliance of its own.
#[tokio::test]
async fn scenarios_hold_on_the_real_kernel() {
    let mut failures = Vec::new();
    for scenario in scenario::all() {
        println!("scenario {}", scenario.name);
        let name = format!("scenario-{}", scenario.name);
        let mut guest = Guest::boot(&name, false).expect("the appliance boots");
        if let Err(failed) = runner::run(&scenario, &mut guest).await {
            let journal = guest
                .site
                .appliance
                .run("journalctl -b -n 60 --no-pager -u 'ashlar-*'");
            let journal = journal.map(|o| o.stdout).unwrap_or_default();
            println!("{failed}\n{journal}");
            failures.push(failed.to_string());
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
