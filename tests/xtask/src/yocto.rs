//! The Yocto layers: what in them is written from elsewhere, and what can be checked without
//! building them.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::build::{check, root, target};
use crate::python::environment;

/// The crates that every recipe of the workspace fetches.
const CRATES: &str = "yocto/meta-ashlar/recipes-ashlar/ashlar/ashlar-crates.inc";

/// Where a lock file says that crates.io's crates come from.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The series of Yocto whose rules apply.
const SERIES: &str = "wrynose";

/// Rules of the linter that the layers do not follow, because the project has no page.
const SUPPRESSED: &[&str] = &[
    "oelint.var.mandatoryvar.HOMEPAGE",
    "oelint.vars.homepageping",
];

#[derive(Deserialize)]
struct Lock {
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    /// Where it is fetched from; a member of the workspace is not.
    source: Option<String>,
    checksum: Option<String>,
}

/// Writes the list of crates.
pub fn write_crates() -> anyhow::Result<()> {
    let path = root().join(CRATES);
    fs::write(&path, crates()?).with_context(|| path.display().to_string())
}

/// The list of crates, as Cargo.lock has it.
fn crates() -> anyhow::Result<String> {
    let path = root().join("Cargo.lock");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    render(&toml::from_str(&text).with_context(|| path.display().to_string())?)
}

fn render(lock: &Lock) -> anyhow::Result<String> {
    let (mut uris, mut sums) = (String::new(), String::new());
    for package in &lock.package {
        let (name, version) = (&package.name, &package.version);
        match (package.source.as_deref(), &package.checksum) {
            (None, _) => {}
            (Some(CRATES_IO), Some(checksum)) => {
                writeln!(uris, "    crate://crates.io/{name}/{version} \\")?;
                writeln!(sums, "SRC_URI[{name}-{version}.sha256sum] = \"{checksum}\"")?;
            }
            (Some(source), _) => bail!("{name} {version} comes from {source}"),
        }
    }
    Ok(format!(
        "# Written by `cargo xtask yocto-crates` from Cargo.lock.\n\nSRC_URI += \"\\\n{uris}\"\n\n{sums}"
    ))
}

/// Holds recipes and configurations to the rules of their field.
pub fn lint() -> anyhow::Result<()> {
    let layers = root().canonicalize()?.join("yocto");
    let requirements = layers.join("requirements.txt");
    let what = "what the Yocto layers are checked with";
    let python = environment(&requirements, &target().join("yocto"), what)?;
    let files = metadata(&layers)?;
    let mut command = Command::new(python.with_file_name("oelint-adv"));
    command
        .args(["--quiet", "--relpaths", "--hide", "info"])
        .args(["--release", SERIES])
        .args(SUPPRESSED.iter().flat_map(|rule| ["--suppress", rule]))
        .args(
            files
                .iter()
                .filter_map(|file| file.strip_prefix(&layers).ok()),
        )
        .current_dir(&layers);
    check(&mut command)
}

