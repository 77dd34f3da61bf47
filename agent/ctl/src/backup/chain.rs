use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::manifest::failed;
use super::{Backup, ManifestError};

/// Why files make no chain.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// One of them is no backup.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// There is none.
    #[error("there is no backup in {places}")]
    Nothing {
        /// Where it was looked for.
        places: String,
    },
    /// None is of the snapshot that was asked for.
    #[error("no backup is of snapshot {snapshot}")]
    NoSnapshot {
        /// Which one.
        snapshot: Uuid,
    },
    /// Something between is missing.
    #[error("{} builds upon snapshot {since}, which no backup here is of", file.display())]
    Gap {
        /// The one that hangs in the air.
        file: PathBuf,
        /// What it builds upon.
        since: Uuid,
    },
    /// They build upon each other.
    #[error("{} builds upon itself", file.display())]
    Circle {
        /// One of them.
        file: PathBuf,
    },
    /// Two are of the same snapshot.
    #[error("{} and {} are of the same snapshot", one.display(), other.display())]
    Twice {
        /// One of them.
        one: PathBuf,
        /// And the other.
        other: PathBuf,
    },
    /// A later one is of something else.
    #[error("{} does not go on from {}: {why}", file.display(), before.display())]
    Stranger {
        /// The later one.
        file: PathBuf,
        /// The one before.
        before: PathBuf,
        /// In what they differ.
        why: &'static str,
    },
    /// A file was named that is not needed.
    #[error("{} does not belong to the chain of {}", file.display(), last.display())]
    Needless {
        /// That file.
        file: PathBuf,
        /// The end of the chain.
        last: PathBuf,
    },
}

/// The chain that ends with the newest backup in these files and folders, or with the one of a
/// snapshot; in order, the full one first. Files that are named must all be in it.
///
/// # Errors
/// When they make none.
pub fn chain(places: &[PathBuf], until: Option<Uuid>) -> Result<Vec<Backup>, ChainError> {
    let (mut all, mut named) = (Vec::new(), Vec::new());
    for place in places {
        if place.is_dir() {
            all.extend(folder(place)?);
        } else {
            named.push(place.clone());
            all.push(Backup::open(place)?);
        }
    }
    let last = match until {
        Some(snapshot) => all
            .iter()
            .find(|backup| backup.manifest.snapshot == snapshot)
            .ok_or(ChainError::NoSnapshot { snapshot })?,
        None => last(&all).ok_or_else(|| {
            let places: Vec<_> = places.iter().map(|p| p.display().to_string()).collect();
            let places = places.join(", ");
            ChainError::Nothing { places }
        })?,
    };
    let chain = back(&all, last)?;
    let needed = |file: &PathBuf| chain.iter().any(|backup| backup.file == *file);
    match named.into_iter().find(|file| !needed(file)) {
        Some(file) if until.is_none() => Err(ChainError::Needless {
            file,
            last: last.file.clone(),
        }),
        _ => Ok(chain),
    }
}

/// The newest backup of a volume in a folder, for another to build upon.
///
/// # Errors
/// When something in there is not what it seems.
pub fn newest(folder: &Path, volume: Uuid) -> Result<Option<Backup>, ManifestError> {
    let mut all = self::folder(folder)?;
    all.retain(|backup| backup.manifest.volume == volume);
    Ok(last(&all).cloned())
}

fn folder(path: &Path) -> Result<Vec<Backup>, ManifestError> {
    let entries = fs::read_dir(path).map_err(failed("look into", path))?;
    let mut found = Vec::new();
    for entry in entries {
        let file = entry.map_err(failed("look into", path))?.path();
        if file.extension() == Some(OsStr::new("json")) {
            found.push(Backup::open(&file.with_extension(""))?);
        }
    }
    found.sort_by(|one, other| one.file.cmp(&other.file));
    Ok(found)
}

/// The newest of those that nothing builds upon.
fn last(all: &[Backup]) -> Option<&Backup> {
    let built_upon = |backup: &&Backup| {
        let snapshot = Some(backup.manifest.snapshot);
        all.iter().any(|other| other.manifest.since == snapshot)
    };
    let ends = all.iter().filter(|backup| !built_upon(backup));
    ends.max_by_key(|backup| backup.manifest.taken)
}

