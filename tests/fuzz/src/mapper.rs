//! What device-mapper prints of tables and their state, and names of kernel objects.

use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_kernel_iface::dm::{DmName, DmUuid, Target, TargetStatus};
use ashlar_kernel_iface::tree::{Name, TreePath};

/// Reads the text as a target's parameters, as a status, and as names.
///
/// # Panics
/// When a target prints otherwise than it was read, or a name could climb out of its directory.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (kind, params) = text.split_once(' ').unwrap_or((text, ""));
    if let Some(target) = Target::parse(kind, params) {
        assert_eq!(target.kind(), kind);
        assert_eq!(Target::parse(kind, &target.to_string()), Some(target));
    }
    // It has no printed form of its own; any answer will do.
    let _ = TargetStatus::parse(kind, params);
    if let Ok(number) = text.parse::<DeviceNumber>() {
        assert_eq!(number.to_string().parse(), Ok(number));
    }
    names(text);
}

fn names(text: &str) {
    if let Ok(name) = text.parse::<DmName>() {
        assert_eq!(name.as_str(), text);
        assert!(!text.contains(['/', '\0']) && text.len() < 128);
    }
    if let Ok(uuid) = text.parse::<DmUuid>() {
        assert!(uuid.as_str() == text && text.len() < 129);
    }
    if let Ok(name) = Name::try_from(text) {
        assert!(!name.as_str().contains('/') && text != ".." && text != ".");
    }
    if let Ok(path) = TreePath::try_from(text) {
        assert!(path.components().all(|part| Name::try_from(part).is_ok()));
    }
}

/// As a kernel prints them.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "error ",
        "linear 8:16 4096",
        "thin-pool 253:0 253:1 128 1024 2 skip_block_zeroing error_if_no_space",
        "thin-pool 253:0 253:1 2097152 0 0",
        "thin 253:2 16777215",
        "thin 2048 20479",
        "thin 0 -",
        "thin Fail",
        "thin-pool 3 12/1024 7/4096 - rw no_discard_passdown queue_if_no_space - 1024 ",
        "thin-pool 0 1/2 3/4 9 ro ignore_discard error_if_no_space needs_check 1024",
        "thin-pool Fail",
        "253:70000",
        "ashlar-pool-6ba7b810-9dad-41d1-80b4-00c04fd43001-thin",
        "target/core/iblock_0/../..",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
