//! Disks as sysfs, mountinfo and swaps describe them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ashlar_targetd_protocol::{Bytes, DiskId, IoCounters, Sectors};

use super::{BlockError, Disk, counters};
use crate::device::DeviceNumber;

/// Names of drives whose media are not disks, though sysfs lists them beside disks.
const NOT_DISKS: [&str; 2] = ["sr", "fd"];

/// Where the kernel describes block devices.
#[derive(Debug)]
pub(super) struct Sysfs {
    sys: PathBuf,
    proc: PathBuf,
}

impl Sysfs {
    pub(super) fn of_kernel() -> Self {
        Sysfs {
            sys: PathBuf::from("/sys"),
            proc: PathBuf::from("/proc"),
        }
    }

    /// The name of a device's node below `/dev`.
    pub(super) fn node_name(&self, device: DeviceNumber) -> Result<String, BlockError> {
        let path = self.sys.join(format!("dev/block/{device}/uevent"));
        let uevent = text(&path)?;
        uevent
            .lines()
            .find_map(|line| line.strip_prefix("DEVNAME="))
            .filter(|name| !name.starts_with('/') && !name.split('/').any(|part| part == ".."))
            .map(str::to_owned)
            .ok_or_else(|| BlockError::strange(&path, &uevent, "a device with a node"))
    }

    /// What any block device has done.
    pub(super) fn counters(&self, device: DeviceNumber) -> Result<IoCounters, BlockError> {
        let dir = self.sys.join(format!("dev/block/{device}"));
        let stat = text(&dir.join("stat"))?;
        let in_flight = text(&dir.join("inflight"))?;
        counters::parse(&stat, &in_flight)
            .ok_or_else(|| BlockError::strange(&dir, &stat, "a device with counters"))
    }

