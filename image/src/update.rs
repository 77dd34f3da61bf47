//! Updates: which ones a box accepts, and the bundles that bring them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::BuildError;
use crate::command::run;
use crate::slot::Slot;
use crate::tools::Tools;

/// What a bundle must be for. Boxes with other processors have other bundles.
const COMPATIBLE: &str = "ashlar-x86-64";

const SYSTEM_CONF: &str = include_str!("../appliance/etc/rauc/system.conf");
const HOOK: &str = include_str!("../bundle/hook");

/// Where a box has the certificate that bundles are verified with.
pub(crate) const KEYRING: &str = "etc/rauc/keyring.pem";

/// Bytes of a piece of a kernel image. Those of the two slots differ in few of their pieces, and
/// the bundle's file system has files of the same content once.
const PIECE: usize = 1 << 20;

/// zstd at a level beyond which there is less to gain than an emulated machine has time.
const SQUASHFS: &str = "-comp zstd -Xcompression-level 15 -b 1M";

/// What signs bundles.
#[derive(Clone, Debug)]
pub struct UpdateSigner {
    /// The private key, in PEM.
    pub key: PathBuf,
    /// Its certificate, in PEM, for the signing of code.
    pub certificate: PathBuf,
    /// Those between it and the one that boxes have.
    pub intermediates: Vec<PathBuf>,
}

impl UpdateSigner {
    /// The same by paths that lead to the files from anywhere.
    pub(crate) fn found(&self) -> Result<Self, BuildError> {
        let find = |path: &PathBuf| fs::canonicalize(path).map_err(BuildError::io("find", path));
        Ok(Self {
            key: find(&self.key)?,
            certificate: find(&self.certificate)?,
            intermediates: self
                .intermediates
                .iter()
                .map(find)
                .collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.key, &self.certificate]
            .into_iter()
            .chain(&self.intermediates)
    }
}

/// What the updater of a box is told. `trusted` is what bundles are verified with.
pub(crate) fn system_conf(floor: Option<&str>, trusted: Option<&str>) -> String {
    let mut conf = SYSTEM_CONF.to_owned();
    if let Some(floor) = floor {
        conf = conf.replace(
            "\n\n# Without",
            &format!("\nmin-bundle-version={floor}\n\n# Without"),
        );
    }
    // Where there is one of the lists, each authority must have one.
    if trusted.is_some_and(|trusted| trusted.contains("-----BEGIN X509 CRL-----")) {
        conf = conf.replace(
            "check-purpose=codesign\n",
            "check-purpose=codesign\ncheck-crl=true\n",
        );
    }
    conf
}

/// What a box says that it is.
pub(crate) fn os_release(version: &str) -> String {
    format!(
        "NAME=\"Ashlar\"\nPRETTY_NAME=\"Ashlar {version}\"\nID=ashlar\nID_LIKE=debian\n\
         VERSION=\"{version}\"\nVERSION_ID=\"{version}\"\n\
         IMAGE_ID=ashlar\nIMAGE_VERSION=\"{version}\"\n"
    )
}

/// A version that the updater can compare: three numbers, and behind them what semantic versioning
/// has.
pub(crate) fn checked(version: &str) -> Result<&str, BuildError> {
    let (before, build) = version.split_once('+').unwrap_or((version, "0"));
    let (core, pre) = before.split_once('-').unwrap_or((before, "0"));
    let word = |word: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !word.is_empty() && word.bytes().all(plain)
    };
    let number = |number: &str| {
        let leads = number.starts_with('0') && number.len() > 1;
        !leads
            && number.len() < 10
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
    };
    let numbers: Vec<_> = core.split('.').collect();
    let good = numbers.len() == 3
        && numbers.iter().all(|one| number(one))
        && [pre, build].iter().all(|part| part.split('.').all(word));
    good.then_some(version).ok_or_else(|| BuildError::Version {
        version: version.to_owned(),
    })
}

/// The root first, whose hook takes the slot's kernel image away: one that starts a root which it
/// was not made with must never be there.
pub(crate) fn manifest(version: &str) -> String {
    format!(
        "[update]\ncompatible={COMPATIBLE}\nversion={version}\n\n\
         [bundle]\nformat=verity\n\n\
         [hooks]\nfilename=hook\n\n\
         [image.rootfs]\nfilename=root.img\nhooks=pre-install\n\n\
         [image.kernel]\nhooks=install\n"
    )
}

/// Everything that goes into a bundle besides roots, kernel images and keys, for the cache's key.
pub(crate) fn parts(version: &str) -> String {
    [&manifest(version), HOOK, SQUASHFS, &PIECE.to_string()].join("\n")
}

