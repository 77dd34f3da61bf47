//! What the appliance's root file system has besides packages.

use crate::BuildError;
use crate::filesystem::Stage;

const UNITS: &str = "etc/systemd/system";

/// What the journal's messages mean, as the journal reads it.
pub(crate) const CATALOG: &str = "usr/lib/ashlar/journal-catalog";

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
        "etc/systemd/system.conf.d/ashlar.conf",
        include_str!("../appliance/etc/systemd/system.conf.d/ashlar.conf"),
    ),
    (
        "usr/lib/systemd/catalog/ashlar.catalog",
        include_str!("../appliance/usr/lib/systemd/catalog/ashlar.catalog"),
    ),
    (
        "usr/lib/tmpfiles.d/ashlar.conf",
        include_str!("../appliance/usr/lib/tmpfiles.d/ashlar.conf"),
    ),
    (
        "usr/lib/tmpfiles.d/ashlar-catalog.conf",
        "L /var/lib/systemd/catalog/database - - - - /usr/lib/ashlar/journal-catalog\n",
    ),
    (
        "etc/udev/rules.d/61-ashlar.rules",
        include_str!("../appliance/etc/udev/rules.d/61-ashlar.rules"),
    ),
    (
        "etc/modprobe.d/ashlar.conf",
        include_str!("../appliance/etc/modprobe.d/ashlar.conf"),
    ),
    (
        "etc/sysctl.d/ashlar.conf",
        include_str!("../appliance/etc/sysctl.d/ashlar.conf"),
    ),
    (
        "etc/systemd/network/10-management.link",
        include_str!("../appliance/etc/systemd/network/10-management.link"),
    ),
    (
        "etc/systemd/network/20-storage.link",
        include_str!("../appliance/etc/systemd/network/20-storage.link"),
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
        "etc/systemd/system/emergency.service.d/ashlar.conf",
        include_str!("../appliance/etc/systemd/system/emergency.service.d/ashlar.conf"),
    ),
    (
        "etc/systemd/system/rauc.service",
        include_str!("../appliance/etc/systemd/system/rauc.service"),
    ),
    (
        "etc/systemd/system/run-blkio.mount",
        include_str!("../appliance/etc/systemd/system/run-blkio.mount"),
    ),
    (
        "etc/systemd/system/ashlar-targetd.service",
        include_str!("../appliance/etc/systemd/system/ashlar-targetd.service"),
    ),
    (
        "etc/systemd/system/ashlar-agent.service",
        include_str!("../appliance/etc/systemd/system/ashlar-agent.service"),
    ),
    (
        "etc/systemd/system/ashlar-restart.socket",
        include_str!("../appliance/etc/systemd/system/ashlar-restart.socket"),
    ),
    (
        "etc/systemd/system/ashlar-restart@.service",
        include_str!("../appliance/etc/systemd/system/ashlar-restart@.service"),
    ),
    (
        "etc/systemd/system/ashlar-slot.service",
        include_str!("../appliance/etc/systemd/system/ashlar-slot.service"),
    ),
    (
        "etc/systemd/system/systemd-networkd.service.d/ashlar.conf",
        include_str!("../appliance/etc/systemd/system/systemd-networkd.service.d/ashlar.conf"),
    ),
    (
        "usr/share/dbus-1/system.d/de.pengutronix.rauc.conf",
        include_str!("../appliance/usr/share/dbus-1/system.d/de.pengutronix.rauc.conf"),
    ),
];

