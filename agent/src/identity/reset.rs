//! Forgetting an owner and all that is his.
//!
//! ```text
//! asked ── mark ── the box starts again ── store, updates, trust, certificates ── mark ──▶ unclaimed
//!           │                                            │                         │
//!  until here the owner's                   any start goes on with this      gone, the last of all
//! ```
//!
//! Before the mark is durable, nothing has changed; once it is, no start opens anything before all is
//! gone. It goes with the first start after one of the box: until then the kernel serves the former
//! owner's hosts, and whoever only started this daemon again asks for the box to be. What the box was given in its factory is on another partition, which is not touched.

use std::fs::{self, File};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::keeping::SEEN;
use crate::config::Config;

/// Says that what is here belongs to nobody any more.
pub(super) const MARK: &str = "reset";

/// A file that is there from the first start on until the box starts again.
const STARTED: &str = "started";

/// Why the box does not start: what it should have forgotten is still there.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    /// A file or folder.
    #[error("failed to finish the reset: {}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The box has not started again since, but was asked to.
    #[error("the box is being reset, and has to start again first")]
    Started,
    /// Nor could it be asked to.
    #[error("the box is being reset, and nothing starts it again at {}", path.display())]
    NoRestart {
        /// The socket for that.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Whether this is the first start of the daemon since the box started, for all that the folder for
/// such a time says; without one there is no telling.
///
/// # Errors
/// When that cannot be noted for the next one.
pub fn is_first_start() -> Result<bool, ResetError> {
    match std::env::var_os("RUNTIME_DIRECTORY") {
        Some(folder) => note_start(Path::new(&folder)),
        None => Ok(true),
    }
}

fn note_start(folder: &Path) -> Result<bool, ResetError> {
    let started = folder.join(STARTED);
    match File::create_new(&started) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(at(&started)(source)),
    }
}

/// Finishes a reset, if one was asked for. To be called before anything else is opened.
///
/// # Errors
/// When something cannot be removed: then nothing may be opened, as it is the former owner's. When
/// this is not the first start since the box started: then it is asked to start again.
pub fn finish(config: &Config, first_start: bool) -> Result<bool, ResetError> {
    let folder = &config.identity.folder;
    if !is_there(&folder.join(MARK))? {
        return Ok(false);
    }
    if !first_start {
        let path = &config.firmware.restart;
        return match UnixStream::connect(path) {
            Ok(_) => Err(ResetError::Started),
            Err(source) => Err(ResetError::NoRestart {
                path: path.clone(),
                source,
            }),
        };
    }
    for step in steps(config)? {
        step.run()?;
    }
    Ok(true)
}

/// Something to be removed, and then to be gone for good.
#[derive(Debug)]
enum Step {
    Remove(PathBuf),
    Sync(PathBuf),
}

/// All that is left to do. What others may still have to find is removed last.
fn steps(config: &Config) -> Result<Vec<Step>, ResetError> {
    let folder = &config.identity.folder;
    let mut steps = Vec::new();
    for place in [&config.state_dir, &config.firmware.folder] {
        steps.extend(listed(place, &[])?.into_iter().map(Step::Remove));
        if is_there(place)? {
            steps.push(Step::Sync(place.clone()));
        }
    }
    // That time has passed is true for the next owner, too.
    let own = listed(folder, &[MARK, SEEN])?;
    steps.extend(own.into_iter().map(Step::Remove));
    steps.push(Step::Sync(folder.clone()));
    steps.push(Step::Remove(folder.join(MARK)));
    steps.push(Step::Sync(folder.clone()));
    Ok(steps)
}

impl Step {
    fn run(&self) -> Result<(), ResetError> {
        match self {
            Step::Remove(path) if path.is_dir() && !path.is_symlink() => {
                fs::remove_dir_all(path).map_err(at(path))
            }
            Step::Remove(path) => fs::remove_file(path).map_err(at(path)),
            Step::Sync(path) => File::open(path)
                .and_then(|f| f.sync_all())
                .map_err(at(path)),
        }
    }
}

