//! Names, addresses and sizes, as people and files write them.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use ashlar_ctl::Endpoint;
use ashlar_ctl::backup::Manifest;
use ashlar_ctl::size::Size;
use ashlar_kernel_iface::tree;
use ashlar_protocol::{Name, Role};
use ashlar_targetd_protocol::{
    ChapName, ChapSecret, DhchapKey, DiskId, Iqn, Nqn, PortalAddr, Transport,
};

/// Reads the text as every kind of word.
///
/// # Panics
/// When a word prints otherwise than it was read, is no directory name although the kernel will
/// be given it as one, or a size is not exact.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    reads_back::<Name>(text);
    reads_back::<Role>(text);
    reads_back::<Transport>(text);
    reads_back::<PortalAddr>(text);
    reads_back::<Endpoint>(text);
    if let Some(name) = reads_back::<DiskId>(text) {
        assert!(plain(name.as_str()));
    }
    if let Some(name) = reads_back::<Iqn>(text) {
        assert!(plain(name.as_str()) && tree::Name::from(&name).as_str() == text);
    }
    if let Some(name) = reads_back::<Nqn>(text) {
        assert!(plain(name.as_str()) && tree::Name::from(&name).as_str() == text);
    }
    secrets(text);
    size(text);
    manifest(data);
}

fn reads_back<T: FromStr + Display + PartialEq + Debug>(text: &str) -> Option<T> {
    let word: T = text.parse().ok()?;
    assert_eq!(word.to_string().parse().ok().as_ref(), Some(&word));
    Some(word)
}

fn plain(name: &str) -> bool {
    name.len() <= 223
        && name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'/')
}

/// They go into one configfs file each, where a newline or "NULL" means something else.
fn secrets(text: &str) {
    let sound = |word: &str| plain(&word.replace('/', "")) && !word.starts_with("NULL");
    if let Ok(name) = ChapName::try_from(text.to_owned()) {
        assert!(sound(name.as_str()));
    }
    if let Ok(secret) = ChapSecret::try_from(text.to_owned()) {
        assert!(sound(secret.expose()) && !format!("{secret:?}").contains(text));
    }
    if let Ok(key) = DhchapKey::try_from(text.to_owned()) {
        assert!(sound(key.expose()) && !format!("{key:?}").contains(text));
    }
}

fn manifest(data: &[u8]) {
    let Ok(manifest) = Manifest::parse(data) else {
        return;
    };
    let again = serde_json::to_vec(&manifest).expect("it is plain");
    assert_eq!(
        Manifest::parse(&again).expect("it was made of one"),
        manifest
    );
}

/// Whole numbers are taken exactly or not at all.
fn size(text: &str) {
    let Ok(Size(bytes)) = text.parse() else {
        return;
    };
    let digits = text.len()
        - text
            .trim_start_matches(|char: char| char.is_ascii_digit())
            .len();
    let (number, unit) = text.split_at(digits);
    let factor: u128 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "PiB" => 1 << 50,
        _ => return,
    };
    let Ok(number) = number.parse::<u128>() else {
        return;
    };
    assert_eq!(number.checked_mul(factor), Some(bytes.into()), "{text}");
}

/// One or two of each.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "Größe 1",
        "operator",
        "iser",
        "nvme-rdma",
        "fc",
        "nvme-fc",
        "20:00:00:25:b5:aa:0c:1f",
        "nn-0x10000025b5aa0c1f:pn-0x20000025b5aa0c1f",
        "nvme-tcp",
        "[2001:db8::1]:3260",
        "192.0.2.7:4420",
        "https://box1.example:9000/",
        "wwn-eui.0025385b21",
        "iqn.2026-11.io.ashlar:box:vol-1",
        "eui.02004567a425678d",
        "naa.52004567ba64678d52004567ba64678d",
        "nqn.2014-08.org.nvmexpress:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "DHHC-1:02:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:",
        "correct-horse-1",
        "4096",
        "9007199254740993",
        "18446744073709551615",
        "262143GiB",
        "1.5TiB",
        "10 GB",
        "17PiB",
        r#"{"version":1,"volume":"f81d4fae-7dec-11d0-a765-00a0c91e6bf6","name":"db","size":4096,
            "snapshot":"f81d4fae-7dec-11d0-a765-00a0c91e6bf7","length":80,"taken":7,
            "sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
