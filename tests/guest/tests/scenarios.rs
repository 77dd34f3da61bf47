//! Every scenario on the real kernel. The same files run on the model in `ashlar-tests`.

use ashlar_guest_tests::Guest;
use ashlar_tests::{runner, scenario};

#[tokio::test]
async fn scenarios_hold_on_the_real_kernel() {
    for scenario in scenario::all() {
        println!("scenario {}", scenario.name);
        let name = format!("scenario-{}", scenario.name);
        let mut guest = Guest::boot(&name, false).expect("the appliance boots");
        if let Err(failed) = runner::run(&scenario, &mut guest).await {
            let journal = guest
                .site
                .appliance
                .run("journalctl -b -n 60 --no-pager -u 'ashlar-*'");
            panic!(
                "{failed}\n{}",
                journal.map(|o| o.stdout).unwrap_or_default()
            );
        }
    }
}
