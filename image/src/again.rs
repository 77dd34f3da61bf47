//! The same once more, to see whether it is the same.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;
use std::process::Command;

use crate::BuildError;
use crate::appliance::{Appliance, ApplianceInputs, appliance};
use crate::command::run;

/// What is built once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// All but the trees of packages, which take longest.
    FromTrees,
    /// All.
    FromPackages,
}

/// The folder in the cache that it is built in.
const PLACE: &str = "again";

/// Builds an appliance, and then from the same once more. Answers what differs, and from where on. Neither
/// is signed: signatures differ.
pub fn again(inputs: &ApplianceInputs, how: Again) -> Result<Vec<String>, BuildError> {
    let unsigned = ApplianceInputs {
        signing: None,
        ..inputs.clone()
    };
    let one = appliance(&unsigned)?;
    let place = inputs.cache.join(PLACE);
    clear(&place)?;
    fs::create_dir_all(&place).map_err(BuildError::io("create", &place))?;
    if how == Again::FromTrees {
        link_trees(&inputs.cache, &place)?;
    }
    let other = appliance(&ApplianceInputs {
        cache: place.clone(),
        ..unsigned
    })?;
    let differing = differences(&one, &other);
    clear(&place)?;
    differing
}

fn clear(place: &Path) -> Result<(), BuildError> {
    match place.exists() {
        true => fs::remove_dir_all(place).map_err(BuildError::io("remove", place)),
        false => Ok(()),
    }
}

/// Nobody writes to the files of trees, so both caches may have them.
fn link_trees(cache: &Path, place: &Path) -> Result<(), BuildError> {
    for entry in fs::read_dir(cache).map_err(BuildError::io("list", cache))? {
        let path = entry.map_err(BuildError::io("list", cache))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.contains("-tree-") {
            run(Command::new("cp").arg("-al").arg(&path).arg(place))?;
        }
    }
    Ok(())
}

fn differences(one: &Appliance, other: &Appliance) -> Result<Vec<String>, BuildError> {
    let mut found = Vec::new();
    if one.cmdline != other.cmdline {
        found.push("the root's hash".to_owned());
    }
    for (what, one, other) in [
        ("the disk", &one.disk, &other.disk),
        ("the kernel", &one.kernel, &other.kernel),
        ("the initial file system", &one.initrd, &other.initrd),
        ("the bill of materials", &one.bill, &other.bill),
    ] {
        if let Some(at) = difference(one, other)? {
            found.push(format!("{what}, from byte {at} on"));
        }
    }
    Ok(found)
}

/// The first byte that is not the same in two files, if any is.
fn difference(one: &Path, other: &Path) -> Result<Option<u64>, BuildError> {
    let open = |path: &Path| File::open(path).map_err(BuildError::io("open", path));
    let (mut a, mut b) = (BufReader::new(open(one)?), BufReader::new(open(other)?));
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut at = 0;
    loop {
        let read = |from: &mut BufReader<File>, buffer: &mut Vec<u8>, path: &Path| {
            buffer.clear();
            let read = from.take(1 << 20).read_to_end(buffer);
            read.map_err(BuildError::io("read", path))
        };
        let (n, m) = (
            read(&mut a, &mut left, one)?,
            read(&mut b, &mut right, other)?,
        );
        if left != right {
            let same = left.iter().zip(&right).take_while(|(l, r)| l == r).count();
            return Ok(Some(at + same as u64));
        }
        if n == 0 && m == 0 {
            return Ok(None);
        }
        at += n as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_differs_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let long = vec![7; (1 << 20) + 10];
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let one = write("one", &long);
        let mut changed = long.clone();
        changed[(1 << 20) + 3] = 8;
        assert_eq!(difference(&one, &write("same", &long)).unwrap(), None);
        let at = difference(&one, &write("changed", &changed)).unwrap();
        assert_eq!(at, Some((1 << 20) + 3));
        let at = difference(&one, &write("short", &long[..5])).unwrap();
        assert_eq!(at, Some(5));
    }
}
