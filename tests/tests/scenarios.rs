//! Every scenario on the model kernel. `ashlar-guest-tests` runs the same files on the real one.

use ashlar_tests::model::Model;
use ashlar_tests::{runner, scenario};

#[tokio::test]
async fn scenarios_hold_on_the_model_kernel() {
    let mut failures = Vec::new();
    for scenario in scenario::all() {
        let mut model = Model::boot().expect("the model boots");
        if let Err(failed) = runner::run(&scenario, &mut model).await {
            failures.push(failed.to_string());
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
