//! Where Debian packages come from: the mirror that the machine's own apt uses.

use std::fs;
use std::path::Path;

use crate::BuildError;

/// The release every image is made of.
pub(crate) const SUITE: &str = "trixie";

/// The keys that sign Debian's releases.
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

const APT: &str = "/etc/apt";

/// One source of packages, as apt has it configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Source {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
}

/// The URI of the mirror. A source of the wanted release comes first, then one of the release
/// that the machine itself runs, since a mirror carries both.
///
/// # Errors
/// When apt's configuration cannot be read or names none.
pub fn mirror() -> Result<String, BuildError> {
    let sources = configured(Path::new(APT))?;
    let own = own_codename()?;
    choose(&sources, &own).ok_or_else(|| BuildError::NoMirror {
        directory: APT.into(),
    })
}

fn choose(sources: &[Source], own: &str) -> Option<String> {
    let carries = |suite: &str| {
        sources
            .iter()
            .find(|source| {
                source.suites.iter().any(|named| named == suite)
                    && source.components.iter().any(|named| named == "main")
            })
            .map(|source| source.uri.clone())
    };
    carries(SUITE).or_else(|| carries(own))
}

/// The release that this machine runs, by the name of its suite; nothing where it says none.
///
/// # Errors
/// When the machine does not say what it runs.
pub fn own_codename() -> Result<String, BuildError> {
    let path = Path::new("/etc/os-release");
    let text = fs::read_to_string(path).map_err(BuildError::io("read", path))?;
    Ok(text
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .unwrap_or_default()
        .trim_matches('"')
        .to_owned())
}

fn configured(apt: &Path) -> Result<Vec<Source>, BuildError> {
    let mut files = vec![apt.join("sources.list")];
    let directory = apt.join("sources.list.d");
    if let Ok(entries) = fs::read_dir(&directory) {
        for entry in entries {
            files.push(entry.map_err(BuildError::io("list", &directory))?.path());
        }
    }
    files.sort();
    let mut sources = Vec::new();
    for file in files.iter().filter(|file| file.is_file()) {
        let parse = match file.extension().and_then(|end| end.to_str()) {
            Some("list") => one_line,
            Some("sources") => deb822,
            _ => continue,
        };
        let text = fs::read_to_string(file).map_err(BuildError::io("read", file))?;
        sources.extend(parse(&text));
    }
    Ok(sources)
}

/// `deb [options] URI suite component…`, one source a line.
fn one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(one_source).collect()
}

fn one_source(line: &str) -> Option<Source> {
    let rest = line.trim().strip_prefix("deb ")?.trim();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source {
        uri: words.next()?,
        suites: vec![words.next()?],
        components: words.collect(),
    })
}

/// Paragraphs of `Field: value`, as in `sources.list.d/*.sources`.
fn deb822(text: &str) -> Vec<Source> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines
        .split(|line| line.trim().is_empty())
        .filter_map(paragraph)
        .collect()
}

fn paragraph(lines: &[&str]) -> Option<Source> {
    let words = |field: &str| -> Vec<String> {
        lines
            .iter()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case(field))
            .map(|(_, value)| value.split_whitespace().map(str::to_owned).collect())
            .unwrap_or_default()
    };
    let disabled = words("Enabled").iter().any(|word| word == "no");
    if disabled || !words("Types").iter().any(|word| word == "deb") {
        return None;
    }
    Some(Source {
        uri: words("URIs").into_iter().next()?,
        suites: words("Suites"),
        components: words("Components"),
    })
}

#[cfg(test)]
mod tests;
