//! `ashlarctl` against an appliance on the model kernel, for what a kernel that agrees to everything
//! cannot tell: what volumes hold, and what they take of their pool.

use std::path::PathBuf;
use std::process::{Command, Output};

use ashlar_ctl::pki::Directory;
use ashlar_tests::model::Model;
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

struct Shell {
    model: Model,
    files: tempfile::TempDir,
}

impl Shell {
    /// With a pool `tank` and a volume `db` in it, of 8 MiB, whose first MiB is written.
    fn new() -> Shell {
        let shell = Shell {
            model: Model::boot().unwrap(),
            files: tempfile::tempdir().unwrap(),
        };
        shell.done("pool create tank --disk serial-DISK0");
        shell.done("volume create db --pool tank --size 8MiB");
        let image = shell.file("image", &vec![7; MIB as usize]);
        shell.done(&format!("volume import db {image}"));
        shell
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn file(&self, name: &str, content: &[u8]) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name).display().to_string()
    }

    fn run(&self, line: &str) -> Output {
        let pki = Directory::at(self.model.pki());
        let (own, ca) = (pki.paths("admin"), pki.paths("ca"));
        Command::new(env!("CARGO_BIN_EXE_ashlarctl"))
            .args(line.split_whitespace())
            .env("ASHLAR_ENDPOINT", self.model.address().to_string())
            .env("ASHLAR_CERT", own.certificate)
            .env("ASHLAR_KEY", own.key)
            .env("ASHLAR_CA", ca.certificate)
            .output()
            .unwrap()
    }

    /// What it prints when it does what it should.
    #[track_caller]
    fn done(&self, line: &str) -> String {
        let output = self.run(line);
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
    fn failed(&self, line: &str) -> String {
        let output = self.run(line);
        assert_eq!(output.status.code(), Some(1), "{line}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

#[test]
fn what_volumes_and_snapshots_map_and_take_is_told() {
    let shell = Shell::new();
    let alone = json!({"size": 8 * MIB, "used": MIB, "shared": 0});
    assert_eq!(shell.json("volume usage db"), alone);
    shell.done("snapshot create before --volume db");
    let shared = json!({"size": 8 * MIB, "used": MIB, "shared": MIB});
    assert_eq!(shell.json("volume usage db"), shared);
    assert_eq!(shell.json("snapshot usage before"), shared);

    // Two blocks of the pool are written anew.
    let changes = shell.file("changes", &[9; 128 << 10]);
    shell.done(&format!("volume import db {changes}"));
    let usage = shell.json("volume usage db");
    assert_eq!(usage["shared"], MIB - (128 << 10), "{usage}");
    let all = json!([{"offset": 0, "length": MIB, "kind": "data"}]);
    assert_eq!(shell.json("volume extents db"), all);
    assert_eq!(shell.json("snapshot extents before"), all);
    let changed = json!([{"offset": 0, "length": 128 << 10, "kind": "data"}]);
    assert_eq!(shell.json("volume extents db --since before"), changed);
    shell.done("snapshot create after --volume db");
    let since = "snapshot extents after --since before";
    assert_eq!(shell.json(since), changed);
    let table = shell.done(since);
    let words: Vec<_> = table.split_whitespace().collect();
    let expected = ["OFFSET", "LENGTH", "KIND", "0", "131072", "data"];
    assert_eq!(words, expected, "{table}");
    let told = shell.failed("volume extents db --since nobody");
    assert!(told.contains("no snapshot is called"), "{told}");

    let devices = shell.json("pool thin-devices tank");
    let devices = devices.as_array().unwrap();
    let volume = shell.json("volume show db")["id"].clone();
    assert_eq!(devices.len(), 3, "{devices:?}");
    assert_eq!(devices[0]["volume"], volume);
    assert_eq!(devices[0]["used"], MIB);
    assert_eq!(devices[0]["reason"], "owned");
    let table = shell.done("pool thin-devices tank");
    assert!(table.contains("no: owned"), "{table}");
    let told = shell.failed("pool thin-devices nowhere");
    assert!(told.contains("no pool is called"), "{told}");
}

#[test]
fn statistics_are_of_what_is_connected_and_of_pools() {
    let shell = Shell::new();
    let idle = shell.json("volume statistics db");
    assert_eq!(idle["active"], false, "{idle}");
    assert_eq!(idle["io"], Value::Null, "{idle}");
    shell.done("host create web --iqn iqn.2026-11.io.example:web");
    shell.done("volume attach db web --transport iscsi");
    let busy = shell.json("volume statistics db");
    assert_eq!(
        (&busy["active"], &busy["used"]),
        (&true.into(), &MIB.into()),
        "{busy}"
    );
    assert!(busy["io"]["writes"]["bytes"].is_u64(), "{busy}");
    let table = shell.done("volume statistics db");
    assert!(table.contains("active"), "{table}");
    let pool = shell.json("pool statistics tank");
    assert_eq!(pool["provisioned"], 8 * MIB, "{pool}");
    assert_eq!(pool["used"], MIB, "{pool}");
    assert!(pool["data"]["writes"]["operations"].is_u64(), "{pool}");
    let told = shell.failed("volume statistics nobody");
    assert!(told.contains("no volume is called"), "{told}");
}

#[test]
fn what_is_released_is_adopted_with_all_that_it_holds() {
    let shell = Shell::new();
    shell.done("snapshot create before --volume db");
    let told = shell.failed("volume release db");
    assert!(told.contains("in-use"), "{told}");
    let told = shell.failed("volume adopt mine --pool tank --thin-id 0");
    assert!(told.contains("thin device 0"), "{told}");
    shell.done("snapshot release before");
    shell.done("volume release db");
    assert_eq!(shell.json("volume list"), json!([]));
    assert_eq!(shell.json("snapshot list"), json!([]));
    let devices = shell.json("pool thin-devices tank");
    assert_eq!(devices[0]["adoptable"], true, "{devices}");
    assert_eq!(devices[1]["adoptable"], true, "{devices}");

    // Its size is where what it maps ends, unless it is told.
    let line = "volume adopt found --pool tank --thin-id 0 --size 8MiB --label owner=web";
    let found = shell.json(line);
    assert_eq!(
        (&found["size"], &found["labels"]["owner"]),
        (&(8 * MIB).into(), &"web".into())
    );
    let kept = shell.json("snapshot adopt kept --volume found --thin-id 1");
    assert_eq!(
        (&kept["size"], &kept["volume"]),
        (&MIB.into(), &found["id"])
    );
    let copy = shell.path("copy");
    shell.done(&format!("volume export found {}", copy.display()));
    let copy = std::fs::read(copy).unwrap();
    assert_eq!(copy.len() as u64, 8 * MIB);
    let (data, rest) = copy.split_at(MIB as usize);
    assert!(data.iter().all(|byte| *byte == 7) && rest.iter().all(|byte| *byte == 0));
    let told = shell.failed("snapshot adopt more --volume found --thin-id 1");
    assert!(told.contains("thin device 1"), "{told}");
}
