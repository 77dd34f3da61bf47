//! What a SCSI disk over iSCSI is to be like, by the suite of libiscsi.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, ensure};
use ashlar_protocol::{
    Authentication, Connected, ConnectionSpec, HostSecrets, HostSpec, Transport,
};
use uuid::Uuid;

use super::{Lab, done};

/// The suite logs in as two hosts at once where it is about both.
const HOSTS: [&str; 2] = [
    "iqn.2026-11.org.example:compliance",
    "iqn.2026-11.org.example:compliance-2",
];

/// What Linux's target is known not to do as the suite wants it, and why it stays so. Whatever else
/// fails is a fault of ours; so is what is here and passes, since then nobody looks at it any more.
const KNOWN: [(&str, &str); 15] = [
    ("CompareAndWrite, Test Miscompare", TOO_MANY),
    ("CompareAndWrite, Test Simple", TOO_MANY),
    ("ReceiveCopyResults, Test CopyStatus", COPY),
    ("Verify10, Test Dpo", USAGE),
    ("Verify10, Test Mismatch", VERIFIED),
    ("Verify10, Test VerifyProtect", PROTECTION),
    ("Verify16, Test Dpo", USAGE),
    ("Verify16, Test Mismatch", VERIFIED),
    ("Verify16, Test VerifyProtect", PROTECTION),
    ("iSCSIResiduals, Test Write10Residuals", RESIDUAL),
    ("iSCSIResiduals, Test Write12Residuals", RESIDUAL),
    ("iSCSIResiduals, Test Write16Residuals", RESIDUAL),
    ("iSCSIResiduals, Test WriteVerify10Residuals", RESIDUAL),
    ("iSCSIResiduals, Test WriteVerify16Residuals", RESIDUAL),
    ("iSCSIdatasn, Test iSCSIDataSnInvalid", SEQUENCE),
];

/// The kernel ends a session, and with it the reservations of SPC-2, a moment after its connection: who
/// asks at once finds it reserved.
const EITHER: [&str; 2] = ["Reserve6, Test ITNexusLoss", "Reserve6, Test Logout"];

/// More blocks than it takes at once: refused as an error in the command, by another code for it.
const TOO_MANY: &str = "another sense code than the suite's for too many blocks";
const COPY: &str = "the status of a copy cannot be asked for, and copies are not offered";
const VERIFIED: &str = "VERIFY reads, and compares nothing with what comes along";
const PROTECTION: &str = "VERIFY takes no notice of protection that no volume has";
const USAGE: &str = "VERIFY takes DPO, and REPORT SUPPORTED OPERATION CODES tells no usage of it";
/// Nothing is written then, and the command fails.
const RESIDUAL: &str = "a write of another length than is sent is refused whole";
const SEQUENCE: &str = "a data segment out of order ends the connection";

/// Runs all of it against a volume.
pub async fn a_volume_is_the_disk_that_libiscsi_expects(lab: &mut Lab) -> anyhow::Result<()> {
    println!("libiscsi's suite for SCSI disks");
    let volume = lab.volume(128).await?;
    let mut hosts = Vec::new();
    let mut target = None;
    for iqn in HOSTS {
        let host = Uuid::new_v4();
        let spec = HostSpec {
            name: "compliance".parse()?,
            iqn: Some(iqn.parse()?),
            nqn: None,
            wwpns: Default::default(),
            authentication: Authentication::None,
            dhchap: Default::default(),
            secrets: HostSecrets::default(),
        };
        done(lab.client.host_create(host, &spec).await?)?;
        let spec = ConnectionSpec {
            of: Connected::Volume(volume),
            host,
            transport: Transport::Iscsi,
            access: Default::default(),
        };
        let connection = lab.client.connection_create(Uuid::new_v4(), &spec).await?;
        target = done(connection)?.iscsi;
        hosts.push(host);
    }
    let target = target.context("no iSCSI access")?;
    let port = lab.guest.site.ports.iscsi;
    let url = format!("iscsi://127.0.0.1:{port}/{}/{}", target.target, target.lun);
    let [first, second] = HOSTS;
    // Without a choice it runs most of them several times, as of several families.
    let suite = [
        "--dataloss",
        "--normal",
        "--test=ALL",
        "-i",
        first,
        "-I",
        second,
    ];
    let output = Command::new("iscsi-test-cu").args(suite).arg(&url).output();
    let output = output.context("failed to start iscsi-test-cu")?;
    judge(&String::from_utf8_lossy(&output.stdout))?;
    done(lab.client.volume_detach_all(volume).await?)?;
    for host in hosts {
        done(lab.client.host_delete(host).await?)?;
    }
    done(lab.client.volume_delete(volume).await?)
}

fn judge(said: &str) -> anyhow::Result<()> {
    let (ran, failed) = (tests_ran(said)?, failed(said));
    println!("{ran} tests, of which failed: {failed:?}");
    let known: BTreeSet<&str> = KNOWN.iter().map(|(test, _)| *test).collect();
    let ours = failed.difference(&known);
    let ours: Vec<_> = ours.filter(|test| !EITHER.contains(*test)).collect();
    ensure!(ours.is_empty(), "{ours:?} failed:\n{said}");
    let passed: Vec<_> = known.difference(&failed).collect();
    ensure!(passed.is_empty(), "{passed:?} are known to fail and passed");
    Ok(())
}

/// As CUnit's summary has it: of how many tests how many were run.
fn tests_ran(said: &str) -> anyhow::Result<u32> {
    let line = said
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("tests "));
    let mut numbers = line
        .context(format!("no summary:\n{said}"))?
        .split_ascii_whitespace();
    let all = numbers.next().context("no number of tests")?;
    let ran = numbers.next().context("no number of tests run")?;
    ensure!(all == ran && ran != "0", "of {all} tests {ran} were run");
    Ok(ran.parse()?)
}

/// "Suite Verify10, Test Dpo had failures:"
fn failed(said: &str) -> BTreeSet<&str> {
    let told = said.split("Suite ").skip(1);
    let tests = told.filter_map(|rest| rest.split_once(" had failures"));
    let tests = tests.map(|(test, _)| test);
    tests.filter(|test| test.contains(", Test ")).collect()
}