/// Packs a bundle in a directory: a root, and the kernel images that `uki` makes.
pub(crate) fn pack(
    tools: &Tools,
    version: &str,
    root: &Path,
    signer: &UpdateSigner,
    directory: &Path,
    uki: impl Fn(Slot, &Path) -> Result<(), BuildError>,
) -> Result<(), BuildError> {
    let content = directory.join("content");
    fs::create_dir(&content).map_err(BuildError::io("create", &content))?;
    let write = |name: &str, bytes: &[u8]| {
        let path = content.join(name);
        fs::write(&path, bytes).map_err(BuildError::io("write", &path))
    };
    write("manifest.raucm", manifest(version).as_bytes())?;
    write("hook", HOOK.as_bytes())?;
    crate::filesystem::restrict(&content.join("hook"), 0o755)?;
    fs::hard_link(root, content.join("root.img")).map_err(BuildError::io("link", root))?;
    for slot in Slot::ALL {
        let image = directory.join("kernel.efi");
        uki(slot, &image)?;
        let bytes = fs::read(&image).map_err(BuildError::io("read", &image))?;
        for (number, piece) in bytes.chunks(PIECE).enumerate() {
            write(&format!("kernel-{slot}.{number:03}"), piece)?;
        }
        fs::remove_file(&image).map_err(BuildError::io("remove", &image))?;
    }
    let mut bundle = signed(tools, "bundle", signer);
    bundle
        .arg(format!("--mksquashfs-args={SQUASHFS}"))
        .arg(Tools::file(&content))
        .arg(Tools::file(&directory.join(BUNDLE)));
    run(&mut bundle)?;
    fs::remove_dir_all(&content).map_err(BuildError::io("remove", &content))
}

/// Writes a bundle to another file, signed by somebody else.
pub(crate) fn resign(
    tools: &Tools,
    bundle: &Path,
    signer: &UpdateSigner,
    out: &Path,
) -> Result<(), BuildError> {
    let mut resign = signed(tools, "resign", signer);
    // Nobody says here whom a box trusts.
    resign
        .arg("--no-verify")
        .arg(Tools::file(bundle))
        .arg(Tools::file(out));
    run(&mut resign).map(drop)
}

fn signed(tools: &Tools, word: &str, signer: &UpdateSigner) -> Command {
    let file = |option: &str, path: &Path| format!("--{option}={}", Tools::file(path).display());
    let between = signer.intermediates.iter();
    let mut command = tools.command("rauc");
    command
        .arg(word)
        .arg(file("key", &signer.key))
        .arg(file("cert", &signer.certificate))
        .args(between.map(|path| file("intermediate", path)));
    command
}

/// The file that [`pack`] makes.
pub(crate) const BUNDLE: &str = "bundle.raucb";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_for_the_boxes_that_are_built() {
        let line = format!("compatible={COMPATIBLE}");
        assert!(SYSTEM_CONF.lines().any(|there| there == line));
        assert!(manifest("1.2.3").lines().any(|there| there == line));
    }

    #[test]
    fn a_floor_is_among_what_is_said_of_the_system() {
        assert_eq!(system_conf(None, None), SYSTEM_CONF);
        let conf = system_conf(Some("1.2.3"), None);
        let (system, rest) = conf.split_once("[keyring]").unwrap();
        assert!(system.contains("\nmin-bundle-version=1.2.3\n"), "{conf}");
        assert!(!rest.contains("min-bundle-version"), "{conf}");
    }

    #[test]
    fn lists_of_revoked_certificates_are_heeded_where_there_are_any() {
        let crl = "-----BEGIN X509 CRL-----\n";
        let certificate = "-----BEGIN CERTIFICATE-----\n";
        let line = "\ncheck-crl=true\n";
        assert!(!system_conf(None, Some(certificate)).contains(line));
        let conf = system_conf(None, Some(&format!("{certificate}{crl}")));
        let (_, keyring) = conf.split_once("[keyring]").unwrap();
        let (keyring, _) = keyring.split_once("\n[").unwrap();
        assert!(keyring.contains(line), "{conf}");
    }

    #[test]
    fn versions_are_those_that_can_be_compared() {
        for good in [
            "0.1.0",
            "10.20.30",
            "1.2.3-rc.1",
            "1.2.3+abc",
            "1.2.3-rc.1+4-f",
        ] {
            assert_eq!(checked(good).unwrap(), good);
        }
        for bad in [
            "",
            "1",
            "1.2",
            "1.2.3.4",
            "1.2.x",
            "01.2.3",
            "1.2.3-",
            "1.2.3\"",
            "1.2.3-a b",
        ] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }

    /// The loader must not order slots by their versions, but tools may know them.
    #[test]
    fn the_firmware_says_its_version() {
        let release = os_release("1.2.3");
        for line in [
            "IMAGE_ID=ashlar",
            "IMAGE_VERSION=\"1.2.3\"",
            "VERSION=\"1.2.3\"",
        ] {
            assert!(release.lines().any(|there| there == line), "{release}");
        }
    }
}
