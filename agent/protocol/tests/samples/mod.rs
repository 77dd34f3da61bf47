//! Values of every type that crosses the wire, sparse and full.

use std::collections::BTreeMap;
use std::fmt::Debug;

use ashlar_codec::{Limits, from_slice, to_vec};
use ashlar_protocol::qos as volume_qos;
use ashlar_protocol::*;
use ashlar_targetd_protocol::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// A value as it goes over the wire, and the rule it must fit.
pub struct Sample {
    pub rule: &'static str,
    pub bytes: Vec<u8>,
    pub shown: String,
    /// Whether bytes decode into the sample's type.
    pub decodes: fn(&[u8]) -> bool,
}

fn sample<T>(rule: &'static str, value: T) -> Sample
where
    T: Serialize + DeserializeOwned + Debug + PartialEq,
{
    let bytes = to_vec(&value).unwrap();
    let back: T = from_slice(&bytes, &Limits::default()).unwrap();
    assert_eq!(back, value, "{rule}");
    Sample {
        rule,
        bytes,
        shown: format!("{value:?}"),
        decodes: |bytes| from_slice::<T>(bytes, &Limits::default()).is_ok(),
    }
}

/// The item alone and in lists, where `list` is one.
fn listed<T>(list: &'static str, items: Vec<T>) -> [Sample; 2]
where
    T: Serialize + DeserializeOwned + Debug + PartialEq,
{
    let page = |items, next: Option<&str>| Page {
        items,
        next: next.map(str::to_owned),
    };
    [
        sample(list, page(Vec::<T>::new(), None)),
        sample(list, page(items, Some("c29tZXdoZXJl"))),
    ]
}

/// All samples.
pub fn all() -> Vec<Sample> {
    let mut all = Vec::new();
    all.extend(box_itself());
    all.extend(pools());
    all.extend(volumes());
    all.extend(snapshots());
    all.extend(extents());
    all.extend(groups());
    all.push(imported());
    all.extend(portals());
    all.extend(hosts());
    all.extend(connections());
    all.extend(jobs());
    all.extend(events());
    all.extend(audit());
    all.extend(bulk());
    all
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(0x6ba7_b810_9dad_41d1_80b4_00c0_4fd4_0000 + number)
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn box_itself() -> Vec<Sample> {
    let capabilities = Capabilities {
        transports: vec![Transport::Iscsi, Transport::NvmeTcp],
        volume_granularity: volume::GRANULARITY,
        volume_max: volume::MAX_SIZE,
        online_extend: true,
        multiattach: true,
        qos: true,
        page_max: page::MAX_LIMIT as u64,
        body_max: MAX_BODY as u64,
    };
    let system = System {
        id: id(1),
        name: name("box1"),
        version: "0.1.0".to_owned(),
        protocol: 1,
        kernel: Some("6.12.0".to_owned()),
        capabilities,
        frozen: None,
    };
    let frozen = |reason: Option<&str>| System {
        frozen: Some(Frozen {
            since: 1_800_000_000,
            reason: reason.map(name),
        }),
        ..system.clone()
    };
    let away = System {
        kernel: None,
        ..system.clone()
    };
    let check = |status, detail: Option<&str>| Check {
        name: "store".to_owned(),
        status,
        detail: detail.map(str::to_owned),
    };
    let health = Health {
        status: HealthStatus::Failed,
        checks: vec![
            check(HealthStatus::Ok, None),
            check(HealthStatus::Degraded, Some("slow")),
            check(HealthStatus::Failed, Some("gone")),
        ],
    };
    let blank = Disk {
        id: "serial-DISK0".parse().unwrap(),
        kernel_name: "vda".to_owned(),
        size: 1 << 40,
        rotational: false,
        in_use: false,
        content: None,
        pool: None,
    };
    let taken = Disk {
        id: "wwn-0x5000c500a1b2c3d4".parse().unwrap(),
        in_use: true,
        content: Some("an Ashlar pool".to_owned()),
        pool: Some(id(2)),
        ..blank.clone()
    };
    let (freezing, thawing) = (frozen(Some("a move")), frozen(None));
    let slot = |name, version: Option<&str>| FirmwareSlot {
        name,
        good: version.is_none(),
        version: version.map(str::to_owned),
        installed: version.map(|_| 1_800_000_000),
    };
    let firmware = Firmware {
        version: "1.2.3".to_owned(),
        running: SlotName::A,
        next: SlotName::B,
        installing: false,
        slots: vec![slot(SlotName::A, None), slot(SlotName::B, Some("1.2.4"))],
    };
    let mut all = vec![
        sample("system-show-reply", system),
        sample("system-show-reply", away),
        sample("system-freeze-reply", freezing),
        sample("system-thaw-reply", thawing),
        sample("system-freeze-request", FreezeSpec::default()),
        sample(
            "system-freeze-request",
            FreezeSpec {
                reason: Some(name("a move")),
            },
        ),
        sample("system-thaw-request", ThawSpec {}),
        sample("system-restart-request", RestartSpec {}),
        sample(
            "firmware-install-reply",
            JobResult {
                written: Some(1 << 27),
                sha256: Some([7; 32].into()),
                ..JobResult::default()
            },
        ),
        sample("firmware-show-reply", firmware.clone()),
        sample("firmware-activate-reply", firmware),
        sample(
            "firmware-activate-request",
            ActivateSpec { slot: SlotName::B },
        ),
        sample("health-show-reply", health),
    ];
    all.extend(identity());
    all.extend(listed("disk-list-reply", vec![blank, taken]));
    all
}

fn identity() -> Vec<Sample> {
    let certificate = Certificate {
        subject: "CN=AX-000123".to_owned(),
        sha256: [9; 32].into(),
        key_sha256: [8; 32].into(),
        not_before: 1_700_000_000,
        not_after: 253_402_300_799,
    };
    let new = Identity {
        phase: Phase::Factory,
        serial: "AX-000123".parse().ok(),
        certificate: certificate.clone(),
        device: None,
        proof: Some([3; 32].into()),
    };
    let configured = Identity {
        phase: Phase::Configured,
        serial: None,
        certificate: certificate.clone(),
        device: None,
        proof: None,
    };
    let owned = |phase| Identity {
        phase,
        device: Some(certificate.clone()),
        proof: None,
        ..new.clone()
    };
    let pem = Pem::try_from("-----BEGIN CERTIFICATE-----\n".to_owned()).unwrap();
    let list = |next_update| RevocationList {
        issuer: "CN=owner".to_owned(),
        number: "7".to_owned(),
        revoked: 2,
        this_update: 1_800_000_000,
        next_update,
    };
    let trust = Trust {
        authorities: vec![certificate.clone()],
        lists: vec![list(None), list(Some(1_800_086_400))],
        denied: vec![[4; 32].into()],
    };
    let update = TrustUpdate {
        authorities: Some(pem.clone()),
        lists: Some(pem.clone()),
        deny: vec![[4; 32].into()],
        allow: vec![[5; 32].into()],
        dry_run: true,
    };
    let names = vec!["box1.example".parse().unwrap()];
    let request = pem.clone();
    let secret = "ABCDE-FGHJK-01234-56789-VWXYZ".to_owned();
    vec![
        sample("identity-show-reply", new.clone()),
        sample("identity-show-reply", configured),
        sample("identity-install-reply", owned(Phase::Claimed)),
        sample("identity-seal-reply", owned(Phase::Unclaimed)),
        sample("identity-claim-reply", owned(Phase::Claimed)),
        sample("identity-request-request", RequestSpec::default()),
        sample("identity-request-request", RequestSpec { names }),
        sample("identity-request-reply", SigningRequest { request }),
        sample(
            "identity-install-request",
            InstallSpec {
                certificates: pem.clone(),
            },
        ),
        sample(
            "identity-seal-request",
            SealSpec {
                certificates: pem.clone(),
                claim: [1; 32].into(),
            },
        ),
        sample(
            "identity-claim-request",
            ClaimSpec {
                secret: secret.try_into().unwrap(),
                authorities: pem.clone(),
                client: pem.clone(),
            },
        ),
        sample(
            "support-bundle-request",
            SupportSpec {
                certificate: pem.clone(),
            },
        ),
        sample(
            "identity-reset-request",
            ResetSpec {
                secret: "ABCDE-FGHJK-01234-56789-VWXYZ"
                    .to_owned()
                    .try_into()
                    .unwrap(),
                abandon_pools: false,
            },
        ),
        sample(
            "identity-reset-request",
            ResetSpec {
                secret: "ABCDE-FGHJK-01234-56789-VWXYZ"
                    .to_owned()
                    .try_into()
                    .unwrap(),
                abandon_pools: true,
            },
        ),
        sample("trust-show-reply", trust.clone()),
        sample("trust-update-request", TrustUpdate::default()),
        sample("trust-update-request", update),
        sample(
            "trust-update-reply",
            TrustUpdated {
                trust,
                cut: vec!["CN=alice".to_owned()],
            },
        ),
    ]
}

fn pools() -> Vec<Sample> {
    let disks = vec!["serial-A".parse().unwrap(), "wwn-0x1".parse().unwrap()];
    let least = PoolSpec::on(name("fast"), disks.clone());
    let full = PoolSpec {
        block_size: Some(65_536),
        metadata_size: Some(2 << 20),
        wipe: true,
        over_subscription: 2_000,
        reserved: 99,
        redundancy: Redundancy::Raid1,
        watermarks: Watermarks {
            warn: 1,
            critical: 50,
            stop: 100,
        },
        scrub_days: 0,
        ..least.clone()
    };
    let pool = |state, used: Option<u64>| Pool {
        id: id(2),
        name: name("fast"),
        disks: disks.clone(),
        redundancy: Redundancy::None,
        members: Vec::new(),
        sets: Vec::new(),
        spares: Vec::new(),
        replacing: None,
        block_size: 65_536,
        metadata_size: 2 << 20,
        state,
        capacity: used.map(|used| used * 10),
        used,
        metadata_used: used,
        provisioned: u64::MAX,
        thick: 1 << 30,
        over_subscription: 100,
        reserved: 5,
        level: PoolLevel::Critical,
        watermarks: Watermarks::default(),
        scrub_days: 30,
        scrubbed: used.map(|mismatches| Scrubbed {
            time: 1_800_000_000,
            mismatches,
        }),
        volumes: 3,
        snapshots: 1,
        generation: 7,
    };
    let mut all = vec![
        sample("pool-create-request", least),
        sample("pool-create-request", full),
        sample("pool-create-reply", pool(PoolState::Creating, None)),
        sample("pool-show-reply", pool(PoolState::Online, Some(5))),
    ];
    let others = vec![
        pool(PoolState::Offline, None),
        pool(PoolState::Degraded, Some(0)),
        pool(PoolState::Deleting, None),
    ];
    let update = PoolUpdate {
        name: Some(name("slow")),
        over_subscription: Some(0),
        reserved: Some(10),
        watermarks: Some(Watermarks::default()),
        spares: Some(vec!["serial-S".parse().unwrap()]),
        scrub_days: Some(3650),
    };
    let statistics = |io| PoolStatistics {
        id: id(2),
        capacity: Some(100),
        used: Some(50),
        metadata_used: Some(7),
        data: io,
        metadata: io,
        provisioned: 200,
        thick: 0,
    };
    all.push(sample("pool-update-request", update));
    all.push(sample("pool-update-request", PoolUpdate::default()));
    for force in [false, true] {
        all.push(sample("pool-import-request", ImportSpec { force }));
    }
    all.push(sample(
        "pool-import-reply",
        pool(PoolState::Online, Some(5)),
    ));
    let growth = |metadata_size, wipe| PoolGrowth {
        disks: vec!["serial-SDISK2".parse().unwrap()],
        metadata_size,
        wipe,
    };
    all.push(sample("pool-grow-request", growth(None, false)));
    all.push(sample("pool-grow-request", growth(Some(128 << 20), true)));
    all.push(sample("pool-grow-reply", pool(PoolState::Online, Some(5))));
    all.push(sample(
        "pool-update-reply",
        pool(PoolState::Online, Some(5)),
    ));
    all.extend(with_redundancy(&pool(PoolState::Online, Some(5))));
    all.push(sample("pool-statistics-reply", statistics(None)));
    all.push(sample(
        "pool-statistics-reply",
        statistics(Some(counters())),
    ));
    all.extend(listed("pool-list-reply", others));
    all
}

/// What there is to say of disks that stand in for each other.
fn with_redundancy(pool: &Pool) -> Vec<Sample> {
    let replace = |wipe| ReplaceSpec {
        disk: "serial-A".parse().unwrap(),
        by: "serial-B".parse().unwrap(),
        wipe,
    };
    let redundant = |redundancy, state, action| Pool {
        redundancy,
        members: vec![Member {
            disk: "serial-A".parse().unwrap(),
            set: 0,
            state,
        }],
        sets: vec![PoolSet {
            action,
            done: 1 << 20,
            total: 1 << 30,
            mismatches: 512,
        }],
        spares: vec!["serial-S".parse().unwrap()],
        replacing: Some(Replacement {
            disk: "serial-A".parse().unwrap(),
            by: "serial-B".parse().unwrap(),
        }),
        ..pool.clone()
    };
    use MemberState as State;
    use SetAction as Action;
    let kinds = [
        (Redundancy::Raid1, State::InSync, Action::Idle),
        (Redundancy::Raid10, State::Rebuilding, Action::Rebuild),
        (Redundancy::Raid5, State::Failed, Action::Resync),
        (Redundancy::Raid6, State::Missing, Action::Frozen),
        (Redundancy::Raid6, State::InSync, Action::Check),
        (Redundancy::Raid6, State::InSync, Action::Repair),
    ];
    let mut all = vec![
        sample("pool-replace-request", replace(false)),
        sample("pool-replace-request", replace(true)),
    ];
    for mode in [ScrubMode::Check, ScrubMode::Repair, ScrubMode::Stop] {
        all.push(sample("pool-scrub-request", ScrubSpec { mode }));
    }
    for (redundancy, state, action) in kinds {
        let pool = redundant(redundancy, state, action);
        all.push(sample("pool-replace-reply", pool.clone()));
        all.push(sample("pool-scrub-reply", pool));
    }
    all
}

fn counters() -> IoCounters {
    let totals = IoTotals {
        operations: 10,
        bytes: Bytes(40_960),
        milliseconds: 3,
    };
    IoCounters {
        reads: totals,
        writes: totals,
        discards: totals,
        flushes: totals,
        busy_milliseconds: 9,
        reads_in_flight: 1,
        writes_in_flight: 0,
    }
}

fn volumes() -> Vec<Sample> {
    let qos = Qos {
        read_iops: Some(10),
        write_iops: Some(volume_qos::MAX_IOPS),
        total_bytes: Some(volume_qos::MIN_BYTES),
        per_gib: true,
        ..Qos::default()
    };
    let others = Qos {
        total_iops: Some(100),
        read_bytes: Some(1 << 20),
        write_bytes: Some(volume_qos::MAX_BYTES),
        ..Qos::default()
    };
    let blank = VolumeSpec::blank(name("Größe 1"), id(2), 1);
    let clone = VolumeSpec {
        size: None,
        source: Some(Parent::Snapshot(id(7))),
        labels: labels(),
        ..blank.clone()
    };
    let larger = VolumeSpec {
        source: Some(Parent::Volume(id(3))),
        ..blank.clone()
    };
    let revert = |interrupt| RevertSpec {
        snapshot: id(7),
        interrupt,
    };
    let adopt = AdoptSpec {
        name: name("found"),
        pool: id(2),
        thin_id: ThinId::try_from(0xff_ffff).unwrap(),
        size: None,
        labels: Labels::default(),
        qos: None,
        provisioning: Provisioning::Thin,
    };
    let adopt_with_all = AdoptSpec {
        thin_id: ThinId::try_from(0).unwrap(),
        size: Some(1 << 30),
        labels: labels(),
        qos: Some(qos),
        provisioning: Provisioning::Thick,
        ..adopt.clone()
    };
    let transfer = |interrupt| TransferSpec {
        owner: name("billing"),
        interrupt,
    };
    let moving = |bandwidth| MoveSpec {
        pool: id(8),
        bandwidth,
    };
    let volume = |state| Volume {
        id: id(3),
        name: name("db"),
        owner: None,
        group: None,
        pool: id(2),
        size: 1 << 30,
        state,
        connections: 1,
        snapshots: 2,
        parent: None,
        labels: Labels::default(),
        qos: None,
        provisioning: Provisioning::Thin,
        created: 1_800_000_000,
        generation: 8,
    };
    let cloned = Volume {
        owner: Some(name("billing")),
        group: Some(id(34)),
        parent: Some(Parent::Volume(id(3))),
        labels: labels(),
        qos: Some(qos),
        provisioning: Provisioning::Thick,
        ..volume(VolumeState::Available)
    };
    let limited = VolumeSpec {
        qos: Some(qos),
        provisioning: Provisioning::Thick,
        ..blank.clone()
    };
    let update = VolumeUpdate {
        name: Some(name("other")),
        labels: Some(labels()),
        qos: Some(others),
        provisioning: Some(Provisioning::Thin),
    };
    let unlimited = VolumeUpdate {
        qos: Some(Qos::default()),
        ..VolumeUpdate::default()
    };
    let statistics = |io: Option<IoCounters>| VolumeStatistics {
        id: id(3),
        active: io.is_some(),
        used: io.map(|_| 65_536),
        io,
    };
    let mut all = vec![
        sample("volume-create-request", blank),
        sample("volume-create-request", clone),
        sample("volume-create-request", larger),
        sample("volume-create-reply", cloned.clone()),
        sample("volume-create-request", limited),
        sample("volume-update-request", update),
        sample("volume-update-request", unlimited),
        sample("volume-update-request", VolumeUpdate::default()),
        sample("volume-update-reply", cloned.clone()),
        sample("volume-statistics-reply", statistics(None)),
        sample("volume-statistics-reply", statistics(Some(counters()))),
        sample("volume-revert-request", revert(true)),
        sample("volume-revert-request", revert(false)),
        sample("volume-revert-reply", volume(VolumeState::Available)),
        sample("volume-adopt-request", adopt),
        sample("volume-adopt-request", adopt_with_all),
        sample("volume-adopt-reply", volume(VolumeState::Adopting)),
        sample("volume-release-request", ReleaseSpec {}),
        sample("volume-show-reply", volume(VolumeState::Releasing)),
        sample("volume-transfer-request", transfer(true)),
        sample("volume-transfer-request", transfer(false)),
        sample("volume-transfer-reply", cloned.clone()),
        sample("volume-move-request", moving(None)),
        sample("volume-move-request", moving(Some(100 << 20))),
        sample("volume-move-reply", volume(VolumeState::Available)),
        sample("volume-create-reply", volume(VolumeState::Creating)),
        sample("volume-extend-request", ExtendSpec { size: 2 << 30 }),
        sample("volume-extend-reply", volume(VolumeState::Available)),
        sample("volume-show-reply", volume(VolumeState::Deleting)),
        sample("volume-show-reply", volume(VolumeState::Reverting)),
    ];
    all.extend(listed(
        "volume-list-reply",
        vec![volume(VolumeState::Available)],
    ));
    all
}

fn secrets() -> HostSecrets {
    let credentials = |name: &str| ChapCredentials {
        name: ChapName::try_from(name.to_owned()).unwrap(),
        secret: ChapSecret::try_from("abcdefghijkl".to_owned()).unwrap(),
    };
    let key = |hash: &str, length: usize| {
        let key = format!("DHHC-1:{hash}:{}:", "A".repeat(length));
        DhchapKey::try_from(key).unwrap()
    };
    HostSecrets {
        chap: Some(credentials("web")),
        chap_mutual: Some(credentials("box1")),
        dhchap: Some(key("00", 48)),
        dhchap_controller: Some(key("03", 92)),
    }
}

fn labels() -> Labels {
    let labels = [("owner", "db team"), ("empty", "")];
    let owned = labels.map(|(name, text)| (name.to_owned(), text.to_owned()));
    Labels::try_from(BTreeMap::from(owned)).unwrap()
}

fn extents() -> Vec<Sample> {
    let usage = |shared| Usage {
        size: 1 << 30,
        used: 192 << 10,
        shared,
    };
    let extent = |offset, kind| Extent {
        offset,
        length: 64 << 10,
        kind,
    };
    let extents = vec![
        extent(0, ExtentKind::Data),
        extent(1 << 40, ExtentKind::Hole),
    ];
    let mut all = vec![
        sample("volume-usage-reply", usage(Some(64 << 10))),
        sample("volume-usage-reply", usage(None)),
        sample("snapshot-usage-reply", usage(Some(0))),
    ];
    let device = |thin_id, volume, snapshot, reason: Option<Unadoptable>| ThinDevice {
        thin_id,
        used: 64 << 10,
        end: 1 << 30,
        volume,
        snapshot,
        adoptable: reason.is_none(),
        reason,
    };
    let devices = vec![
        device(0, Some(id(3)), None, Some(Unadoptable::Owned)),
        device(1, None, Some(id(7)), Some(Unadoptable::Retired)),
        device(2, None, None, Some(Unadoptable::TooLarge)),
        device(0xff_ffff, None, None, None),
    ];
    all.extend(listed("thin-device-list-reply", devices));
    all.extend(listed("volume-extents-reply", extents.clone()));
    all.extend(listed("snapshot-extents-reply", extents));
    all
}

fn snapshots() -> Vec<Sample> {
    let spec = SnapshotSpec {
        name: name("before"),
        volume: id(3),
        labels: Labels::default(),
    };
    let labelled = SnapshotSpec {
        labels: labels(),
        ..spec.clone()
    };
    let update = SnapshotUpdate {
        name: Some(name("after")),
        labels: Some(labels()),
    };
    let snapshot = |state| Snapshot {
        id: id(7),
        name: name("before"),
        volume: id(3),
        pool: id(2),
        size: 1 << 30,
        state,
        labels: Labels::default(),
        group: None,
        created: 1_800_000_000,
        generation: 9,
    };
    let member = Snapshot {
        labels: labels(),
        group: Some(id(8)),
        ..snapshot(SnapshotState::Available)
    };
    let adopt = AdoptSnapshotSpec {
        name: name("found"),
        volume: id(3),
        thin_id: ThinId::try_from(0xff_ffff).unwrap(),
        size: None,
        labels: Labels::default(),
    };
    let adopt_with_all = AdoptSnapshotSpec {
        size: Some(1 << 30),
        labels: labels(),
        ..adopt.clone()
    };
    let mut all = vec![
        sample("snapshot-update-request", SnapshotUpdate::default()),
        sample("snapshot-update-request", update),
        sample("snapshot-update-reply", snapshot(SnapshotState::Available)),
        sample("snapshot-adopt-request", adopt),
        sample("snapshot-adopt-request", adopt_with_all),
        sample("snapshot-adopt-reply", snapshot(SnapshotState::Adopting)),
        sample("snapshot-release-request", ReleaseSpec {}),
        sample("snapshot-show-reply", snapshot(SnapshotState::Releasing)),
        sample("snapshot-create-request", spec),
        sample("snapshot-create-request", labelled),
        sample("snapshot-create-reply", snapshot(SnapshotState::Creating)),
        sample("snapshot-show-reply", snapshot(SnapshotState::Deleting)),
        sample("snapshot-show-reply", member.clone()),
    ];
    all.extend(listed("snapshot-list-reply", vec![member]));
    all
}

fn imported() -> Sample {
    let result = JobResult {
        written: Some(4096),
        zeroed: Some(0),
        sha256: Some("ab".repeat(32).try_into().unwrap()),
        ..JobResult::default()
    };
    sample("volume-import-reply", result)
}

fn groups() -> Vec<Sample> {
    let copies = |group, group_snapshot| GroupSource {
        group,
        group_snapshot,
        volumes: vec![MemberCopy {
            source: id(30),
            volume: id(31),
        }],
    };
    let of_volumes = GroupSpec {
        name: name("app"),
        volumes: vec![id(30), id(32)],
        source: None,
    };
    let of_copies = |source| GroupSpec {
        name: name("copy"),
        volumes: Vec::new(),
        source: Some(source),
    };
    let update = GroupUpdate {
        name: Some(name("other")),
        add: vec![id(33)],
        remove: vec![id(30)],
    };
    let group = Group {
        id: id(34),
        name: name("app"),
        volumes: vec![id(30), id(32)],
        state: GroupState::Creating,
        group_snapshots: 2,
        created: 1_800_000_000,
        generation: 12,
    };
    let snapshot_spec = GroupSnapshotSpec {
        name: name("nightly"),
        group: id(34),
        snapshots: vec![MemberSnapshot {
            volume: id(30),
            snapshot: id(35),
        }],
    };
    let snapshot_update = GroupSnapshotUpdate {
        name: Some(name("kept")),
    };
    let snapshot = GroupSnapshot {
        id: id(36),
        name: name("nightly"),
        group: id(34),
        snapshots: vec![id(35)],
        state: GroupState::Available,
        created: 1_800_000_000,
        generation: 13,
    };
    let mut all = vec![
        sample("group-create-request", of_volumes),
        sample(
            "group-create-request",
            of_copies(copies(Some(id(34)), None)),
        ),
        sample(
            "group-create-request",
            of_copies(copies(None, Some(id(36)))),
        ),
        sample("group-update-request", GroupUpdate::default()),
        sample("group-update-request", update),
        sample("group-create-reply", group.clone()),
        sample("group-update-reply", group.clone()),
        sample("group-show-reply", group.clone()),
        sample(
            "group-snapshot-update-request",
            GroupSnapshotUpdate::default(),
        ),
        sample("group-snapshot-update-request", snapshot_update),
        sample("group-snapshot-update-reply", snapshot.clone()),
        sample("group-snapshot-create-request", snapshot_spec),
        sample("group-snapshot-create-reply", snapshot.clone()),
        sample("group-snapshot-show-reply", snapshot.clone()),
    ];
    all.extend(listed("group-list-reply", vec![group]));
    all.extend(listed("group-snapshot-list-reply", vec![snapshot]));
    all
}

fn portals() -> Vec<Sample> {
    let spec = |address: &str, transport| PortalSpec {
        address: address.parse().unwrap(),
        transport,
    };
    let asked = Portal {
        id: id(6),
        address: "[2001:db8::7]:4420".parse().unwrap(),
        transport: Transport::NvmeTcp,
        configured: false,
        state: PortalState::Waiting,
        detail: Some("no interface of this box has 2001:db8::7".to_owned()),
        generation: 12,
    };
    let states = [
        PortalState::Adding,
        PortalState::Ready,
        PortalState::Failed,
        PortalState::Removing,
    ];
    let others = states.map(|state| Portal {
        configured: true,
        state,
        detail: None,
        generation: 0,
        ..asked.clone()
    });
    let mut all = vec![
        sample(
            "portal-create-request",
            spec("192.0.2.7:3260", Transport::Iscsi),
        ),
        sample(
            "portal-create-request",
            spec("[2001:db8::7]:4420", Transport::NvmeTcp),
        ),
        sample("portal-create-reply", asked.clone()),
        sample("portal-show-reply", asked),
    ];
    all.extend(listed("portal-list-reply", others.into()));
    all
}

fn hosts() -> Vec<Sample> {
    let least = HostSpec {
        name: name("web"),
        iqn: None,
        nqn: None,
        wwpns: Default::default(),
        authentication: Authentication::Required,
        dhchap: DhchapExchange::default(),
        secrets: HostSecrets::default(),
    };
    let full = HostSpec {
        iqn: Some("iqn.1993-08.org.debian:01:abc".parse().unwrap()),
        nqn: Some("nqn.2014-08.org.nvmexpress:uuid:x".parse().unwrap()),
        wwpns: ["20:00:00:25:b5:aa:0c:1f".parse().unwrap()].into(),
        authentication: Authentication::Mutual,
        dhchap: DhchapExchange {
            hash: DhHash::Sha384,
            group: DhGroup::Ffdhe3072,
        },
        secrets: secrets(),
        ..least.clone()
    };
    let open = HostSpec {
        authentication: Authentication::None,
        ..least.clone()
    };
    let rotation = HostRotation {
        authentication: Some(Authentication::Mutual),
        dhchap: Some(full.dhchap),
        secrets: secrets(),
    };
    let host = |spec: &HostSpec| Host {
        id: id(4),
        name: spec.name.clone(),
        iqn: spec.iqn.clone(),
        nqn: spec.nqn.clone(),
        wwpns: spec.wwpns.clone(),
        authentication: spec.authentication,
        dhchap: spec.dhchap,
        connections: 0,
        generation: 9,
    };
    let created = |spec: &HostSpec| HostCreated {
        host: host(spec),
        secrets: spec.secrets.clone(),
    };
    let mut all = vec![
        sample("host-create-reply", created(&least)),
        sample("host-create-reply", created(&full)),
        sample("host-show-reply", host(&full)),
        sample("host-rotate-request", HostRotation::default()),
        sample("host-rotate-request", rotation),
        sample("host-rotate-reply", created(&full)),
    ];
    all.extend(listed("host-list-reply", vec![host(&least), host(&full)]));
    all.push(sample("host-create-request", least));
    all.push(sample("host-create-request", full));
    all.push(sample("host-create-request", open));
    all
}

fn connections() -> Vec<Sample> {
    let spec = |transport| ConnectionSpec {
        of: Connected::Volume(id(3)),
        host: id(4),
        transport,
        access: Access::ReadWrite,
    };
    let portals: Vec<PortalAddr> = vec![
        "192.0.2.7:3260".parse().unwrap(),
        "[2001:db8::1]:4420".parse().unwrap(),
    ];
    let connection = |transport, state| Connection {
        id: id(5),
        volume: Some(id(3)),
        snapshot: None,
        host: id(4),
        transport,
        access: Access::ReadOnly,
        state,
        iscsi: None,
        fc: None,
        nvme: None,
        generation: 10,
    };
    let iscsi = Connection {
        iscsi: Some(IscsiAccess {
            target: "iqn.2026-11.io.ashlar:0:1".parse().unwrap(),
            lun: Lun::try_from(0).unwrap(),
            portals: portals.clone(),
            serial: "6ba7b810".to_owned(),
        }),
        ..connection(Transport::Iscsi, ConnectionState::Ready)
    };
    let nvme = Connection {
        nvme: Some(NvmeAccess {
            subsystem: "nqn.2026-11.io.ashlar:0:1".parse().unwrap(),
            nsid: Nsid::try_from(1).unwrap(),
            uuid: id(3),
            portals,
            fc_ports: Vec::new(),
        }),
        ..connection(Transport::NvmeTcp, ConnectionState::Attaching)
    };
    let fc_port = "nn-0x10000025b5aa0c1f:pn-0x20000025b5aa0c1f";
    let fc = Connection {
        fc: Some(FcAccess {
            ports: vec!["20000025b5aa0c1f".parse().unwrap()],
            lun: Lun::try_from(2).unwrap(),
            serial: "6ba7b810".to_owned(),
        }),
        ..connection(Transport::Fc, ConnectionState::Ready)
    };
    let nvme_fc = Connection {
        transport: Transport::NvmeFc,
        nvme: nvme.nvme.clone().map(|access| NvmeAccess {
            portals: Vec::new(),
            fc_ports: vec![fc_port.parse().unwrap()],
            ..access
        }),
        ..nvme.clone()
    };
    let mut all = vec![
        sample("connection-create-request", spec(Transport::Iscsi)),
        sample("connection-create-request", spec(Transport::Iser)),
        sample("connection-create-request", spec(Transport::NvmeTcp)),
        sample(
            "connection-create-request",
            ConnectionSpec {
                access: Access::ReadOnly,
                ..spec(Transport::Iscsi)
            },
        ),
        sample(
            "connection-create-request",
            ConnectionSpec {
                of: Connected::Snapshot(id(7)),
                access: Access::ReadOnly,
                ..spec(Transport::Iscsi)
            },
        ),
        sample("connection-create-reply", iscsi.clone()),
        sample(
            "connection-create-reply",
            Connection {
                volume: None,
                snapshot: Some(id(7)),
                ..iscsi.clone()
            },
        ),
        sample("connection-show-reply", nvme),
        sample("connection-show-reply", nvme_fc),
        sample("connection-show-reply", fc),
    ];
    let leaving = connection(Transport::Iser, ConnectionState::Detaching);
    all.extend(listed("connection-list-reply", vec![iscsi, leaving]));
    all
}

fn jobs() -> Vec<Sample> {
    let kinds = [
        ObjectKind::Pool,
        ObjectKind::Volume,
        ObjectKind::Snapshot,
        ObjectKind::Portal,
        ObjectKind::Host,
        ObjectKind::Connection,
        ObjectKind::Job,
        ObjectKind::System,
    ];
    let job = |kind, state, problem| Job {
        id: id(6),
        operation: Operation::VolumeDelete,
        object: ObjectRef { kind, id: id(3) },
        state,
        problem,
        progress: None,
        result: None,
        created: 1_800_000_000,
    };
    let problem = Problem::new(ProblemCode::InUse, "it is").about(ObjectRef {
        kind: ObjectKind::Volume,
        id: id(3),
    });
    let running = kinds.map(|kind| job(kind, JobState::Running, None));
    let failed = job(ObjectKind::Volume, JobState::Failed, Some(problem.clone()));
    let done = job(ObjectKind::Volume, JobState::Succeeded, None);
    let cancelled = Job {
        progress: Some(Progress {
            done: 1 << 20,
            total: None,
        }),
        ..job(ObjectKind::Volume, JobState::Cancelled, None)
    };
    let written = Job {
        progress: Some(Progress {
            done: 4 << 20,
            total: Some(4 << 20),
        }),
        result: Some(JobResult {
            written: Some(1 << 20),
            zeroed: Some(3 << 20),
            sha256: Some([0xa5; 32].into()),
            ..JobResult::default()
        }),
        ..done.clone()
    };
    let cleared = Job {
        result: Some(JobResult {
            zeroed: Some(1 << 20),
            left: Some(2 << 20),
            ..JobResult::default()
        }),
        ..written.clone()
    };
    let mut all = vec![
        sample("job-show-reply", failed),
        sample("job-show-reply", cleared),
        sample("job-show-reply", done),
        sample("job-show-reply", cancelled),
        sample("job-show-reply", written),
        sample("problem", problem),
        sample("problem", Problem::new(ProblemCode::Busy, "")),
    ];
    all.extend(listed("job-list-reply", running.into()));
    all
}

fn events() -> Vec<Sample> {
    let object = |kind| ObjectRef { kind, id: id(3) };
    let sparse = Event {
        id: 1,
        time: 1_800_000_000,
        kind: EventKind::new(ObjectKind::Volume, "create-failed"),
        object: object(ObjectKind::Volume),
        request: None,
        detail: None,
    };
    let full = Event {
        id: 2,
        kind: EventKind::new(ObjectKind::System, "frozen"),
        object: object(ObjectKind::System),
        request: Some(id(6)),
        detail: Some("maintenance".to_owned()),
        ..sparse.clone()
    };
    let mut all = vec![
        sample("event-stream-item", sparse.clone()),
        sample("event-stream-item", full.clone()),
    ];
    all.extend(listed("event-list-reply", vec![sparse, full]));
    all
}

fn audit() -> Vec<Sample> {
    let left = AuditRecord {
        id: 1,
        time: 1_800_000_000,
        request: id(6),
        subject: "a stranger".to_owned(),
        key_sha256: None,
        role: None,
        from: "192.0.2.1:50000".to_owned(),
        operation: None,
        object: None,
        status: None,
        code: None,
        ms: 3,
    };
    let refused = AuditRecord {
        id: 2,
        key_sha256: Some([7; 32].into()),
        role: Some(Role::Reader),
        operation: Some(Operation::AuditList),
        object: Some(id(3)),
        status: Some(403),
        code: Some(ProblemCode::Forbidden),
        ..left.clone()
    };
    let mut all = vec![
        sample("audit-stream-item", left.clone()),
        sample("audit-stream-item", refused.clone()),
    ];
    all.extend(listed("audit-list-reply", vec![left, refused]));
    all
}

fn bulk() -> [Sample; 3] {
    let item = |method, body| BulkItem {
        method,
        path: "/v1/volumes/x".to_owned().try_into().unwrap(),
        body,
    };
    let body = Some(ashlar_codec::Value::Text("any".to_owned()));
    let items = vec![
        item(BulkMethod::Put, body.clone()),
        item(BulkMethod::Post, None),
        item(BulkMethod::Delete, None),
    ];
    let answers = vec![
        BulkAnswer { status: 201, body },
        BulkAnswer {
            status: 204,
            body: None,
        },
    ];
    [
        sample("bulk-change-request", BulkSpec { items: Vec::new() }),
        sample("bulk-change-request", BulkSpec { items }),
        sample("bulk-change-reply", BulkReply { items: answers }),
    ]
}
