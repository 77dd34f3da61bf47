//! `ashlarctl` against an agent.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Output, Stdio};

use ashlar_inprocess::updater::bundle;
use ashlar_inprocess::{Appliance, DISKS, Updater};
use serde_json::Value;

/// A shell with the environment that the help text suggests.
struct Shell {
    appliance: Appliance,
    role: &'static str,
}

impl Shell {
    async fn new() -> Shell {
        Shell {
            appliance: Appliance::start().await,
            role: "admin",
        }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_ashlarctl"));
        command.args(line.split_whitespace());
        command
    }

    fn program(&self, name: &str) -> Command {
        let (own, ca) = (
            self.appliance.pki.paths(self.role),
            self.appliance.pki.paths("ca"),
        );
        let mut command = Command::new(name);
        command
            .env("ASHLAR_ENDPOINT", self.appliance.address.to_string())
            .env("ASHLAR_CERT", own.certificate)
            .env("ASHLAR_KEY", own.key)
            .env("ASHLAR_CA", ca.certificate);
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// What it prints when it does what it should.
    fn done(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {output:?}");
        assert!(output.stderr.is_empty(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.done(&format!("{line} -o json"))).unwrap()
    }

    /// What it prints when it is given that, and that it does what it should.
    fn fed(&self, line: &str, input: &[u8]) -> Output {
        let mut command = self.command(line);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        // One that does not want all of it may be gone.
        drop(child.stdin.take().unwrap().write_all(input));
        child.wait_with_output().unwrap()
    }

    /// What it complains of when it fails.
    fn failed(&self, line: &str, code: i32) -> String {
        let output = self.run(line);
        assert_eq!(output.status.code(), Some(code), "{line}: {output:?}");
        assert!(output.stdout.is_empty(), "{line}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_day() {
    let shell = Shell::new().await;
    let disks = shell.json("disk list");
    assert_eq!(disks[0]["id"], DISKS[0]);
    let create = format!("pool create fast --disk {} --disk {}", DISKS[0], DISKS[1]);
    assert_eq!(shell.json(&create)["state"], "online");

    let volume = shell.json("volume create db1 --pool fast --size 10GiB");
    assert_eq!(volume["size"], 10_u64 << 30);
    let id = volume["id"].as_str().unwrap();
    assert_eq!(shell.json(&format!("volume show {id}"))["name"], "db1");
    let nqn = "nqn.2014-08.org.nvmexpress:uuid:8d5e0c3a-0000-4000-8000-000000000001";
    shell.done(&format!("host create web --nqn {nqn}"));
    let connection = shell.json("volume attach db1 web --transport nvme-tcp");
    assert_eq!(connection["state"], "ready");
    assert_eq!(connection["nvme"]["uuid"], id);
    assert_eq!(
        shell
            .json("connection list --volume db1")
            .as_array()
            .unwrap()
            .len(),
        1
    );

    let told = shell.failed("volume delete db1", 1);
    assert!(told.contains("in-use"), "{told}");
    assert_eq!(
        shell.json("volume extend db1 --size 12GiB")["size"],
        12_u64 << 30
    );
    shell.done("volume detach db1 web");
    assert_eq!(shell.json("connection list"), Value::Array(Vec::new()));
    shell.done("volume detach-all db1");
    shell.done("volume delete db1");
    shell.done("host delete web");
    assert_eq!(shell.json("volume list"), Value::Array(Vec::new()));
    assert_eq!(shell.json("system health")["status"], "ok");
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_goes_to_another_pool_or_it_is_said_why_not() {
    let shell = Shell::new().await;
    for (name, disk) in ["first", "second"].iter().zip(DISKS) {
        shell.done(&format!("pool create {name} --disk {disk}"));
    }
    shell.done("volume create db1 --pool first --size 64MiB");
    let told = shell.failed("volume move db1 first", 1);
    assert!(told.contains("already"), "{told}");
    let told = shell.failed("volume move db1 second --bandwidth 0", 1);
    assert!(told.contains("bandwidth"), "{told}");
    shell.failed("volume move db1", 2);
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_clones_and_the_way_back() {
    let shell = Shell::new().await;
    shell.appliance.pool().await;
    shell.done("volume create db1 --pool pool --size 1GiB --label owner=web --label tier=");
    let taken = shell.json("snapshot create before --volume db1 --label why=upgrade");
    assert_eq!(
        (&taken["state"], &taken["size"]),
        (&"available".into(), &(1 << 30).into())
    );
    assert_eq!(taken["labels"]["why"], "upgrade");
    let id = taken["id"].as_str().unwrap();
    assert_eq!(shell.json("snapshot show before")["id"], id);
    assert_eq!(shell.json("snapshot list --volume db1")[0]["id"], id);

    // Pool and size are the source's unless said.
    let copy = shell.json("volume create copy --from-snapshot before");
    assert_eq!(copy["size"], 1 << 30);
    assert_eq!(copy["parent"]["snapshot"], id);
    let larger = shell.json("volume create larger --from-volume db1 --pool pool --size 2GiB");
    assert_eq!(larger["size"], 2_u64 << 30);
    let shown = shell.done("volume show db1");
    assert!(
        shown.contains("owner=web") && shown.contains("snapshots"),
        "{shown}"
    );

    assert_eq!(
        shell.json("volume revert db1 --snapshot before")["state"],
        "available"
    );
    let told = shell.failed("volume revert copy --snapshot before", 1);
    assert!(told.contains("invalid-field"), "{told}");
    shell.done("volume delete db1");
    let iqn = "iqn.1993-08.org.debian:01:web";
    shell.done(&format!("host create web --iqn {iqn}"));
    let told = shell.failed("snapshot attach before web --transport nvme-tcp", 1);
    assert!(told.contains("unsupported"), "{told}");
    let connection = shell.json("snapshot attach before web --transport iscsi");
    assert_eq!(connection["snapshot"], id);
    assert_eq!(connection["access"], "read-only");
    let listed = shell.json("connection list --snapshot before");
    assert_eq!(listed[0]["id"], connection["id"]);
    let told = shell.failed("snapshot delete before", 1);
    assert!(told.contains("in-use"), "{told}");
    shell.done("snapshot detach before web");
    let again = "connection create --snapshot before --host web --transport iscsi";
    let connection = shell.json(again);
    let shown = shell.json(&format!(
        "connection show {}",
        connection["id"].as_str().unwrap()
    ));
    assert_eq!(shown["snapshot"], id);
    shell.failed(&format!("{again} --volume db1"), 2);
    shell.done("snapshot detach before web --force");
    shell.done("snapshot delete before");
    assert_eq!(shell.json("snapshot list"), Value::Array(Vec::new()));

    for line in [
        "volume create a --size 1GiB",
        "volume create a --pool pool",
        "volume create a --from-snapshot x --from-volume y",
        "snapshot create a --volume copy --label nothing",
    ] {
        shell.failed(line, 2);
    }
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_for_people_and_for_awk() {
    let shell = Shell::new().await;
    shell.appliance.pool().await;
    shell.done("volume create db1 --pool pool --size 1536MiB");
    let table = shell.done("volume list");
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines.len(), 2, "{table}");
    assert_eq!(
        lines[0],
        ["ID", "NAME", "SIZE", "STATE", "CONNECTIONS", "POOL"]
    );
    assert_eq!(lines[1][1..6], ["db1", "1.5", "GiB", "available", "0"]);
    assert!(!table.contains('\u{1b}'), "no colours in a pipe");

    let shown = shell.done("system show");
    assert!(
        shown
            .lines()
            .any(|line| line.split_whitespace().eq(["name", "box1"])),
        "{shown}"
    );
    assert!(shell.done("system health").contains("store"));
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_printed_once_and_read_from_a_file_or_stdin() {
    let shell = Shell::new().await;
    let created = shell.json("host create web --iqn iqn.2026-11.io.example:web");
    let secret = created["secrets"]["chap"]["secret"].as_str().unwrap();
    assert!((12..=16).contains(&secret.len()));
    for line in ["host show web", "host list", "job list"] {
        let shown = shell.done(line) + &shell.done(&format!("{line} -o json"));
        assert!(!shown.contains(secret), "{line}");
    }

    let given = r#"{"chap": {"name": "web2", "secret": "hunter2hunter2"}}"#;
    let line = "host create web2 --iqn iqn.2026-11.io.example:web2 --secrets-file -";
    let mut command = shell.command(line);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(given.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("hunter2hunter2")
    );

    let file = shell.appliance.dir.path().join("secrets.json");
    for bad in [
        r#"{"chap": "hunter2hunter2"}"#,
        r#"{"chap": {"name": "x", "secret": "hunter2"}}"#,
    ] {
        std::fs::write(&file, bad).unwrap();
        let told = shell.failed(
            &format!("host create web3 --secrets-file {}", file.display()),
            1,
        );
        assert!(told.contains("line 1"), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_must_mean_one_thing() {
    let shell = Shell::new().await;
    shell.appliance.pool().await;
    for _ in 0..2 {
        shell.done("volume create twin --pool pool --size 1GiB");
    }
    let told = shell.failed("volume delete twin", 1);
    assert!(told.contains("2 volumes are called \"twin\""), "{told}");
    let told = shell.failed("volume delete nobody", 1);
    assert!(told.contains("no volume is called \"nobody\""), "{told}");
    let told = shell.failed("volume create v --pool nowhere --size 1GiB", 1);
    assert!(told.contains("no pool"), "{told}");
    assert_eq!(shell.json("volume list").as_array().unwrap().len(), 2);
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_can_be_left_to_itself_and_waited_for() {
    let shell = Shell::new().await;
    shell.appliance.pool().await;
    shell.appliance.kernel.hold();
    let job = shell.json("volume create db1 --pool pool --size 1GiB --no-wait");
    let id = job["id"].as_str().unwrap();
    assert_eq!(
        (&job["state"], &job["operation"]),
        (&"running".into(), &"volume-create".into())
    );
    let told = shell.failed(
        &format!("volume delete {} --no-wait", uuid::Uuid::new_v4()),
        1,
    );
    assert!(told.contains("not-found"), "{told}");

    shell.appliance.kernel.release();
    assert_eq!(shell.json(&format!("job wait {id}"))["state"], "succeeded");
    assert_eq!(shell.json("volume show db1")["state"], "available");
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_is_seen_on_a_terminal() {
    let shell = Shell::new().await;
    shell.appliance.pool().await;
    shell.appliance.kernel.hold();
    let line = "volume create db1 --pool pool --size 1GiB";
    let line = format!("{} {line}", env!("CARGO_BIN_EXE_ashlarctl"));
    let mut terminal = shell.program("script");
    let terminal = terminal.args(["-qec", &line, "/dev/null"]);
    let terminal = terminal.env("TERM", "xterm").stdin(Stdio::null());
    let mut child = terminal.stdout(Stdio::piped()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut shown = Vec::new();
    // It shows this while nothing can get on, or the test ends with its output.
    while !String::from_utf8_lossy(&shown).contains("working") {
        let mut some = [0; 256];
        let length = output.read(&mut some).unwrap();
        assert_ne!(length, 0, "{}", String::from_utf8_lossy(&shown));
        shown.extend(&some[..length]);
    }
    shell.appliance.kernel.release();
    output.read_to_end(&mut shown).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(String::from_utf8_lossy(&shown).contains("available"));
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_is_done_once() {
    let shell = Shell::new().await;
    shell.appliance.pool().await;
    let (request, id) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    let line =
        format!("volume create db1 --pool pool --size 1GiB --id {id} --request-id {request}");
    assert_eq!(shell.json(&line), shell.json(&line));
    let other = line.replace("1GiB", "2GiB");
    let told = shell.failed(&other, 1);
    assert!(told.contains("request-id-reused"), "{told}");
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn portals_are_made_listed_and_taken_away() {
    let shell = Shell::new().await;
    let of_file = shell.json("portal list");
    assert_eq!(of_file.as_array().unwrap().len(), 4);
    let made = shell.json("portal create [2001:db8::7]:4420 --transport nvme-tcp");
    assert_eq!(made["state"], "ready");
    let id = made["id"].as_str().unwrap();
    assert_eq!(shell.json(&format!("portal show {id}")), made);
    assert_eq!(shell.json("portal list").as_array().unwrap().len(), 5);
    let told = shell.failed("portal create [::]:4420 --transport nvme-tcp", 1);
    assert!(told.contains("beside which"), "{told}");
    shell.failed("portal create 2001:db8::7 --transport nvme-tcp", 2);
    let id_of_file = of_file[0]["id"].as_str().unwrap();
    let told = shell.failed(&format!("portal delete {id_of_file}"), 1);
    assert!(told.contains("configuration file"), "{told}");
    shell.done(&format!("portal delete {id} --force"));
    assert_eq!(shell.json("portal list"), of_file);
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_say_who_said_no_and_why() {
    let mut shell = Shell::new().await;
    shell.appliance.pool().await;
    shell.role = "reader";
    let told = shell.failed("volume create v --pool pool --size 1GiB", 1);
    assert!(told.contains("takes the role operator"), "{told}");

    let mut command = shell.command("system show");
    let output = command
        .env("ASHLAR_ENDPOINT", "127.0.0.1:1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("failed to connect to 127.0.0.1:1: "),
        "{told}"
    );

    for (line, word) in [
        ("volume create v --pool p --size 10elephants", "10GiB"),
        ("volume create v --size 1GiB", "--pool"),
        ("host create h --iqn IQN", "iSCSI name"),
        (
            "volume attach v h --transport fibre",
            "iscsi, iser, fc, nvme-tcp, nvme-rdma or nvme-fc",
        ),
        ("system show -o yaml", "json"),
        ("system show --endpoint http://x", "endpoint"),
        ("volume", "Usage"),
    ] {
        let told = shell.failed(line, 2);
        assert!(told.contains(word), "{line}: {told}");
    }
    let mut command = shell.command("system show");
    let output = command.env_remove("ASHLAR_CERT").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_filled_from_files_and_pipes_and_read_into_them() {
    let shell = Shell::new().await;
    shell.appliance.pool().await;
    for name in ["one", "two"] {
        shell.done(&format!("volume create {name} --pool pool --size 1GiB"));
    }
    let dir = shell.appliance.dir.path().to_owned();
    let file = |name: &str| dir.join(name).display().to_string();
    let content: Vec<u8> = (0..300_000_u32).flat_map(|n| n.to_be_bytes()).collect();
    std::fs::write(file("image"), &content).unwrap();

    let done = shell.json(&format!("volume import one {}", file("image")));
    assert_eq!(done["written"], 1_200_128);
    let done = shell.json(&format!("volume export one {}", file("back")));
    assert_eq!(done["size"], 1_u64 << 30);
    assert!(done["moved"].as_u64().unwrap() < 2 << 20, "{done}");
    let back = std::fs::read(file("back")).unwrap();
    assert!(back[..content.len()] == content && back.len() == 1 << 30);
    std::fs::remove_file(file("back")).unwrap();

    // Out as extents and in again, through pipes.
    let stream = shell.run("volume export one - --format extents");
    assert!(stream.status.success() && stream.stderr.is_empty());
    assert!(stream.stdout.len() < 2 << 20);
    let done = shell.fed("volume import two - --format extents", &stream.stdout);
    assert!(done.status.success(), "{done:?}");
    let again = shell.run("volume export two - --format extents");
    assert!(again.stdout == stream.stdout);
    let done = shell.fed("volume import two -", &content[..5000]);
    assert!(done.status.success(), "{done:?}");

    let told = shell.fed(
        "volume import two - --format extents",
        &stream.stdout[..5000],
    );
    let told = String::from_utf8(told.stderr).unwrap();
    assert!(
        told.contains("standard input") && told.contains("before its end"),
        "{told}"
    );
    std::fs::File::create(file("large"))
        .unwrap()
        .set_len((1 << 30) + 1)
        .unwrap();
    let told = shell.failed(&format!("volume import two {}", file("large")), 1);
    assert!(
        told.contains("more than the 1073741824 of the volume"),
        "{told}"
    );
    shell.done("snapshot create now --volume one");
    shell.failed("snapshot export now x --since now --format raw", 2);
    let told = shell.failed(&format!("volume export nobody {}", file("x")), 1);
    assert!(told.contains("no volume is called"), "{told}");
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_have_formats_and_are_of_all_there_is() {
    let shell = Shell::new().await;
    shell.appliance.pool().await;
    shell.done("volume create one --pool pool --size 1GiB");
    shell.done("snapshot create now --volume one");
    let dir = shell.appliance.dir.path().to_owned();
    let file = dir.join("image").display().to_string();
    std::fs::write(&file, [7; 8192]).unwrap();
    for (line, word) in [
        ("volume import one FILE --format vdi", "qcow2"),
        ("volume export one FILE --format auto", "there already"),
        (
            "snapshot export now FILE --since now --format vhd",
            "extents",
        ),
    ] {
        let told = shell.failed(&line.replace("FILE", &file), 2);
        assert!(told.contains(word), "{line}: {told}");
    }
    // Nothing reads images here: that is told, and not that the transfer broke.
    let told = shell.failed(&format!("volume import one {file} --format qcow2"), 1);
    assert!(told.contains("converter"), "{told}");
    assert_eq!(std::fs::read(&file).unwrap(), [7; 8192]);
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_restored_from_its_folder() {
    let shell = Shell::new().await;
    shell.appliance.pool().await;
    shell.done("volume create db1 --pool pool --size 1GiB");
    let folder = shell.appliance.dir.path().join("backups");
    std::fs::create_dir(&folder).unwrap();
    let folder = folder.display();
    let made = shell.json(&format!("backup db1 {folder}"));
    assert_eq!(
        (&made["name"], &made["size"]),
        (&"db1".into(), &(1 << 30).into())
    );
    assert!(made["file"].as_str().unwrap().ends_with("0001.extents"));
    // This kernel cannot tell what differs, and leaves nothing behind for having tried.
    let told = shell.failed(&format!("backup db1 {folder}"), 1);
    assert!(told.contains("metadata"), "{told}");
    let snapshots = shell.json("snapshot list");
    assert_eq!(snapshots.as_array().unwrap().len(), 1, "{snapshots}");
    shell.done(&format!("backup db1 {folder} --full"));

    let restored = shell.json(&format!("restore db2 {folder} --pool pool"));
    assert_eq!(
        (&restored["name"], &restored["size"]),
        (&"db2".into(), &(1 << 30).into())
    );
    let told = shell.failed(&format!("restore db3 {folder}/0009.extents --pool pool"), 1);
    assert!(told.contains("0009.extents.json"), "{told}");
    // What is not what its manifest says makes no volume.
    let file = format!("{folder}/0002.extents");
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let told = shell.failed(&format!("restore db3 {file} --pool pool"), 1);
    assert!(told.contains("checksum"), "{told}");
    assert_eq!(shell.json("volume list").as_array().unwrap().len(), 2);
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_destroyed_is_cleared_before_if_that_is_said() {
    let shell = Shell::new().await;
    shell.appliance.pool().await;
    for name in ["one", "two"] {
        shell.done(&format!("volume create {name} --pool pool --size 1GiB"));
    }
    for (line, word) in [
        ("volume delete one --clear shred", "none, discard or zero"),
        ("volume delete one --clear-size 1MiB", "--clear"),
        ("volume delete one --clear zero --bandwidth fast", "10GiB"),
    ] {
        let told = shell.failed(line, 2);
        assert!(told.contains(word), "{line}: {told}");
    }
    let told = shell.failed("volume delete one --clear zero --bandwidth 1KiB", 1);
    assert!(told.contains("bandwidth 1024"), "{told}");
    shell.done("volume delete one --clear none");
    // This kernel cannot tell what there is to clear, so that is not done, and neither is it
    // destroyed, until nobody wants it cleared any more.
    let job =
        shell.json("volume delete two --clear zero --clear-size 1MiB --bandwidth 50MiB --no-wait");
    assert_eq!(job["state"], "running");
    assert_eq!(shell.json("volume show two")["state"], "deleting");
    shell.done("volume delete two --clear none");
    assert_eq!(shell.json("volume list"), Value::Array(Vec::new()));
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_changes_are_each_answered() {
    let shell = Shell::new().await;
    let pool = shell.appliance.pool().await;
    let ids: Vec<_> = (1..=120).map(uuid::Uuid::from_u128).collect();
    let create = |id| {
        format!(
            r#"{{"method": "PUT", "path": "/v1/volumes/{id}",
                 "body": {{"name": "v", "pool": "{pool}", "size": 1048576}}}}"#
        )
        .replace('\n', "")
    };
    let lines: Vec<_> = ids.iter().map(create).collect();
    let done = shell.fed("bulk - -o json", lines.join("\n").as_bytes());
    assert!(done.status.success(), "{done:?}");
    let told = String::from_utf8(done.stdout).unwrap();
    let told: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(told.len(), 120);
    assert!(
        told.iter().all(|answer| answer["status"] == 201),
        "{told:?}"
    );
    assert_eq!(told[119]["body"]["id"], ids[119].to_string());

    // One of them fails, the others do not mind.
    let delete = |id| format!(r#"{{"method": "DELETE", "path": "/v1/volumes/{id}"}}"#);
    let nobody = uuid::Uuid::from_u128(999);
    let some = [ids[0], nobody, ids[1]].map(delete).join(", ");
    let done = shell.fed("bulk -", format!("[{some}]").as_bytes());
    assert_eq!(done.status.code(), Some(1));
    let told = String::from_utf8(done.stdout).unwrap();
    let statuses: Vec<_> = told
        .lines()
        .filter_map(|l| l.split_whitespace().nth(1))
        .collect();
    assert_eq!(statuses, ["204", "404", "204"], "{told}");
    let complaint = String::from_utf8(done.stderr).unwrap();
    assert!(complaint.contains("1 of 3 changes failed"), "{complaint}");
    assert_eq!(shell.json("volume list").as_array().unwrap().len(), 118);

    let request = uuid::Uuid::new_v4();
    let line = format!("bulk - --request-id {request}");
    let done = shell.fed(&line, lines.join("\n").as_bytes());
    assert_eq!(done.status.code(), Some(2), "{done:?}");
    let done = shell.fed("bulk -", b"{\"method\": \"PUT\"}");
    let complaint = String::from_utf8(done.stderr).unwrap();
    assert!(
        complaint.contains("change 1: missing field `path`"),
        "{complaint}"
    );
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_under_a_request_id_has_an_id_that_follows() {
    let shell = Shell::new().await;
    shell.appliance.pool().await;
    shell.done("volume create db1 --pool pool --size 1GiB");
    shell.done("volume create db2 --pool pool --size 1GiB");
    for line in [
        "volume create db3 --pool pool --size 1GiB",
        "snapshot create now --volume db1",
        "group create all --volume db1 --volume db2",
        "group-snapshot create now --group all",
        "host create web --iqn iqn.2026-11.io.example:web",
        "volume attach db3 web --transport iscsi",
    ] {
        let request = uuid::Uuid::new_v4();
        let line = format!("{line} --request-id {request}");
        let made = shell.json(&line);
        let id = made["host"]["id"].as_str().or(made["id"].as_str());
        assert_eq!(id, Some(request.to_string().as_str()), "{line}: {made}");
        // Again, nothing else is made.
        let again = shell.json(&line);
        assert_eq!(again["id"], made["id"], "{line}");
    }
    for (kind, count) in [("volume", 3), ("group-snapshot", 1), ("connection", 1)] {
        let all = shell.json(&format!("{kind} list"));
        assert_eq!(all.as_array().unwrap().len(), count, "{kind}: {all}");
    }
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_can_be_cut_off() {
    let shell = Shell::new().await;
    shell.appliance.pool().await;
    shell.done("volume create db1 --pool pool --size 1GiB");
    shell.done("host create web --iqn iqn.2026-11.io.example:web");
    for line in [
        "volume detach db1 web --force",
        "connection delete ID --force",
    ] {
        let made = shell.json("volume attach db1 web --transport iscsi");
        let id = made["id"].as_str().unwrap();
        shell.done(&line.replace("ID", id));
        assert_eq!(shell.json("connection list"), Value::Array(Vec::new()));
    }
    shell.failed("volume delete db1 --force", 2);
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_things_is_changed() {
    let shell = Shell::new().await;
    shell.appliance.pool().await;
    shell.done("volume create db1 --pool pool --size 1GiB --label owner=web");
    let line = "volume update db1 --name db --provisioning thick";
    let volume = shell.json(line);
    assert_eq!(
        (&volume["name"], &volume["provisioning"]),
        (&"db".into(), &"thick".into())
    );
    assert_eq!(volume["labels"]["owner"], "web");
    assert_eq!(volume["qos"], Value::Null);
    let volume = shell.json("volume update db --label tier=gold --qos-write-iops 500");
    assert_eq!(volume["labels"], serde_json::json!({"tier": "gold"}));
    assert_eq!(volume["qos"]["write_iops"], 500);
    let volume = shell.json("volume update db --no-labels --no-qos");
    assert_eq!(
        (&volume["labels"], &volume["qos"]),
        (&Value::Null, &Value::Null)
    );
    let pool = shell.json("pool update pool --name tank --reserved 10 --over-subscription 200");
    assert_eq!(
        (&pool["name"], &pool["reserved"], &pool["over_subscription"]),
        (&"tank".into(), &10.into(), &200.into())
    );

    shell.done("snapshot create before --volume db --label why=upgrade");
    let snapshot = shell.json("snapshot update before --name kept");
    assert_eq!(
        (&snapshot["name"], &snapshot["labels"]["why"]),
        (&"kept".into(), &"upgrade".into())
    );
    let snapshot = shell.json("snapshot update kept --label for=ever");
    assert_eq!(snapshot["labels"], serde_json::json!({"for": "ever"}));
    let snapshot = shell.json("snapshot update kept --no-labels");
    assert_eq!(snapshot["labels"], Value::Null);
    for (line, code, word) in [
        ("volume update db --provisioning fat", 2, "thin"),
        ("volume update db --label a=b --no-labels", 2, "no-labels"),
        (
            "snapshot update kept --label a=b --no-labels",
            2,
            "no-labels",
        ),
        (
            "snapshot update nobody --name x",
            1,
            "no snapshot is called",
        ),
        ("volume update db --qos-write-iops 1", 1, "out-of-range"),
        ("pool update tank --reserved 100", 1, "out-of-range"),
    ] {
        let told = shell.failed(line, code);
        assert!(told.contains(word), "{line}: {told}");
    }
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_given_to_another_owner() {
    let shell = Shell::new().await;
    shell.appliance.pool().await;
    shell.done("volume create db1 --pool pool --size 1GiB");
    shell.done("host create web --iqn iqn.2026-11.io.example:web");
    let volume = shell.json("volume transfer db1 --owner web");
    assert_eq!(volume["owner"], "web");
    shell.done("volume attach db1 web --transport iscsi");
    let told = shell.failed("volume transfer db1 --owner billing", 1);
    assert!(told.contains("in-use"), "{told}");
    let volume = shell.json("volume transfer db1 --owner billing --interrupt");
    assert_eq!(
        (&volume["owner"], &volume["connections"]),
        (&"billing".into(), &0.into())
    );
    assert_eq!(shell.json("connection list"), Value::Array(Vec::new()));
    shell.failed("volume transfer db1", 2);
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_and_their_snapshots_have_members_and_names() {
    let shell = Shell::new().await;
    shell.appliance.pool().await;
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        let volume = shell.json(&format!("volume create {name} --pool pool --size 1GiB"));
        ids.push(volume["id"].clone());
    }
    let members = |group: &Value| {
        let members = group["volumes"].as_array().unwrap();
        ids.iter()
            .map(|id| members.contains(id))
            .collect::<Vec<_>>()
    };
    let group = shell.json("group create app --volume a --volume b");
    assert_eq!(members(&group), [true, true, false]);
    let group = shell.json("group update app --name web --add c --remove a");
    assert_eq!(group["name"], "web");
    assert_eq!(members(&group), [false, true, true]);
    let told = shell.failed("group update web --remove a", 1);
    assert!(told.contains("is no member of"), "{told}");
    let told = shell.failed("group update web --add nobody", 1);
    assert!(told.contains("no volume is called"), "{told}");

    let whole = shell.json("group-snapshot create nightly --group web");
    assert_eq!(whole["snapshots"].as_array().unwrap().len(), 2);
    let renamed = shell.json("group-snapshot update nightly --name kept");
    assert_eq!(renamed["name"], "kept");
    assert_eq!(shell.json("group-snapshot show kept")["id"], whole["id"]);
    // Its snapshots keep theirs.
    for snapshot in shell.json("snapshot list").as_array().unwrap() {
        assert_eq!(snapshot["name"], "nightly");
    }
    shell.failed("group-snapshot update kept", 2);
    shell.done("group-snapshot delete kept");
    shell.done("group delete web");
    assert_eq!(shell.json("group list"), Value::Array(Vec::new()));
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_cancelled_or_it_is_said_why_not() {
    let shell = Shell::new().await;
    shell.appliance.pool().await;
    shell.appliance.kernel.hold();
    let job = shell.json("volume create db1 --pool pool --size 1GiB --no-wait");
    let id = job["id"].as_str().unwrap();
    // Taken back at once; what the kernel has of it goes when it can.
    let told = shell.done(&format!("job cancel {id}"));
    assert!(told.contains("is cancelled"), "{told}");
    assert_eq!(shell.json(&format!("job show {id}"))["state"], "cancelled");
    let job = shell.json("volume create db2 --pool pool --size 1GiB --no-wait");
    shell.appliance.kernel.release();
    let id = job["id"].as_str().unwrap();
    shell.done(&format!("job wait {id}"));
    let told = shell.failed(&format!("job cancel {id}"), 1);
    assert!(told.contains("has ended"), "{told}");
    let told = shell.failed(&format!("job cancel {}", uuid::Uuid::new_v4()), 1);
    assert!(told.contains("not-found"), "{told}");
    shell.failed("job cancel everything", 2);
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_box_takes_no_changes_until_it_is_thawed() {
    let shell = Shell::new().await;
    shell.appliance.pool().await;
    let frozen = shell.json("system freeze --reason moving");
    assert_eq!(frozen["frozen"]["reason"], "moving");
    let told = shell.failed("volume create db1 --pool pool --size 1GiB", 1);
    assert!(told.contains("frozen") && told.contains("moving"), "{told}");
    let shown = shell.done("system show");
    assert!(shown.contains("moving"), "{shown}");
    assert_eq!(shell.json("system thaw")["frozen"], Value::Null);
    shell.done("volume create db1 --pool pool --size 1GiB");
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_listed_from_anywhere_and_watched_as_they_happen() {
    let shell = Shell::new().await;
    shell.appliance.pool().await;
    let volume = shell.json("volume create db1 --pool pool --size 1GiB");
    // Durable a moment after the answer, in that order.
    let last = loop {
        let events = shell.json("event list");
        let last = events.as_array().unwrap().last().unwrap().clone();
        if last["kind"] == "volume.created" {
            break last;
        }
    };
    assert_eq!(last["object"]["id"], volume["id"]);
    assert_eq!(last["detail"], "db1");
    let id = last["id"].as_u64().unwrap();
    let none = shell.json(&format!("event list --after {id}"));
    assert_eq!(none, Value::Array(Vec::new()));
    let table = shell.done(&format!("event list --after {}", id - 1));
    assert!(table.contains("volume.created"), "{table}");
    let told = shell.failed(&format!("event list --after {}", id + 7), 1);
    assert!(told.contains("events-lost"), "{told}");

    // It goes on until it is ended: a line for what was before, and one for what comes.
    let line = format!("event watch --after {} -o json", id - 1);
    let mut command = shell.command(&line);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next(), last);
    shell.done("volume update db1 --name db2");
    let update = next();
    assert_eq!(
        (&update["kind"], &update["detail"]),
        (&"volume.updated".into(), &"db2".into())
    );
    child.kill().unwrap();
    child.wait().unwrap();
    shell.appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_firmware_is_shown_updated_and_gone_back_from() {
    let shell = Shell::new().await;
    let told = shell.failed("firmware show", 1);
    assert!(told.contains("takes no updates"), "{told}");
    let folder = shell.appliance.dir.clone();
    let updater = Updater::start(folder.path()).await;
    assert_eq!(shell.json("firmware show")["next"], "a");
    let file = folder.path().join("update.raucb");
    std::fs::write(&file, bundle("0.2.0", 1 << 20)).unwrap();
    let install = format!("firmware install {}", file.display());
    assert_eq!(shell.json(&install)["written"], 1 << 20);
    assert_eq!(updater.version().as_deref(), Some("0.2.0"));
    let shown = shell.done("firmware show");
    assert!(shown.contains("0.2.0"), "{shown}");
    assert_eq!(shell.json("firmware show")["next"], "b");
    assert_eq!(shell.json("firmware activate a")["next"], "a");
    shell.failed("firmware activate c", 2);
    shell.failed("firmware install /nowhere", 1);
    let told = shell.failed("system restart", 1);
    assert!(told.contains("nothing starts this box again"), "{told}");
    shell.appliance.stop().await;
}
