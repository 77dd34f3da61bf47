//! The audit trail on the command line.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use ashlar_inprocess::Appliance;
use serde_json::Value;

struct Shell(Appliance);

impl Shell {
    fn command(&self, role: &str, line: &str) -> Command {
        let own = self.0.pki.paths(role);
        let mut command = Command::new(env!("CARGO_BIN_EXE_ashlarctl"));
        command
            .env("ASHLAR_ENDPOINT", self.0.address.to_string())
            .env("ASHLAR_CERT", own.certificate)
            .env("ASHLAR_KEY", own.key)
            .env("ASHLAR_CA", self.0.pki.paths("ca").certificate)
            .args(line.split(' '));
        command
    }

    fn run(&self, role: &str, line: &str) -> Output {
        self.command(role, line).output().unwrap()
    }

    fn json(&self, line: &str) -> Value {
        let output = self.run("admin", &format!("{line} -o json"));
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {told}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_exported_and_followed_and_hold_no_secret() {
    let shell = Shell(Appliance::start().await);
    shell.0.pool().await;
    let created = shell.json("host create web --iqn iqn.2026-11.org.example:web");
    let secret = created["secrets"]["chap"]["secret"].as_str().unwrap();
    let refused = shell.run("reader", "host delete web");
    assert!(!refused.status.success());
    let refused = shell.run("operator", "audit export");
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("forbidden"), "{told}");

    // Shown once they are durable, a moment after the answer.
    let records = loop {
        let records = shell.json("audit export");
        let records = records.as_array().unwrap().clone();
        if records.last().unwrap()["operation"] == "audit-list" {
            break records;
        }
    };
    let shown = |record: &Value| {
        let field = |name| record[name].as_str().unwrap_or("-").to_owned();
        (field("role"), field("operation"), record["status"].as_u64())
    };
    let calls: Vec<_> = records.iter().map(shown).collect();
    let call = |role: &str, operation: &str, status| (role.into(), operation.into(), Some(status));
    assert_eq!(
        calls,
        [
            call("admin", "pool-create", 201),
            call("admin", "host-create", 201),
            call("reader", "host-delete", 403),
            call("operator", "audit-list", 403),
        ]
    );
    assert_eq!(records[1]["object"], created["host"]["id"]);
    let whole = serde_json::to_string(&records).unwrap();
    assert!(!whole.contains(secret), "{whole}");

    let table = shell.run("admin", "audit export --after 2");
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("403 forbidden"), "{table}");
    assert!(!table.contains("pool-create"), "{table}");

    let mut command = shell.command("admin", "audit follow --after 3 -o json");
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next(), records[3]);
    shell.json("volume create db1 --pool pool --size 1GiB");
    assert_eq!(next()["operation"], "volume-create");
    child.kill().unwrap();
    child.wait().unwrap();
    shell.0.stop().await;
}
