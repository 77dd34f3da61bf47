//! One box: the appliance's disk with a state of its own.

use std::fmt;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use crate::BuildError;
use crate::appliance::AGENT_UID;
use crate::command::run;
use crate::disk::Disk;

/// Who owns a file on the state partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The privileged daemon, and nobody else.
    Root,
    /// The agent.
    Agent,
}

impl Owner {
    fn id(self) -> u32 {
        match self {
            Self::Root => 0,
            Self::Agent => AGENT_UID,
        }
    }
}

/// A file on the state partition.
#[derive(Clone, PartialEq, Eq)]
pub struct StateFile {
    /// Where, below `/var/lib/ashlar`: `agent.toml`, `tls/key.pem`.
    pub path: PathBuf,
    /// What is in it.
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Whose it is.
    pub owner: Owner,
}

impl StateFile {
    /// A file of the agent's that only it may read.
    pub fn new(path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> Self {
        Self {
            path: path.into(),
            content: content.into(),
            mode: 0o400,
            owner: Owner::Agent,
        }
    }

    /// The agent's configuration.
    pub fn config(content: impl Into<Vec<u8>>) -> Self {
        Self::new("agent.toml", content)
    }
}

/// Keys are among the contents, so they are left out.
impl fmt::Debug for StateFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateFile")
            .field("path", &self.path)
            .field("bytes", &self.content.len())
            .field("mode", &format_args!("{:o}", self.mode))
            .field("owner", &self.owner)
            .finish()
    }
}

/// What the daemons keep on the state partition, and whose it is.
const DIRECTORIES: &[(&str, Owner)] = &[
    ("identity", Owner::Agent),
    ("rauc", Owner::Root),
    ("store", Owner::Agent),
    ("targetd", Owner::Root),
    ("targetd/pr", Owner::Root),
    ("tls", Owner::Agent),
    ("update", Owner::Agent),
];

/// Writes the disk of one box to `out`, replacing what is there. The copy is sparse and its own:
/// it can be written to for as long as the box lives.
pub fn instance(disk: &Path, files: &[StateFile], out: &Path) -> Result<(), BuildError> {
    copy(disk, out)?;
    write_state(&Disk::existing(out), files)
}

/// Copies a disk's image, and leaves its holes what they are.
pub fn copy(from: &Path, to: &Path) -> Result<(), BuildError> {
    let mut copy = Command::new("cp");
    copy.args(["--reflink=auto", "--sparse=auto"]);
    run(copy.arg(from).arg(to)).map(drop)
}

/// Fills the state partition.
pub(crate) fn write_state(disk: &Disk<'_>, files: &[StateFile]) -> Result<(), BuildError> {
    let directory = tempfile::tempdir().map_err(BuildError::io("create", Path::new("/tmp")))?;
    let stage = directory.path();
    fs::set_permissions(stage, fs::Permissions::from_mode(0o755))
        .map_err(BuildError::io("restrict", stage))?;
    for (name, owner) in DIRECTORIES {
        make_directory(&stage.join(name), *owner)?;
    }
    for file in files {
        write_file(stage, file)?;
    }
    disk.write_state(Some(stage))
}

fn write_file(stage: &Path, file: &StateFile) -> Result<(), BuildError> {
    let plain = |part| matches!(part, Component::Normal(_));
    if !file.path.components().all(plain) {
        return Err(BuildError::StatePath {
            path: file.path.clone(),
        });
    }
    let path = stage.join(&file.path);
    if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
        make_directory(parent, file.owner)?;
    }
    fs::write(&path, &file.content).map_err(BuildError::io("write", &path))?;
    give(&path, file.mode, file.owner)
}

fn make_directory(path: &Path, owner: Owner) -> Result<(), BuildError> {
    fs::create_dir_all(path).map_err(BuildError::io("create", path))?;
    give(path, 0o700, owner)
}

fn give(path: &Path, mode: u32, owner: Owner) -> Result<(), BuildError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(BuildError::io("restrict", path))?;
    chown(path, Some(owner.id()), Some(owner.id())).map_err(BuildError::io("give away", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_tells_no_content() {
        let file = StateFile::new("tls/key.pem", "very secret");
        let shown = format!("{file:?}");
        assert!(
            shown.contains("tls/key.pem") && !shown.contains("secret"),
            "{shown}"
        );
    }

    /// A box whose state partition is made empty gets them from there.
    #[test]
    fn the_service_manager_makes_the_same_directories() {
        let rules = include_str!("../appliance/usr/lib/tmpfiles.d/ashlar.conf");
        let rules: Vec<_> = rules
            .lines()
            .filter(|line| line.starts_with("d "))
            .collect();
        let ours: Vec<_> = DIRECTORIES
            .iter()
            .map(|(name, owner)| {
                let user = match owner {
                    Owner::Root => "root",
                    Owner::Agent => "ashlar",
                };
                [
                    "d",
                    &format!("/var/lib/ashlar/{name}"),
                    "0700",
                    user,
                    user,
                    "-",
                ]
                .join(" ")
            })
            .collect();
        let plain = |rule: &&str| rule.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(rules.iter().map(plain).collect::<Vec<_>>(), ours);
    }

    #[test]
    fn a_path_out_of_the_state_partition_is_refused() {
        let stage = tempfile::tempdir().unwrap();
        for path in ["../etc/passwd", "/etc/passwd"] {
            let refused = write_file(stage.path(), &StateFile::new(path, ""));
            assert!(
                matches!(refused, Err(BuildError::StatePath { .. })),
                "{path}"
            );
        }
    }
}