/// What bitbake reads of the layers: recipes, what they require, and configurations.
fn metadata(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let read = match path.extension().and_then(|kind| kind.to_str()) {
            Some("bb" | "bbappend" | "inc") => true,
            Some("conf") => path.iter().any(|part| part == "conf"),
            _ => false,
        };
        if path.is_dir() {
            files.extend(metadata(&path)?);
        } else if read {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipes() -> PathBuf {
        root().join(CRATES).with_file_name("")
    }

    fn workspace() -> toml::Table {
        let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
        manifest.parse::<toml::Table>().unwrap()["workspace"]
            .as_table()
            .unwrap()
            .clone()
    }

    #[test]
    fn the_recipes_fetch_what_the_lock_file_names() {
        let there = fs::read_to_string(root().join(CRATES)).unwrap();
        let wanted = crates().unwrap();
        assert!(there == wanted, "run `cargo xtask yocto-crates`");
        assert!(wanted.contains("    crate://crates.io/serde/"), "{wanted}");
    }

    #[test]
    fn a_crate_from_elsewhere_is_refused() {
        let lock = |source: &str| {
            let text = format!(
                "[[package]]\nname = 'a'\nversion = '1.0.0'\nsource = '{source}'\nchecksum = 'c0'"
            );
            render(&toml::from_str(&text).unwrap())
        };
        let fetched = lock(CRATES_IO).unwrap();
        assert!(
            fetched.contains("crate://crates.io/a/1.0.0 \\\n"),
            "{fetched}"
        );
        assert!(
            fetched.contains("SRC_URI[a-1.0.0.sha256sum] = \"c0\"\n"),
            "{fetched}"
        );
        assert!(lock("git+https://example.com/a").is_err());
    }

    /// Cargo does not load a workspace that lacks a member.
    #[test]
    fn the_recipes_have_all_members_of_the_workspace() {
        let recipe = fs::read_to_string(recipes().join("ashlar-rust.inc")).unwrap();
        for member in workspace()["members"].as_array().unwrap() {
            let folder = member.as_str().unwrap().split('/').next().unwrap();
            assert!(recipe.contains(&format!("file://{folder};")), "{folder}");
        }
    }

    #[test]
    fn the_recipes_have_the_version_of_what_they_build() {
        let version = workspace()["package"]["version"]
            .as_str()
            .unwrap()
            .to_owned();
        let names: Vec<_> = fs::read_dir(recipes())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".bb"))
            .collect();
        for name in &names {
            assert!(name.ends_with(&format!("_{version}.bb")), "{name}");
        }
        assert_eq!(names.len(), 5, "{names:?}");
        let distro = root().join("yocto/meta-ashlar-distro/conf/distro/ashlar.conf");
        let distro = fs::read_to_string(distro).unwrap();
        assert!(distro.contains(&format!("DISTRO_VERSION = \"{version}\"\n")));
    }

    /// The recipe makes the user that the Debian image makes from this file.
    #[test]
    fn the_user_has_one_number() {
        let user = root().join("image/appliance/usr/lib/sysusers.d/ashlar.conf");
        let user = fs::read_to_string(user).unwrap();
        let number = ashlar_image::AGENT_UID;
        assert!(user.contains(&format!("g ashlar {number}\nu ashlar {number}:{number} ")));
        let recipe = format!(
            "ashlar-config_{}.bb",
            workspace()["package"]["version"].as_str().unwrap()
        );
        let recipe = fs::read_to_string(recipes().join(recipe)).unwrap();
        assert!(
            recipe.contains(&format!("--gid {number} ashlar")),
            "{recipe}"
        );
        assert!(recipe.contains(&format!("--uid {number} ")), "{recipe}");
    }

    /// What the recipes take of `image/appliance`: files, and folders of files as `FOLDER/*`.
    fn taken() -> Vec<String> {
        let recipe = |name: &str| {
            let version = workspace()["package"]["version"]
                .as_str()
                .unwrap()
                .to_owned();
            fs::read_to_string(recipes().join(format!("{name}_{version}.bb"))).unwrap()
        };
        let between = |text: &str, start: &str, end: &str| -> Vec<String> {
            let (_, rest) = text.split_once(start).unwrap();
            let (words, _) = rest.split_once(end).unwrap();
            words.split_whitespace().map(str::to_owned).collect()
        };
        let mut taken = between(&recipe("ashlar-config"), "for file in ", "; do\n");
        taken.retain(|word| word != "\\");
        taken.push("usr/lib/ashlar/on-system-disk".to_owned());
        for program in ["ashlar-agent", "ashlar-targetd"] {
            let units = between(&recipe(program), "SYSTEMD_SERVICE:${PN} = \"", "\"");
            // The class takes what a socket starts with it.
            let started = units
                .iter()
                .filter_map(|unit| Some(format!("{}@.service", unit.strip_suffix(".socket")?)));
            let all = started.chain(units.iter().cloned());
            taken.extend(all.map(|unit| format!("etc/systemd/system/{unit}")));
        }
        taken
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let paths = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        paths
            .flat_map(|path| {
                if path.is_dir() {
                    files(&path)
                } else {
                    vec![path]
                }
            })
            .collect()
    }

    /// A file of the Debian image's that no recipe takes would be missing on boards, silently.
    #[test]
    fn the_recipes_take_what_the_debian_image_has() {
        let appliance = root().join("image/appliance");
        let mut there: Vec<_> = files(&appliance)
            .iter()
            .map(|path| {
                path.strip_prefix(&appliance)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        let apart = [
            // The package group reads the modules, the distribution the mounts.
            "modules.txt",
            "etc/fstab",
            // The recipes' disk has no verified root and nothing that counts tries yet.
            "etc/rauc/system.conf",
            "etc/systemd/system/ashlar-slot.service",
            "etc/systemd/system/emergency.service.d/ashlar.conf",
            "etc/systemd/system/rauc.service",
            "etc/systemd/system/systemd-networkd.service.d/ashlar.conf",
            "usr/lib/ashlar/accept",
            "usr/lib/ashlar/slot",
            "usr/share/dbus-1/system.d/de.pengutronix.rauc.conf",
        ];
        for apart in apart {
            assert!(there.iter().any(|file| file == apart), "{apart}");
            there.retain(|file| file != apart);
        }
        let covers = |word: &str, file: &str| match word.strip_suffix("/*") {
            Some(folder) => Path::new(file).parent() == Some(Path::new(folder)),
            None => word == file,
        };
        let taken = taken();
        for file in &there {
            assert!(
                taken.iter().any(|word| covers(word, file)),
                "no recipe takes {file}"
            );
        }
        for word in &taken {
            assert!(
                there.iter().any(|file| covers(word, file)),
                "there is no {word}"
            );
        }
    }
}
