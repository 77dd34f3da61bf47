//! `ashlarctl` and pools whose disks stand in for each other.

use std::process::{Command, Output};

use ashlar_inprocess::{Appliance, DISKS, SPARE};
use serde_json::{Value, json};

struct Shell {
    appliance: Appliance,
}

impl Shell {
    /// With a pool `tank` on two disks that have the same.
    async fn new() -> Shell {
        let shell = Shell {
            appliance: Appliance::start().await,
        };
        let [first, second] = DISKS;
        let create = format!("pool create tank --disk {first} --disk {second} --redundancy raid1");
        shell.done(&create);
        shell
    }

    fn run(&self, role: &str, line: &str) -> Output {
        let pki = &self.appliance.pki;
        let (own, ca) = (pki.paths(role), pki.paths("ca"));
        Command::new(env!("CARGO_BIN_EXE_ashlarctl"))
            .args(line.split_whitespace())
            .env("ASHLAR_ENDPOINT", self.appliance.address.to_string())
            .env("ASHLAR_CERT", own.certificate)
            .env("ASHLAR_KEY", own.key)
            .env("ASHLAR_CA", ca.certificate)
            .output()
            .unwrap()
    }

    /// What it prints when it does what it should.
    #[track_caller]
    fn done(&self, line: &str) -> String {
        let output = self.run("admin", line);
        assert!(output.status.success(), "{line}: {output:?}");
        assert!(output.stderr.is_empty(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.done(&format!("{line} -o json"))).unwrap()
    }

    /// What it complains of when it fails.
    #[track_caller]
    fn failed(&self, role: &str, line: &str, code: i32) -> String {
        let output = self.run(role, line);
        assert_eq!(output.status.code(), Some(code), "{line}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_is_replaced_and_how_far_it_is_rebuilt_is_shown() {
    let shell = Shell::new().await;
    let [first, second] = DISKS;
    let pool = shell.json("pool show tank");
    assert_eq!(pool["redundancy"], "raid1");
    let member = |disk, state| json!({"disk": disk, "set": 0, "state": state});
    assert_eq!(
        pool["members"],
        json!([member(first, "in-sync"), member(second, "in-sync")])
    );
    let pool = shell.json(&format!("pool replace tank {second} {SPARE}"));
    assert_eq!(pool["disks"], json!([first, SPARE]));
    assert_eq!(pool["members"][1], member(SPARE, "rebuilding"));
    let shown = shell.done("pool show tank");
    let lines = ["0 rebuild 25 %", "serial-SPARE rebuilding", "raid1"];
    for line in lines {
        assert!(shown.contains(line), "{shown}");
    }
    let health = shell.json("system health");
    assert_eq!(health["status"], "degraded");
    // The other one is all there is.
    let replace = format!("pool replace tank {first} {second}");
    let told = shell.failed("admin", &replace, 1);
    assert!(told.contains("would not have all of its data"), "{told}");
    let told = shell.failed("operator", &replace, 1);
    assert!(told.contains("forbidden"), "{told}");
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_are_compared_and_how_far_that_is_is_shown() {
    let shell = Shell::new().await;
    for (mode, action) in [("check", "check"), ("repair", "repair"), ("stop", "idle")] {
        let pool = shell.json(&format!("pool scrub tank {mode}"));
        assert_eq!(pool["sets"][0]["action"], action);
    }
    assert!(shell.done("pool show tank").contains("0 idle"));
    shell.done("pool scrub tank check");
    assert!(shell.done("pool show tank").contains("0 check 25 %"));
    assert!(
        shell
            .run("operator", "pool scrub tank stop")
            .status
            .success()
    );
    let told = shell.failed("reader", "pool scrub tank check", 1);
    assert!(told.contains("forbidden"), "{told}");
    let told = shell.failed("admin", "pool scrub tank gently", 2);
    assert!(told.contains("repair"), "{told}");
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_without_redundancy_says_so() {
    let shell = Shell {
        appliance: Appliance::start().await,
    };
    let [first, second] = DISKS;
    let create = format!("pool create tank --disk {first} --redundancy raid5");
    let told = shell.failed("admin", &create, 1);
    assert!(told.contains("3 to 32 disks, not 1"), "{told}");
    let told = shell.failed("admin", &format!("{create}0"), 2);
    assert!(told.contains("raid10"), "{told}");
    let pool = shell.json(&format!("pool create tank --disk {first}"));
    assert_eq!(
        (&pool["redundancy"], &pool["sets"]),
        (&Value::Null, &Value::Null)
    );
    assert!(shell.done("pool show tank").contains("none"));
    for line in [
        format!("pool replace tank {first} {second} --wipe"),
        "pool scrub tank check".to_owned(),
    ] {
        let told = shell.failed("admin", &line, 1);
        assert!(told.contains("no redundancy"), "{told}");
    }
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spares_come_and_go() {
    let shell = Shell::new().await;
    let [first, _] = DISKS;
    let add = format!("pool spare add tank {SPARE}");
    assert_eq!(shell.json(&add)["spares"], json!([SPARE]));
    // Once more is no more.
    assert_eq!(shell.json(&add)["spares"], json!([SPARE]));
    assert!(shell.done("pool show tank").contains("spares"));
    let told = shell.failed("admin", &format!("pool spare add tank {first}"), 1);
    assert!(told.contains("in-use"), "{told}");
    let told = shell.failed("operator", &add, 1);
    assert!(told.contains("forbidden"), "{told}");
    let remove = format!("pool spare remove tank {SPARE}");
    assert_eq!(shell.json(&remove)["spares"], Value::Null);
    let told = shell.failed("admin", &remove, 1);
    assert!(told.contains("is no spare of pool"), "{told}");
    shell.appliance.stop().await;
}