/// What is in a folder, but for some names; nothing when there is no folder.
fn listed(folder: &Path, without: &[&str]) -> Result<Vec<PathBuf>, ResetError> {
    if !is_there(folder)? {
        return Ok(Vec::new());
    }
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let entry = entry.map_err(at(folder))?;
        if !without.iter().any(|name| entry.file_name() == *name) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn is_there(path: &Path) -> Result<bool, ResetError> {
    fs::exists(path).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ResetError {
    let path = path.to_owned();
    |source| ResetError::File { path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::config::IdentityFolders;
    use crate::firmware::FirmwareOptions;

    const FILES: [&str; 8] = [
        "state/audit/0001",
        "state/index/db",
        "state/journal-1",
        "update/bundle.raucb",
        "identity/own.pem",
        "identity/request.key",
        "identity/trust.toml",
        "identity/trust.toml.new",
    ];

    /// A box with all that an owner leaves, and what stays.
    fn owned(folder: &Path) -> Config {
        for file in FILES
            .iter()
            .chain(&["identity/seen", "factory/sealed.toml"])
        {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        Config {
            state_dir: folder.join("state"),
            firmware: FirmwareOptions::within(folder),
            identity: IdentityFolders {
                factory: folder.join("factory"),
                folder: folder.join("identity"),
            },
            ..Config::default()
        }
    }

    fn left(folder: &Path) -> Vec<&'static str> {
        let there = FILES.into_iter().filter(|file| folder.join(file).exists());
        there.collect()
    }

    fn assert_forgotten(folder: &Path) {
        assert_eq!(left(folder), [""; 0]);
        assert!(!folder.join("identity").join(MARK).exists());
        for stays in ["identity/seen", "factory/sealed.toml"] {
            assert_eq!(fs::read_to_string(folder.join(stays)).unwrap(), stays);
        }
    }

    #[test]
    fn nothing_is_forgotten_without_the_mark() {
        let dir = tempfile::tempdir().unwrap();
        let config = owned(dir.path());
        assert!(!finish(&config, true).unwrap());
        assert_eq!(left(dir.path()), FILES);
    }

    #[test]
    fn a_start_that_is_cut_anywhere_is_finished_by_the_next() {
        let count = {
            let dir = tempfile::tempdir().unwrap();
            let config = owned(dir.path());
            fs::write(config.identity.folder.join(MARK), "").unwrap();
            steps(&config).unwrap().len()
        };
        assert!(count > FILES.len());
        for cut in 0..=count {
            let dir = tempfile::tempdir().unwrap();
            let config = owned(dir.path());
            fs::write(config.identity.folder.join(MARK), "").unwrap();
            for step in steps(&config).unwrap().iter().take(cut) {
                step.run().unwrap();
            }
            // Whoever could be let in is let in by nothing that is half there.
            let marked = config.identity.folder.join(MARK).exists();
            assert!(marked || left(dir.path()).is_empty(), "{cut}");
            assert_eq!(finish(&config, true).unwrap(), marked, "{cut}");
            assert_forgotten(dir.path());
        }
    }

    #[test]
    fn nothing_is_forgotten_before_the_box_has_started_again() {
        let dir = tempfile::tempdir().unwrap();
        assert!(note_start(dir.path()).unwrap());
        assert!(!note_start(dir.path()).unwrap());
        let config = owned(dir.path());
        let mark = config.identity.folder.join(MARK);
        assert!(!finish(&config, false).unwrap());
        fs::write(&mark, "").unwrap();
        let nobody = finish(&config, false).unwrap_err();
        assert!(matches!(nobody, ResetError::NoRestart { .. }), "{nobody}");
        let restarts = UnixListener::bind(&config.firmware.restart).unwrap();
        let asked = finish(&config, false).unwrap_err();
        assert!(matches!(asked, ResetError::Started), "{asked}");
        restarts.set_nonblocking(true).unwrap();
        assert!(restarts.accept().is_ok(), "it was asked");
        assert!(mark.exists() && left(dir.path()) == FILES);
        assert!(finish(&config, true).unwrap());
        assert_forgotten(dir.path());
    }

    #[test]
    fn what_cannot_be_removed_is_named_and_the_mark_stays() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            // A file where a folder should be.
            state_dir: dir.path().join("factory/sealed.toml"),
            ..owned(dir.path())
        };
        let mark = config.identity.folder.join(MARK);
        fs::write(&mark, "").unwrap();
        let error = finish(&config, true).unwrap_err().to_string();
        assert!(error.contains("factory/sealed.toml"), "{error}");
        assert!(mark.exists() && left(dir.path()) == FILES);
    }
}
