//! Updates: which ones a box accepts, and the bundles that bring them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::BuildError;
use crate::cache::Key;
use crate::command::run;
use crate::slot::Slot;
use crate::tools::Tools;

/// What a bundle must be for: boxes with other processors have other bundles. Those whose
/// machine starts only what is signed have one more word behind it.
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

/// What a bundle must be for, where `certificate`, in PEM, is of what signs what is started.
/// A kernel image that is not signed by it would be installed and never start.
pub(crate) fn compatible(certificate: Option<&str>) -> String {
    let Some(certificate) = certificate else {
        return COMPATIBLE.to_owned();
    };
    // Of what the file says, not how.
    let words = certificate.split_ascii_whitespace();
    let digest = words.fold(Key::default(), Key::with).digest();
    let [a, b, c, d, ..] = digest;
    format!("{COMPATIBLE}-{a:02x}{b:02x}{c:02x}{d:02x}")
}

/// Refuses what is to go into every image unless it is certificates, and lists of revoked ones.
pub(crate) fn authorities(path: &Path) -> Result<String, BuildError> {
    let text = fs::read_to_string(path).map_err(BuildError::io("read", path))?;
    let begun = |line: &str| Some(line.trim().strip_prefix("-----BEGIN ")?.to_owned());
    let labels: Vec<_> = text.lines().filter_map(begun).collect();
    let public = |label: &String| ["CERTIFICATE-----", "X509 CRL-----"].contains(&label.as_str());
    let any = labels.iter().any(|label| label == "CERTIFICATE-----");
    match any && labels.iter().all(public) {
        true => Ok(text),
        false => Err(BuildError::Authorities {
            path: path.to_owned(),
        }),
    }
}

/// What the updater of a box is told. `trusted` is what bundles are verified with.
pub(crate) fn system_conf(compatible: &str, floor: Option<&str>, trusted: Option<&str>) -> String {
    let line = |kind: &str| format!("\ncompatible={kind}\n");
    let mut conf = SYSTEM_CONF.replace(&line(COMPATIBLE), &line(compatible));
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

/// A version that all who compare it, the updater and `accept`, find the same of: three numbers,
/// behind them `-rc.1` or another word and number, and behind that `+` and what is not compared.
pub(crate) fn checked(version: &str) -> Result<&str, BuildError> {
    let (before, build) = version.split_once('+').unwrap_or((version, "0"));
    let (core, pre) = before.split_once('-').unwrap_or((before, "rc.0"));
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
        && build.split('.').all(word)
        && pre.split_once('.').is_some_and(|(name, count)| {
            let letters = name.bytes().all(|byte| byte.is_ascii_lowercase());
            !name.is_empty() && letters && number(count)
        });
    good.then_some(version).ok_or_else(|| BuildError::Version {
        version: version.to_owned(),
    })
}

/// The root first, whose hook takes the slot's kernel image away: one that starts a root which it
/// was not made with must never be there.
pub(crate) fn manifest(compatible: &str, version: &str) -> String {
    format!(
        "[update]\ncompatible={compatible}\nversion={version}\n\n\
         [bundle]\nformat=verity\n\n\
         [hooks]\nfilename=hook\n\n\
         [image.rootfs]\nfilename=root.img\nhooks=pre-install\n\n\
         [image.kernel]\nhooks=install\n"
    )
}

/// Everything that goes into a bundle besides roots, kernel images and keys, for the cache's key.
pub(crate) fn parts(compatible: &str, version: &str) -> String {
    [
        &manifest(compatible, version),
        HOOK,
        SQUASHFS,
        &PIECE.to_string(),
    ]
    .join("\n")
}

/// Packs a bundle in a directory: a root, and the kernel images that `uki` makes.
pub(crate) fn pack(
    tools: &Tools,
    manifest: &str,
    root: &Path,
    (signer, authorities): (&UpdateSigner, &Path),
    directory: &Path,
    uki: impl Fn(Slot, &Path) -> Result<(), BuildError>,
) -> Result<(), BuildError> {
    let content = directory.join("content");
    fs::create_dir(&content).map_err(BuildError::io("create", &content))?;
    let write = |name: &str, bytes: &[u8]| {
        let path = content.join(name);
        fs::write(&path, bytes).map_err(BuildError::io("write", &path))
    };
    write("manifest.raucm", manifest.as_bytes())?;
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
    // What the box would refuse for its signature, it refuses.
    let conf = directory.join("rauc.conf");
    let checks = format!(
        "[system]\ncompatible={COMPATIBLE}\nbootloader=noop\n\
         [keyring]\npath={}\ncheck-purpose=codesign\n",
        Tools::file(authorities).display()
    );
    fs::write(&conf, checks).map_err(BuildError::io("write", &conf))?;
    bundle
        .arg(format!("--conf={}", Tools::file(&conf).display()))
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
        let signed = compatible(Some("-----BEGIN CERTIFICATE-----\nAAAA\n"));
        let other = compatible(Some("-----BEGIN CERTIFICATE-----\nAAAB\n"));
        let same = compatible(Some("-----BEGIN CERTIFICATE-----\r\nAAAA"));
        assert_eq!(signed, same);
        assert_ne!(signed, other);
        for kind in [compatible(None), signed, other] {
            let line = format!("compatible={kind}");
            let conf = system_conf(&kind, None, None);
            assert!(conf.lines().any(|there| there == line));
            assert!(manifest(&kind, "1.2.3").lines().any(|there| there == line));
        }
    }

    #[test]
    fn no_key_gets_into_an_image() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let block = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
        let [certificate, crl, key] = ["CERTIFICATE", "X509 CRL", "PRIVATE KEY"].map(block);
        for (text, good) in [
            (certificate.clone(), true),
            (format!("{certificate}{crl}"), true),
            (format!("{certificate}{key}"), false),
            (crl, false),
            (String::new(), false),
        ] {
            fs::write(&path, &text).unwrap();
            assert_eq!(authorities(&path).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn a_floor_is_among_what_is_said_of_the_system() {
        assert_eq!(system_conf(COMPATIBLE, None, None), SYSTEM_CONF);
        let conf = system_conf(COMPATIBLE, Some("1.2.3"), None);
        let (system, rest) = conf.split_once("[keyring]").unwrap();
        assert!(system.contains("\nmin-bundle-version=1.2.3\n"), "{conf}");
        assert!(!rest.contains("min-bundle-version"), "{conf}");
    }

    #[test]
    fn lists_of_revoked_certificates_are_heeded_where_there_are_any() {
        let crl = "-----BEGIN X509 CRL-----\n";
        let certificate = "-----BEGIN CERTIFICATE-----\n";
        let line = "\ncheck-crl=true\n";
        assert!(!system_conf(COMPATIBLE, None, Some(certificate)).contains(line));
        let conf = system_conf(COMPATIBLE, None, Some(&format!("{certificate}{crl}")));
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
            "1.2.3-rc1",
            "1.2.3-rc-1",
            "1.2.3-4-gabc",
            "1.2.3-rc.1.2",
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
