//! What the service manager says of how far our programs are shut in.

use std::path::Path;
use std::process::Command;

/// Most exposure allowed, in tenths, as `systemd-analyze security` counts it: 0 is nothing at
/// all, 100 is root without any limit.
const LIMITS: &[(&str, u32)] = &[
    ("ashlar-agent.service", 12),
    ("ashlar-restart@.service", 8),
    ("ashlar-slot.service", 17),
    ("ashlar-targetd.service", 22),
    ("rauc.service", 16),
];

#[test]
fn each_program_is_shut_in_as_far_as_its_work_allows() {
    for (unit, limit) in LIMITS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("appliance/etc/systemd/system")
            .join(unit);
        let output = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager"])
            .arg(format!("--threshold={limit}"))
            .arg(&path)
            .output()
            .expect("systemd-analyze is part of Debian's systemd package");
        let table = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{unit} over {limit} tenths:\n{table}"
        );
    }
}

#[test]
fn the_unit_that_writes_configfs_keeps_the_machines_network() {
    let unit = include_str!("../appliance/etc/systemd/system/ashlar-targetd.service");
    let set: Vec<&str> = unit.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(
        set.contains(&"PrivateNetwork=no"),
        "targets would listen where nobody can reach them"
    );
    let filters = [
        "IPAddressDeny=",
        "IPAddressAllow=",
        "SocketBindDeny=",
        "RestrictNetworkInterfaces=",
    ];
    for filter in filters {
        assert!(
            !set.iter().any(|line| line.starts_with(filter)),
            "{filter} would cut off initiators: the targets' sockets are in this unit's group"
        );
    }
    assert!(
        set.contains(&"ProtectKernelTunables=no"),
        "configfs would be read-only"
    );
}

/// Limits of the root group are version 1's, which has the controller only as long as no unit has
/// asked version 2 for it.
#[test]
fn no_unit_takes_the_controller_of_limits() {
    let units = [
        include_str!("../appliance/etc/systemd/system/ashlar-targetd.service"),
        include_str!("../appliance/etc/systemd/system/ashlar-agent.service"),
        include_str!("../appliance/etc/systemd/system/ashlar-restart@.service"),
        include_str!("../appliance/etc/systemd/system/ashlar-slot.service"),
    ];
    let asking = [
        "IOAccounting=",
        "IOWeight=",
        "StartupIOWeight=",
        "IODevice",
        "IOReadBandwidthMax=",
        "IOWriteBandwidthMax=",
        "IOReadIOPSMax=",
        "IOWriteIOPSMax=",
        "Delegate=",
    ];
    for line in units.iter().flat_map(|unit| unit.lines()) {
        let asks = asking.iter().any(|setting| line.starts_with(setting));
        assert!(
            !asks,
            "{line} takes the controller away from run-blkio.mount"
        );
    }
}
