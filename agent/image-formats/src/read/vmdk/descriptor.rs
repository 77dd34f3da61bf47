//! The text within a vmdk: the only place that tells of parents and further extents.

use super::{FORMAT, SECTOR};
use crate::detect::read;
use crate::read::inside;
use crate::{ImageError, Source};

/// Sectors of a descriptor; makers write 20.
const LARGEST: u64 = 128;
const NO_PARENT: &str = "ffffffff";
const LAYOUTS: [&str; 2] = ["monolithicSparse", "streamOptimized"];

/// Refuses a disk that is not all in this file. `at`, `length` and `capacity` are in sectors.
pub(super) fn check(
    source: &dyn Source,
    at: u64,
    length: u64,
    capacity: u64,
) -> Result<(), ImageError> {
    if at == 0 || length == 0 {
        return Err(other_file("the descriptor of which it is an extent"));
    }
    if length > LARGEST || at > u64::MAX / SECTOR - LARGEST {
        return Err(damaged("its descriptor has an impossible length"));
    }
    inside(
        source,
        FORMAT,
        "the descriptor",
        at * SECTOR,
        length * SECTOR,
    )?;
    let mut bytes = vec![0; (length * SECTOR) as usize];
    read(source, at * SECTOR, &mut bytes)?;
    let end = bytes.iter().position(|byte| *byte == 0);
    bytes.truncate(end.unwrap_or(bytes.len()));
    judge(&String::from_utf8_lossy(&bytes), capacity)
}

fn judge(text: &str, capacity: u64) -> Result<(), ImageError> {
    let (mut layout, mut parent, mut extents) = (None, NO_PARENT.to_owned(), Vec::new());
    for line in text.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().take(4).collect();
        if let ["RW" | "RDONLY" | "NOACCESS", sectors, kind, ..] = words[..] {
            extents.push((sectors.parse::<u64>().ok(), kind.to_owned()));
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let value = value.trim().trim_matches('"').trim();
        match key.trim() {
            "createType" => layout = Some(value.to_owned()),
            "parentCID" => value.clone_into(&mut parent),
            "parentFileNameHint" => return Err(other_file("a parent")),
            "encryption.keySafe" | "encryption.data" => {
                return Err(ImageError::Encrypted {
                    format: FORMAT,
                    method: "the maker's own",
                });
            }
            _ => {}
        }
    }
    if !parent.eq_ignore_ascii_case(NO_PARENT) {
        return Err(other_file("a parent"));
    }
    let Some(layout) = layout else {
        return Err(damaged("its descriptor does not say how it is laid out"));
    };
    if !LAYOUTS
        .iter()
        .any(|known| known.eq_ignore_ascii_case(&layout))
    {
        return Err(other_file("its layout has extents in files of their own"));
    }
    match &extents[..] {
        [(Some(sectors), kind)] if *sectors == capacity && kind == "SPARSE" => Ok(()),
        [_] | [] => Err(damaged("its descriptor contradicts its header")),
        _ => Err(other_file("it has several extents")),
    }
}

fn damaged(what: &str) -> ImageError {
    ImageError::damaged(FORMAT, what)
}

fn other_file(what: &'static str) -> ImageError {
    ImageError::OtherFile {
        format: FORMAT,
        what,
    }
}