    /// Every whole disk, by kernel name.
    pub(super) fn disks(&self) -> Result<Vec<Disk>, BlockError> {
        let users = self.users();
        let mut disks = Vec::new();
        for name in entries(&self.sys.join("block"))? {
            match self.disk(&name, &users) {
                Ok(disk) => disks.extend(disk),
                // Disks may go while they are listed.
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(disks)
    }

    /// `None` for what is not a disk: only hardware has a `device`, a second path is `hidden`,
    /// and an empty drive has no size.
    fn disk(&self, name: &str, users: &Users) -> Result<Option<Disk>, BlockError> {
        let dir = self.sys.join("block").join(name);
        let hardware = fs::exists(dir.join("device")).unwrap_or(false);
        let hidden = optional(&dir.join("hidden")).as_deref() == Some("1");
        if !hardware || hidden || NOT_DISKS.iter().any(|drive| name.starts_with(drive)) {
            return Ok(None);
        }
        let size = Sectors(number(&dir.join("size"))?).bytes();
        if size == Bytes(0) {
            return Ok(None);
        }
        let device = device_number(&dir.join("dev"))?;
        Ok(Some(Disk {
            number: device,
            id: disk_id(&dir),
            size,
            logical_block: Bytes(number(&dir.join("queue/logical_block_size"))?),
            rotational: number(&dir.join("queue/rotational"))? == 1,
            read_only: number(&dir.join("ro"))? == 1,
            removable: number(&dir.join("removable"))? == 1,
            users: users.of(&dir, name)?,
            kernel_name: name.to_owned(),
        }))
    }

    /// Mount points and swap areas with the device each is on.
    fn users(&self) -> Users {
        let mounts = optional(&self.proc.join("self/mountinfo")).unwrap_or_default();
        let mounted = mounts.lines().filter_map(|line| {
            let mut words = line.split(' ');
            let device = words.nth(2)?.parse().ok()?;
            Some((device, words.nth(1)?.to_owned()))
        });
        let swaps = optional(&self.proc.join("swaps")).unwrap_or_default();
        let swapped = swaps.lines().skip(1).filter_map(|line| {
            let metadata = fs::metadata(line.split_ascii_whitespace().next()?).ok()?;
            Some((DeviceNumber::from_dev(metadata.rdev()), "swap".to_owned()))
        });
        Users(mounted.chain(swapped).collect())
    }
}

struct Users(Vec<(DeviceNumber, String)>);

impl Users {
    /// Who uses a disk or one of its partitions, which are directories of it named after it.
    fn of(&self, dir: &Path, name: &str) -> Result<Vec<String>, BlockError> {
        let parts = entries(dir)?
            .into_iter()
            .filter(|entry| entry.starts_with(name));
        let mut users = Vec::new();
        for part in std::iter::once(dir.to_owned()).chain(parts.map(|part| dir.join(part))) {
            let device = device_number(&part.join("dev"))?;
            let direct = self.0.iter().filter(|(used, _)| *used == device);
            users.extend(direct.map(|(_, user)| user.clone()));
            users.extend(entries(&part.join("holders"))?);
        }
        users.sort();
        users.dedup();
        Ok(users)
    }
}

/// The first of the places where drivers say who a disk is.
fn disk_id(dir: &Path) -> Option<DiskId> {
    const PLACES: [(&str, &str); 4] = [
        ("wwn", "wwid"),
        ("wwn", "device/wwid"),
        ("serial", "serial"),
        ("serial", "device/serial"),
    ];
    PLACES.iter().find_map(|(kind, file)| {
        let words = optional(&dir.join(file))?;
        let plain = words.split_ascii_whitespace().collect::<Vec<_>>().join("_");
        let plain: String = plain
            .chars()
            .map(|char| {
                let fits = char.is_ascii_alphanumeric() || "-_.:+".contains(char);
                if fits { char } else { '_' }
            })
            .collect();
        format!("{kind}-{plain}").parse().ok()
    })
}

fn entries(dir: &Path) -> Result<Vec<String>, BlockError> {
    let failed = |error: io::Error| BlockError::sysfs(dir, &error);
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        // Names of block devices are ASCII; others are none of ours.
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

fn text(path: &Path) -> Result<String, BlockError> {
    let bytes = fs::read(path).map_err(|error| BlockError::sysfs(path, &error))?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// A file that need not be there; empty counts as absent.
fn optional(path: &Path) -> Option<String> {
    text(path).ok().filter(|text| !text.is_empty())
}

fn number(path: &Path) -> Result<u64, BlockError> {
    let text = text(path)?;
    text.parse()
        .map_err(|_| BlockError::strange(path, &text, "a number"))
}

fn device_number(path: &Path) -> Result<DeviceNumber, BlockError> {
    let text = text(path)?;
    text.parse()
        .map_err(|_| BlockError::strange(path, &text, "a device number"))
}

fn is_gone(error: &BlockError) -> bool {
    use nix::errno::Errno;
    matches!(error.errno(), Some(Errno::ENOENT | Errno::ENODEV))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that looks like sysfs and procfs.
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            let machine = Machine(tempfile::tempdir().unwrap());
            machine.put("proc/self/mountinfo", "");
            machine.put("proc/swaps", "Filename Type Size Used Priority\n");
            fs::create_dir_all(machine.0.path().join("sys/block")).unwrap();
            machine
        }

        fn put(&self, file: &str, text: &str) {
            let path = self.0.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn disk(&self, name: &str, number: &str) {
            for (file, text) in [
                ("dev", number),
                ("size", "2048"),
                ("ro", "0"),
                ("removable", "0"),
                ("queue/logical_block_size", "512"),
                ("queue/rotational", "1"),
                ("device/vendor", "x"),
            ] {
                self.put(&format!("sys/block/{name}/{file}"), &format!("{text}\n"));
            }
            let holders = format!("sys/block/{name}/holders");
            fs::create_dir_all(self.0.path().join(holders)).unwrap();
        }

        fn sysfs(&self) -> Sysfs {
            Sysfs {
                sys: self.0.path().join("sys"),
                proc: self.0.path().join("proc"),
            }
        }

        fn ids(&self) -> Vec<Option<String>> {
            let disks = self.sysfs().disks().unwrap();
            disks
                .into_iter()
                .map(|disk| disk.id.map(String::from))
                .collect()
        }
    }

    #[test]
    fn a_disk_is_described_by_its_files() {
        let machine = Machine::new();
        machine.disk("vda", "254:0");
        machine.put("sys/block/vda/serial", "DISK 0/1\n");
        let disk = Disk {
            kernel_name: "vda".into(),
            number: "254:0".parse().unwrap(),
            id: Some("serial-DISK_0_1".parse().unwrap()),
            size: Bytes(1 << 20),
            logical_block: Bytes(512),
            rotational: true,
            read_only: false,
            removable: false,
            users: vec![],
        };
        assert_eq!(machine.sysfs().disks().unwrap(), [disk]);
    }

    #[test]
    fn a_world_wide_name_goes_before_a_serial_number() {
        let machine = Machine::new();
        for (name, number) in [("nvme0n1", "259:0"), ("sda", "8:0"), ("vda", "254:0")] {
            machine.disk(name, number);
        }
        machine.put("sys/block/nvme0n1/wwid", "eui.0025385b21\n");
        machine.put("sys/block/nvme0n1/device/serial", "S3   \n");
        machine.put(
            "sys/block/sda/device/wwid",
            "t10.ATA     QEMU HARDDISK   QM00001 \n",
        );
        machine.put("sys/block/vda/serial", "");
        let expected = [
            Some("wwn-eui.0025385b21".to_owned()),
            Some("wwn-t10.ATA_QEMU_HARDDISK_QM00001".to_owned()),
            None,
        ];
        assert_eq!(machine.ids(), expected);
    }

    #[test]
    fn only_hardware_with_a_medium_is_a_disk() {
        let machine = Machine::new();
        for (name, number) in [
            ("loop0", "7:0"),
            ("nvme0c0n1", "259:1"),
            ("sdb", "8:16"),
            ("sr0", "11:0"),
        ] {
            machine.disk(name, number);
        }
        let sys = machine.0.path().join("sys/block");
        fs::remove_dir_all(sys.join("loop0/device")).unwrap();
        machine.put("sys/block/nvme0c0n1/hidden", "1\n");
        machine.put("sys/block/sdb/size", "0\n");
        assert_eq!(machine.sysfs().disks().unwrap(), []);
    }

    #[test]
    fn whoever_uses_a_disk_or_a_partition_of_it_is_told() {
        let machine = Machine::new();
        machine.disk("sda", "8:0");
        machine.put("sys/block/sda/holders/dm-0", "");
        machine.put("sys/block/sda/sda1/dev", "8:1\n");
        machine.put("sys/block/sda/sda1/holders/md0", "");
        let mounts = "22 1 8:1 / /boot rw - ext4 /dev/sda1 rw\n23 1 8:17 / /x rw - ext4 y rw\n";
        machine.put("proc/self/mountinfo", mounts);
        let disks = machine.sysfs().disks().unwrap();
        assert_eq!(disks[0].users, ["/boot", "dm-0", "md0"]);
    }

    #[test]
    fn a_node_name_never_leads_out_of_dev() {
        let machine = Machine::new();
        let number = "8:0".parse().unwrap();
        machine.put("sys/dev/block/8:0/uevent", "MAJOR=8\nDEVNAME=cciss/c0d0\n");
        assert_eq!(machine.sysfs().node_name(number).unwrap(), "cciss/c0d0");
        for name in ["/etc/passwd", "../etc/passwd", "a/../../etc/passwd"] {
            machine.put("sys/dev/block/8:0/uevent", &format!("DEVNAME={name}\n"));
            assert!(machine.sysfs().node_name(number).is_err(), "{name}");
        }
    }
}