/// Programs with their text, for everybody to run.
const PROGRAMS: &[(&str, &str)] = &[
    (
        "usr/lib/ashlar/accept",
        include_str!("../appliance/usr/lib/ashlar/accept"),
    ),
    (
        "usr/lib/ashlar/on-system-disk",
        include_str!("../appliance/usr/lib/ashlar/on-system-disk"),
    ),
    (
        "usr/lib/ashlar/slot",
        include_str!("../appliance/usr/lib/ashlar/slot"),
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
    "initrd-udevadm-cleanup-db.service",
    "kmod-static-nodes.service",
    "ldconfig.service",
    "modprobe@efi_pstore.service",
    "proc-sys-fs-binfmt_misc.automount",
    "run-lock.mount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-backlight@.service",
    "systemd-binfmt.service",
    "systemd-creds.socket",
    "systemd-firstboot.service",
    "systemd-hibernate-clear.service",
    "systemd-hostnamed.service",
    "systemd-hostnamed.socket",
    "systemd-hwdb-update.service",
    "systemd-initctl.socket",
    "systemd-journal-catalog-update.service",
    "systemd-journal-flush.service",
    "systemd-localed.service",
    "systemd-logind.service",
    "systemd-machine-id-commit.service",
    "systemd-networkd-persistent-storage.service",
    "systemd-networkd-wait-online.service",
    "systemd-pcrextend.socket",
    "systemd-pcrlock.socket",
    "systemd-pcrmachine.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrphase.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-remount-fs.service",
    "systemd-rfkill.socket",
    "systemd-sysext.socket",
    "systemd-sysusers.service",
    "systemd-timedated.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-tmpfiles-setup-dev-early.service",
    "systemd-tpm2-setup-early.service",
    "systemd-tpm2-setup.service",
    "systemd-udev-load-credentials.service",
    "systemd-update-done.service",
    "systemd-update-utmp.service",
    "systemd-user-sessions.service",
];

/// Programs that look for units to make at every boot, and would find none.
const NO_GENERATORS: &[&str] = &[
    "systemd-getty-generator",
    "systemd-gpt-auto-generator",
    "systemd-hibernate-resume-generator",
    "systemd-rc-local-generator",
    "systemd-run-generator",
    "systemd-ssh-generator",
    "systemd-system-update-generator",
    "systemd-sysv-generator",
    "systemd-tpm2-generator",
];

/// Rules and data on devices that no storage appliance has; each rule costs every device a look.
const NO_RULES: &[&str] = &[
    "60-autosuspend.rules",
    "60-cdrom_id.rules",
    "60-drm.rules",
    "60-evdev.rules",
    "60-fido-id.rules",
    "60-input-id.rules",
    "60-persistent-alsa.rules",
    "60-persistent-input.rules",
    "60-persistent-storage-mtd.rules",
    "60-persistent-storage-tape.rules",
    "60-persistent-v4l.rules",
    "60-sensor.rules",
    "60-serial.rules",
    "64-btrfs.rules",
    "70-camera.rules",
    "70-joystick.rules",
    "70-memory.rules",
    "70-mouse.rules",
    "70-power-switch.rules",
    "70-touchpad.rules",
    "70-uaccess.rules",
    "71-seat.rules",
    "73-seat-late.rules",
    "75-probe_mtd.rules",
    "78-sound-card.rules",
    "90-iocost.rules",
];

const LINKS: &[(&str, &str)] = &[
    // Only the socket is there from the start: the bus is for whoever calls the updater.
    (
        "etc/systemd/system/multi-user.target.wants/dbus.service",
        "/dev/null",
    ),
    (
        "etc/systemd/system/multi-user.target.wants/systemd-networkd.service",
        "/usr/lib/systemd/system/systemd-networkd.service",
    ),
    (
        "etc/systemd/system/sysinit.target.wants/ashlar-slot.service",
        "/etc/systemd/system/ashlar-slot.service",
    ),
    (
        "etc/systemd/system/sockets.target.wants/ashlar-restart.socket",
        "/etc/systemd/system/ashlar-restart.socket",
    ),
    (
        "etc/systemd/system/sysinit.target.wants/run-blkio.mount",
        "/etc/systemd/system/run-blkio.mount",
    ),
    (
        "etc/systemd/system/default.target",
        "/usr/lib/systemd/system/multi-user.target",
    ),
];

/// Everything laid over the packages, for the cache's key.
pub(crate) fn parts() -> impl Iterator<Item = String> {
    let files = FILES
        .iter()
        .chain(PROGRAMS)
        .map(|(path, text)| format!("{path}\n{text}"));
    files.chain(links().map(|(path, target)| format!("{path} -> {target}")))
}

/// Lays it over the packages.
pub(crate) fn apply(stage: &Stage) -> Result<(), BuildError> {
    for (path, text) in FILES {
        stage.write(path, 0o644, text)?;
    }
    for (path, text) in PROGRAMS {
        stage.write(path, 0o755, text)?;
    }
    for (path, target) in links() {
        stage.link(&path, &target)?;
    }
    Ok(())
}

fn links() -> impl Iterator<Item = (String, String)> {
    let enabled = ENABLED.iter().map(|unit| {
        let wants = format!("{UNITS}/multi-user.target.wants/{unit}");
        (wants, format!("/{UNITS}/{unit}"))
    });
    let off = [
        (UNITS, MASKED),
        ("etc/systemd/system-generators", NO_GENERATORS),
        ("etc/udev/rules.d", NO_RULES),
    ];
    let off = off.into_iter().flat_map(|(directory, names)| {
        let disable = move |name| (format!("{directory}/{name}"), "/dev/null".to_owned());
        names.iter().map(disable)
    });
    let links = LINKS
        .iter()
        .map(|(path, target)| (path.to_string(), target.to_string()));
    enabled.chain(off).chain(links)
}
