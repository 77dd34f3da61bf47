//! What takes the room in a slot.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::BuildError;
use crate::boot::Boot;
use crate::filesystem::Stage;
use crate::slot::Root;

const MIB: f64 = 1024.0 * 1024.0;

/// Where the package manager lists each package's files.
const LISTS: &str = "var/lib/dpkg/info";

/// How many of the largest are named.
const NAMED: usize = 12;

/// A slot's sizes, and the largest of what is in it.
pub(crate) fn report(stage: &Stage, root: &Root, boot: &Boot) -> Result<String, BuildError> {
    let mut text = String::new();
    let mut line = |bytes: u64, what: &str| {
        #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
        let mib = bytes as f64 / MIB;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{mib:8.1} MiB  {what}");
    };
    let length = |path: &Path| fs::metadata(path).map_err(BuildError::io("measure", path));
    let system = root.blocks * 4096;
    line(root.size, "slot, of which:");
    line(system, "  root file system");
    line(root.size - system, "  hashes of its blocks");
    line(length(&boot.kernel)?.len(), "kernel, on the ESP");
    line(
        length(&boot.initrd)?.len(),
        "initial file system, on the ESP",
    );
    let mut parts = parts(stage.root())?;
    parts.sort_by(|(one, a), (two, b)| b.cmp(a).then(one.cmp(two)));
    line(
        parts.iter().map(|part| part.1).sum(),
        "root file system, unpacked, of which:",
    );
    for (name, bytes) in parts.iter().take(NAMED) {
        line(*bytes, &format!("  {name}"));
    }
    let rest = parts.iter().skip(NAMED);
    line(
        rest.clone().map(|part| part.1).sum(),
        &format!("  {} others", rest.count()),
    );
    Ok(text)
}

/// Bytes by package, of our daemons and the kernel's modules, and of what nobody lists.
fn parts(root: &Path) -> Result<Vec<(String, u64)>, BuildError> {
    let mut owners = owners(root)?;
    let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
    walk(root, root, &mut |path, bytes| {
        let owner = owners
            .remove(path)
            .unwrap_or_else(|| unlisted(path).to_owned());
        *sizes.entry(owner).or_default() += bytes;
    })?;
    Ok(sizes.into_iter().collect())
}

fn unlisted(path: &str) -> &str {
    if path.starts_with("/usr/lib/modules/") {
        "kernel modules"
    } else if path.starts_with("/usr/sbin/ashlar-") {
        &path["/usr/sbin/".len()..]
    } else if path.ends_with("/hwdb.bin") {
        "the hardware database, compiled"
    } else {
        "what no package lists"
    }
}

/// Which package each file is of.
fn owners(root: &Path) -> Result<BTreeMap<String, String>, BuildError> {
    let lists = root.join(LISTS);
    let mut owners = BTreeMap::new();
    for entry in fs::read_dir(&lists).map_err(BuildError::io("list", &lists))? {
        let path = entry.map_err(BuildError::io("list", &lists))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(name) = name.strip_suffix(".list") else {
            continue;
        };
        let package = name.split(':').next().unwrap_or(name);
        let text = fs::read_to_string(&path).map_err(BuildError::io("read", &path))?;
        for file in text.lines() {
            owners.insert(merged(file), package.to_owned());
        }
    }
    Ok(owners)
}

/// Where a file is whose package has it beside `/usr`.
fn merged(file: &str) -> String {
    let beside = ["/bin/", "/lib/", "/lib64/", "/sbin/"];
    match beside.iter().any(|place| file.starts_with(place)) {
        true => format!("/usr{file}"),
        false => file.to_owned(),
    }
}

/// Visits all files but those that an image leaves out.
fn walk(
    root: &Path,
    directory: &Path,
    visit: &mut impl FnMut(&str, u64),
) -> Result<(), BuildError> {
    for entry in fs::read_dir(directory).map_err(BuildError::io("list", directory))? {
        let path = entry.map_err(BuildError::io("list", directory))?.path();
        let meta = path
            .symlink_metadata()
            .map_err(BuildError::io("measure", &path))?;
        let below = path.strip_prefix(root).unwrap_or(&path);
        if meta.is_dir() && below != Path::new("var") {
            walk(root, &path, visit)?;
        } else if meta.is_file() {
            visit(&format!("/{}", below.display()), meta.size());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_counts_once_and_for_its_package() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("usr/bin/one", "four");
        write("usr/sbin/ashlar-agent", "seven..");
        write("var/lib/dpkg/info/first:amd64.list", "/.\n/bin/one\n");
        let expected = [("ashlar-agent".to_owned(), 7), ("first".to_owned(), 4)];
        assert_eq!(parts(root.path()).unwrap(), expected);
    }
}
