//! What the appliance's root file system has besides packages.

use crate::BuildError;
use crate::filesystem::Stage;

const UNITS: &str = "etc/systemd/system";

/// Files with their text, all for everybody to read: nothing secret is in an image.
const FILES: &[(&str, &str)] = &[
    ("etc/fstab", include_str!("../appliance/etc/fstab")),
    ("etc/hostname", "ashlar\n"),
    // Empty: the service manager makes up one for each boot, the root being read-only.
    ("etc/machine-id", ""),
    (
        "etc/modules-load.d/ashlar.conf",
        include_str!("../appliance/etc/modules-load.d/ashlar.conf"),
    ),
    (
        "etc/systemd/journald.conf.d/ashlar.conf",
        include_str!("../appliance/etc/systemd/journald.conf.d/ashlar.conf"),
    ),
    (
        "etc/systemd/network/10-management.network",
        include_str!("../appliance/etc/systemd/network/10-management.network"),
    ),
    (
        "etc/systemd/network/20-storage.network",
        include_str!("../appliance/etc/systemd/network/20-storage.network"),
    ),
    (
        "etc/systemd/system/ashlar-targetd.service",
        include_str!("../appliance/etc/systemd/system/ashlar-targetd.service"),
    ),
    (
        "etc/systemd/system/ashlar-agent.service",
        include_str!("../appliance/etc/systemd/system/ashlar-agent.service"),
    ),
];

const ENABLED: &[&str] = &["ashlar-targetd.service", "ashlar-agent.service"];

/// Units of the packages that an appliance has no use for. There is nobody to log in, and
/// nothing to keep between boots outside the state partition.
const MASKED: &[&str] = &[
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "ldconfig.service",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-backlight@.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-logind.service",
    "systemd-networkd-wait-online.service",
    "systemd-remount-fs.service",
    "systemd-rfkill.socket",
    "systemd-update-done.service",
    "systemd-update-utmp.service",
    "systemd-user-sessions.service",
];

const ALWAYS_ENABLED: &[(&str, &str)] = &[(
    "etc/systemd/system/multi-user.target.wants/systemd-networkd.service",
    "/usr/lib/systemd/system/systemd-networkd.service",
)];

/// Everything laid over the packages, for the cache's key.
pub(crate) fn parts() -> impl Iterator<Item = &'static str> {
    let files = FILES.iter().flat_map(|(path, text)| [*path, *text]);
    let links = ALWAYS_ENABLED
        .iter()
        .flat_map(|(path, target)| [*path, *target]);
    files
        .chain(links)
        .chain(ENABLED.iter().copied())
        .chain(MASKED.iter().copied())
}

/// Lays it over the packages.
pub(crate) fn apply(stage: &Stage) -> Result<(), BuildError> {
    for (path, text) in FILES {
        stage.write(path, 0o644, text)?;
    }
    for unit in ENABLED {
        let wants = format!("{UNITS}/multi-user.target.wants/{unit}");
        stage.link(&wants, &format!("/{UNITS}/{unit}"))?;
    }
    for (path, target) in ALWAYS_ENABLED {
        stage.link(path, target)?;
    }
    for unit in MASKED {
        stage.link(&format!("{UNITS}/{unit}"), "/dev/null")?;
    }
    Ok(())
}
