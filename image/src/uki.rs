//! Unified kernel images: kernel, initial file system and command line in one file, which the
//! boot loader starts as it is and whose signature is over all of them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::BuildError;
use crate::boot::Boot;
use crate::command::run;
use crate::slot::Slot;
use crate::tools::Tools;

/// What signs the programs that a machine's firmware starts.
#[derive(Clone, Debug)]
pub struct SigningKey {
    /// The private key, in PEM.
    pub key: PathBuf,
    /// Its certificate, in PEM: what machines have among the ones that they trust.
    pub certificate: PathBuf,
}

impl SigningKey {
    /// The same by paths that lead to the files from anywhere: signing runs in a tree of its own.
    pub(crate) fn found(&self) -> Result<Self, BuildError> {
        let find = |path: &Path| fs::canonicalize(path).map_err(BuildError::io("find", path));
        Ok(Self {
            key: find(&self.key)?,
            certificate: find(&self.certificate)?,
        })
    }
}

/// Makes the kernel image of a slot.
pub(crate) fn uki(
    tools: &Tools,
    boot: &Boot,
    slot: Slot,
    version: &str,
    cmdline: &str,
    signing: Option<&SigningKey>,
    out: &Path,
) -> Result<(), BuildError> {
    let file = |option: &str, path: &Path| format!("--{option}={}", Tools::file(path).display());
    let mut build = tools.command("ukify");
    build
        .arg("build")
        .arg(file("linux", &boot.kernel))
        .arg(file("initrd", &boot.initrd))
        .arg(file("stub", &boot.stub))
        .arg(file("output", out))
        .arg(format!("--uname={}", boot.modules.version()))
        .arg(format!("--cmdline={cmdline}"))
        .arg(format!("--os-release={}", release(slot, version)));
    if let Some(signing) = signing {
        build
            .arg("--signtool=sbsign")
            .arg(file("secureboot-private-key", &signing.key))
            .arg(file("secureboot-certificate", &signing.certificate));
    }
    run(&mut build).map(drop)
}

/// Signs a program that is there already.
pub(crate) fn sign(
    tools: &Tools,
    signing: &SigningKey,
    program: &Path,
    out: &Path,
) -> Result<(), BuildError> {
    let mut sign = tools.command("sbsign");
    sign.arg("--key")
        .arg(Tools::file(&signing.key))
        .arg("--cert")
        .arg(Tools::file(&signing.certificate))
        .arg("--output")
        .arg(Tools::file(out))
        .arg(Tools::file(program));
    run(&mut sign).map(drop)
}

/// What the loader shows. No `ID`: with one it would order slots by their versions, and a box
/// could never go back to an older one; without, their names alone decide.
fn release(slot: Slot, version: &str) -> String {
    format!("PRETTY_NAME=\"Ashlar {version}, slot {slot}\"\nVERSION_ID={version}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_by_paths_from_where_the_builder_is() {
        let relative = |name: &str| PathBuf::from(name);
        // Tests run in the package's folder.
        let key = SigningKey {
            key: relative("Cargo.toml"),
            certificate: relative("src/../src/uki.rs"),
        };
        let found = key.found().unwrap();
        let package = fs::canonicalize(env!("CARGO_MANIFEST_DIR")).unwrap();
        assert_eq!(found.key, package.join("Cargo.toml"));
        assert_eq!(found.certificate, package.join("src/uki.rs"));
        let missing = SigningKey {
            key: relative("no-key.pem"),
            ..key
        };
        let error = missing.found().unwrap_err().to_string();
        assert_eq!(error, "failed to find no-key.pem");
    }

    #[test]
    fn the_loader_orders_slots_by_their_names_alone() {
        for slot in Slot::ALL {
            let release = release(slot, "1.2.3");
            assert!(release.contains(&format!("slot {slot}")));
            for key in ["ID=", "IMAGE_ID=", "IMAGE_VERSION="] {
                assert!(
                    !release.lines().any(|line| line.starts_with(key)),
                    "{release}"
                );
            }
        }
    }
}
