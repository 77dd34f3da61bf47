//! What comes over the socket on which the kernel tells of its devices.

use ashlar_kernel_iface::block::DiskEvent;

/// Reads the bytes as a message.
///
/// # Panics
/// When a disk is heard of in a message that names none.
pub fn run(data: &[u8]) {
    let Some(event) = DiskEvent::parse(data) else {
        return;
    };
    let lines: Vec<&[u8]> = data.split(|byte| *byte == 0).collect();
    let named = format!("DEVNAME={}", event.kernel_name);
    for needed in ["SUBSYSTEM=block", "DEVTYPE=disk", &named] {
        assert!(lines.contains(&needed.as_bytes()), "{needed}");
    }
    assert!(!event.kernel_name.is_empty() && lines[0].contains(&b'@'));
}

/// As a kernel and others send them.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "add@/devices/pci0000:00/0000:00:05.0/virtio2/block/vdb\0ACTION=add\0DEVPATH=/devices/\
         pci0000:00/0000:00:05.0/virtio2/block/vdb\0SUBSYSTEM=block\0MAJOR=254\0MINOR=16\0\
         DEVNAME=vdb\0DEVTYPE=disk\0DISKSEQ=9\0SEQNUM=1745\0",
        "change@/devices/virtual/block/dm-3\0ACTION=change\0SUBSYSTEM=block\0DEVNAME=dm-3\0\
         DEVTYPE=disk\0",
        "remove@/devices/pci0000:00/block/sda/sda1\0ACTION=remove\0SUBSYSTEM=block\0\
         DEVNAME=sda1\0DEVTYPE=partition\0PARTN=1\0",
        "add@/module/nvmet\0ACTION=add\0SUBSYSTEM=module\0",
        "libudev\0\u{1}\u{2}ACTION=add\0SUBSYSTEM=block\0",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
