//! Held against thin-provisioning-tools, which others trust with their metadata.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use ashlar_thin_metadata::{Change, Metadata};
use tempfile::TempDir;

use crate::pool::{Image, Pool, spread};

/// Size of the metadata device that `thin_restore` fills.
const DEVICE: u64 = 16 << 20;

/// Several generations of snapshots with writes at places strewn over them.
fn lived_in() -> Pool {
    let mut pool = Pool::new();
    let mut place = 1_u64;
    let mut places = move |count: usize| -> Vec<u64> {
        let step = || {
            place = place
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (place >> 33) % 40_000
        };
        std::iter::repeat_with(step).take(count).collect()
    };
    pool.create(1);
    pool.write(1, 0..9000);
    pool.snapshot(2, 1);
    pool.write(1, places(900));
    pool.snapshot(3, 1);
    pool.create(70_000);
    pool.write(70_000, places(3000));
    pool.discard(1, 100..180);
    pool.write(3, places(40));
    pool.snapshot(4, 3);
    pool.write(1, places(500));
    pool
}

fn tool(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(name).args(arguments).output();
    let output = output.unwrap_or_else(|error| {
        panic!("{name}: {error}; the Debian package thin-provisioning-tools has it")
    });
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{name} {arguments:?}: {text}{errors}"
    );
    text
}

/// As `thin_restore` takes it.
fn xml(pool: &Pool) -> String {
    let mut xml = format!(
        "<superblock uuid=\"\" time=\"{}\" transaction=\"7\" version=\"2\" data_block_size=\"128\" nr_data_blocks=\"100000\">\n",
        pool.metadata.time
    );
    for (id, thin) in &pool.metadata.thins {
        let mapped = thin.mappings.len();
        let (created, snapshotted) = (thin.created, thin.snapshotted);
        writeln!(
            xml,
            "<device dev_id=\"{id}\" mapped_blocks=\"{mapped}\" transaction=\"7\" creation_time=\"{created}\" snap_time=\"{snapshotted}\">"
        )
        .unwrap();
        for (block, (data, time)) in &thin.mappings {
            writeln!(
                xml,
                "<single_mapping origin_block=\"{block}\" data_block=\"{data}\" time=\"{time}\"/>"
            )
            .unwrap();
        }
        xml.push_str("</device>\n");
    }
    xml.push_str("</superblock>\n");
    xml
}

fn restored(pool: &Pool) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("pool.xml");
    fs::write(&source, xml(pool)).unwrap();
    let device = dir.path().join("metadata");
    File::create(&device).unwrap().set_len(DEVICE).unwrap();
    let text = |path: &Path| path.to_str().expect("it is plain").to_owned();
    let device = text(&device);
    tool("thin_restore", &["-i", &text(&source), "-o", &device]);
    tool("thin_check", &["-q", &device]);
    (dir, device)
}

fn image(device: &str) -> Image {
    Image {
        bytes: fs::read(device).unwrap(),
        root: 0,
        reads: 0.into(),
    }
}

/// The number of an attribute.
fn attribute(line: &str, name: &str) -> Option<u64> {
    let (_, rest) = line.split_once(&format!(" {name}=\""))?;
    rest.split('"').next()?.parse().ok()
}

#[test]
fn what_thin_restore_makes_is_read_as_it_was_meant() {
    let pool = lived_in();
    let (_dir, device) = restored(&pool);
    let image = image(&device);
    let metadata = image.open();
    assert_eq!(
        (metadata.time(), metadata.transaction()),
        (pool.metadata.time, 7)
    );
    let devices = metadata.devices(0).unwrap().map(|device| device.unwrap());
    let devices: Vec<_> = devices.collect();
    assert_eq!(devices.len(), 5);
    for device in devices {
        let thin = &pool.metadata.thins[&crate::pool::thin_id(device.id)];
        assert_eq!(device.mapped_blocks, thin.mappings.len() as u64);
        assert_eq!(
            (device.created, device.snapshotted),
            (thin.created, thin.snapshotted)
        );
        let extents = metadata.extents(device.id, 0).unwrap();
        let extents: Vec<_> = extents.map(|extent| extent.unwrap()).collect();
        assert_eq!(spread(&extents), thin.mappings);
    }
}

#[test]
fn differences_are_those_of_thin_delta() {
    let (_dir, device) = restored(&lived_in());
    let image = image(&device);
    let metadata = image.open();
    for (first, second) in [(2, 1), (1, 3), (3, 4), (1, 70_000)] {
        let theirs = delta(&device, first, second);
        let runs = metadata.differences(first, second, 0).unwrap();
        let runs = runs.map(|run| run.unwrap());
        let ours = runs.flat_map(|run| (0..run.length).map(move |n| (run.begin + n, run.change)));
        assert_eq!(ours.collect::<BTreeMap<_, _>>(), theirs, "{first} {second}");
    }
}

fn delta(device: &str, first: u32, second: u32) -> BTreeMap<u64, Change> {
    let (first, second) = (first.to_string(), second.to_string());
    let text = tool(
        "thin_delta",
        &["--thin1", &first, "--thin2", &second, device],
    );
    let mut blocks = BTreeMap::new();
    for line in text.lines().map(str::trim_start) {
        let change = match line.split([' ', '>']).next() {
            Some("<different") => Change::Changed,
            Some("<left_only") => Change::Removed,
            Some("<right_only") => Change::Added,
            _ => continue,
        };
        let run = (attribute(line, "begin"), attribute(line, "length"));
        let (Some(begin), Some(length)) = run else {
            panic!("{line}");
        };
        blocks.extend((begin..begin + length).map(|block| (block, change)));
    }
    blocks
}

#[test]
fn exclusive_blocks_are_those_of_thin_ls() {
    let pool = lived_in();
    let (_dir, device) = restored(&pool);
    let image = image(&device);
    let metadata: Metadata<_> = image.open();
    let format = "DEV,MAPPED_BLOCKS,EXCLUSIVE_BLOCKS";
    let listed = tool("thin_ls", &["--no-headers", "-o", format, &device]);
    let mut seen = 0;
    for line in listed.lines() {
        let numbers: Vec<u64> = line
            .split_whitespace()
            .map(|n| n.parse().unwrap())
            .collect();
        let id = numbers[0] as u32;
        let alone = metadata.exclusive_blocks(id, pool.ids()).unwrap();
        assert_eq!(
            [metadata.device(id).unwrap().mapped_blocks, alone],
            numbers[1..]
        );
        seen += 1;
    }
    assert_eq!(seen, 5);
}
