//! Looks for secrets in what must have none.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// What some bytes look like in the ways that anything here writes bytes.
pub fn encoded(secret: &[u8]) -> Vec<Vec<u8>> {
    let lower: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let list: Vec<String> = secret.iter().map(ToString::to_string).collect();
    let mut all = vec![
        secret.to_vec(),
        lower.to_uppercase().into_bytes(),
        lower.into_bytes(),
        list.join(",").into_bytes(),
    ];
    // In the middle of something longer, at each place that it may have there.
    for skipped in 0..3.min(secret.len()) {
        let part = &secret[skipped..];
        let part = &part[..part.len() / 3 * 3];
        all.push(STANDARD_NO_PAD.encode(part).into_bytes());
        all.push(URL_SAFE_NO_PAD.encode(part).into_bytes());
    }
    all
}

/// All that is in the files of a folder.
pub fn everything(folder: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        all.extend(path.as_os_str().as_encoded_bytes());
        match path.is_dir() {
            true => all.extend(everything(&path)),
            false => all.extend(fs::read(&path).unwrap()),
        }
    }
    all
}

pub fn assert_absent(all: &[u8], what: &str, secret: &[u8]) {
    assert!(secret.len() >= 12, "{what} is too short to be looked for");
    for form in encoded(secret) {
        assert!(!holds(all, &form), "{what} is in the bundle");
    }
}

/// Whether some bytes are among others.
pub fn holds(all: &[u8], wanted: &[u8]) -> bool {
    all.windows(wanted.len()).any(|window| window == wanted)
}

/// Refuses a key on P-256 that is the first thing in a file, as PKCS#8 and PEM.
pub fn assert_no_key(all: &[u8], path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    let lines = text
        .lines()
        .skip(1)
        .take_while(|line| !line.starts_with("--"));
    let lines: String = lines.collect();
    let der = STANDARD.decode(lines).unwrap();
    assert_absent(all, &path.display().to_string(), &der);
    // The number itself, of 32 bytes behind what says that it is one.
    let at = der
        .windows(7)
        .position(|window| window == b"\x30\x6b\x02\x01\x01\x04\x20");
    let number = at.expect("a key as it is made here") + 7;
    assert_absent(all, "a key's number", &der[number..number + 32]);
}