/// The way from a full backup to this one.
fn back(all: &[Backup], last: &Backup) -> Result<Vec<Backup>, ChainError> {
    let mut chain = vec![only(all, last)?.clone()];
    let mut at = last;
    while let Some(since) = at.manifest.since {
        let file = at.file.clone();
        let before = all.iter().find(|backup| backup.manifest.snapshot == since);
        let Some(before) = before else {
            return Err(ChainError::Gap { file, since });
        };
        if chain.iter().any(|backup| backup.file == before.file) {
            return Err(ChainError::Circle { file });
        }
        let why = match () {
            () if before.manifest.volume != at.manifest.volume => "it is of another volume",
            () if before.manifest.size > at.manifest.size => "volumes do not shrink",
            () => "",
        };
        if !why.is_empty() {
            let before = before.file.clone();
            return Err(ChainError::Stranger { file, before, why });
        }
        chain.push(only(all, before)?.clone());
        at = before;
    }
    chain.reverse();
    Ok(chain)
}

/// The same, if no other is of its snapshot.
fn only<'a>(all: &[Backup], backup: &'a Backup) -> Result<&'a Backup, ChainError> {
    let twin = all.iter().find(|other| {
        other.manifest.snapshot == backup.manifest.snapshot && other.file != backup.file
    });
    match twin {
        None => Ok(backup),
        Some(twin) => Err(ChainError::Twice {
            one: backup.file.clone(),
            other: twin.file.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::Manifest;

    fn backup(n: u128, since: Option<u128>) -> Backup {
        Backup {
            file: PathBuf::from(n.to_string()),
            manifest: Manifest {
                version: 1,
                volume: Uuid::from_u128(100),
                name: "volume".parse().unwrap(),
                snapshot: Uuid::from_u128(n),
                since: since.map(Uuid::from_u128),
                size: 1 << 20,
                length: 56,
                sha256: [0; 32].into(),
                taken: 7,
            },
        }
    }

    fn files(all: &[Backup]) -> Result<String, String> {
        let last = last(all).ok_or("none")?;
        let chain = back(all, last).map_err(|error| error.to_string())?;
        let files = chain.iter().map(|b| b.file.display().to_string());
        Ok(files.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_chain_is_found_in_any_order() {
        let all = [backup(3, Some(2)), backup(1, None), backup(2, Some(1))];
        assert_eq!(files(&all).as_deref(), Ok("1 2 3"));
        let mut later = backup(9, None);
        later.manifest.taken = 8;
        assert_eq!(files(&[all[1].clone(), later]).as_deref(), Ok("9"));
        assert_eq!(files(&[]).unwrap_err(), "none");
    }

    #[test]
    fn what_does_not_fit_is_told_by_name() {
        let mut other = backup(2, Some(1));
        other.manifest.volume = Uuid::nil();
        let mut smaller = backup(2, Some(1));
        smaller.manifest.size = 4096;
        let mut twin = backup(1, None);
        twin.file = "1b".into();
        let full = backup(1, None);
        for (all, words) in [
            (
                vec![full.clone(), backup(3, Some(2))],
                "3 builds upon snapshot",
            ),
            (vec![full.clone(), other], "another volume"),
            (vec![full.clone(), smaller], "do not shrink"),
            (
                vec![full.clone(), twin, backup(2, Some(1))],
                "same snapshot",
            ),
        ] {
            let told = files(&all).unwrap_err();
            assert!(told.contains(words), "{told}");
        }
        let circle = [backup(1, Some(2)), backup(2, Some(1))];
        let told = back(&circle, &circle[0]).unwrap_err().to_string();
        assert!(told.contains("builds upon itself"), "{told}");
    }

    #[test]
    fn files_that_are_named_must_be_what_they_say_and_be_needed() {
        let folder = tempfile::tempdir().unwrap();
        let place = |n: u128, since| {
            let mut made = backup(n, since);
            made.file = folder.path().join(n.to_string());
            std::fs::write(&made.file, [0; 56]).unwrap();
            made.write().unwrap();
            made.file
        };
        let (one, two) = (place(1, None), place(2, Some(1)));
        assert_eq!(chain(&[two.clone(), one.clone()], None).unwrap().len(), 2);
        let in_folder = chain(&[folder.path().to_owned()], Some(Uuid::from_u128(1)));
        assert_eq!(in_folder.unwrap().len(), 1);
        let alone = chain(std::slice::from_ref(&two), None).unwrap_err();
        assert!(matches!(alone, ChainError::Gap { .. }), "{alone}");
        let other = place(5, None);
        let needless = chain(&[one.clone(), two.clone(), other], None).unwrap_err();
        assert!(
            matches!(needless, ChainError::Needless { .. }),
            "{needless}"
        );

        std::fs::write(&two, [0; 55]).unwrap();
        let short = chain(&[one.clone(), two.clone()], None).unwrap_err();
        assert!(short.to_string().contains("55 bytes where"), "{short}");
        std::fs::write(Manifest::path(&two), "{\"version\": 1}").unwrap();
        let nothing = chain(&[one, two], None).unwrap_err();
        assert!(nothing.to_string().contains("no manifest"), "{nothing}");
    }
}
