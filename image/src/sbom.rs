//! What a firmware is made of, as a bill of materials (CycloneDX 1.5, JSON): our programs, the crates that are
//! linked into them, Debian's packages, the kernel and the boot loader.
//!
//! One file says all of it. Packages are named as package URLs, with the source package where that has another
//! name or version, since that is what advisories name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use cargo_metadata::{DepKindInfo, DependencyKind, MetadataCommand, Package, PackageId};
use cyclonedx_bom::models::component::Classification;
use cyclonedx_bom::models::license::{LicenseChoice, Licenses};
use cyclonedx_bom::models::metadata::Metadata;
use cyclonedx_bom::prelude::{
    Bom, Component, Components, DateTime, Purl, SpdxExpression, SpecVersion, Validate,
};

use crate::BuildError;
use crate::archive::SUITE;
use crate::cache::Key;
use crate::command::run;
use crate::recipe::SHOWN;

/// The name of the file.
pub(crate) const FILE: &str = "sbom.cdx.json";

/// Our programs in the image.
const PROGRAMS: [&str; 3] = ["ashlar-agent", "ashlar-targetd", "ashlar-convert"];

/// The machine that images are for, as cargo has it.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// [`EPOCH`](crate::recipe::EPOCH) in the words of the format.
const WHEN: &str = "2026-01-01T00:00:00Z";

/// What is taken of the packages that the boot files are from. Their other libraries are in the root, too.
const BOOT: [&str; 5] = [
    "busybox-static",
    "dmsetup",
    "libdevmapper1.02.1",
    "linux-image-",
    "systemd-boot-efi",
];

/// Changes whenever the same would be written otherwise.
const FORM: u32 = 1;

/// What a bill is of.
pub(crate) struct Bill<'a> {
    /// The firmware's version.
    pub version: &'a str,
    /// The tree of the root's packages.
    pub root: &'a Path,
    /// The list of packages that the boot files are from.
    pub boot: &'a Path,
}

impl Bill<'_> {
    /// Identifies it, once trees and programs are identified.
    pub(crate) fn key(&self, parts: &Key) -> Result<Key, BuildError> {
        let key = Key::default().with(parts.digest()).with(FORM.to_be_bytes());
        key.with(self.version).with_file(&workspace("Cargo.lock"))
    }

    /// Writes it.
    pub(crate) fn write(&self, out: &Path) -> Result<(), BuildError> {
        let mut components = packages(&self.installed()?)?;
        components.extend(packages(&self.booting()?)?);
        components.extend(crates()?);
        let firmware = component(Classification::Firmware, "ashlar", self.version, None);
        let when = DateTime::try_from(WHEN.to_owned());
        let when = when.map_err(|error| wrong(&error.to_string()))?;
        let bom = Bom {
            serial_number: None,
            metadata: Some(Metadata {
                timestamp: Some(when),
                component: Some(firmware),
                ..Metadata::default()
            }),
            components: Some(Components(components)),
            spec_version: SpecVersion::V1_5,
            ..Bom::default()
        };
        let validation = bom.validate();
        if !validation.passed() {
            return Err(wrong(&format!("{validation:?}")));
        }
        let mut text = Vec::new();
        bom.output_as_json_v1_5(&mut text)
            .map_err(|error| wrong(&error.to_string()))?;
        fs::write(out, text).map_err(BuildError::io("write", out))
    }

    /// What is installed in the root, as its own package manager has it.
    fn installed(&self) -> Result<String, BuildError> {
        let mut query = Command::new("dpkg-query");
        query.arg(format!(
            "--admindir={}",
            self.root.join("var/lib/dpkg").display()
        ));
        let told = run(query.arg("--show").arg(format!("--showformat={SHOWN}")))?;
        Ok(String::from_utf8_lossy(&told).into_owned())
    }

    /// Lines of the packages that are taken for booting.
    fn booting(&self) -> Result<String, BuildError> {
        let text = fs::read_to_string(self.boot).map_err(BuildError::io("read", self.boot))?;
        let taken = |line: &&str| BOOT.iter().any(|name| line.starts_with(name));
        let lines: Vec<_> = text.lines().filter(taken).collect();
        for name in BOOT {
            if !lines.iter().any(|line| line.starts_with(name)) {
                return Err(BuildError::Missing {
                    what: name.into(),
                    tree: self.boot.to_owned(),
                });
            }
        }
        Ok(lines.join("\n"))
    }
}

fn wrong(why: &str) -> BuildError {
    BuildError::Bill {
        why: why.to_owned(),
    }
}

fn workspace(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file)
}

fn component(kind: Classification, name: &str, version: &str, purl: Option<Purl>) -> Component {
    // What is named once can be referred to.
    let own = purl.as_ref().map(ToString::to_string);
    let own = own.unwrap_or_else(|| format!("{name}@{version}"));
    let mut component = Component::new(kind, name, version, Some(own));
    component.purl = purl;
    component
}

/// Packages, of lines as [`SHOWN`] has them.
fn packages(lines: &str) -> Result<Vec<Component>, BuildError> {
    let package = |line: &str| {
        let [name, version, architecture, source, from] = line
            .split('\t')
            .collect::<Vec<_>>()
            .try_into()
            .map_err(|_| wrong(&format!("{line:?} is no package")))?;
        let mut url = format!(
            "pkg:deb/debian/{}@{}?arch={architecture}&distro={SUITE}",
            escaped(name),
            escaped(version)
        );
        if (source, from) != (name, version) {
            url += &format!("&upstream={}%40{}", escaped(source), escaped(from));
        }
        let url = purl(&url)?;
        Ok(component(Classification::Library, name, version, Some(url)))
    };
    lines.lines().map(package).collect()
}

/// Held to the rules of package URLs when the bill is validated.
fn purl(text: &str) -> Result<Purl, BuildError> {
    Purl::from_str(text).map_err(|()| wrong(text))
}

/// Letters of names and versions of Debian's that mean something else in URLs.
fn escaped(text: &str) -> String {
    text.replace('%', "%25")
        .replace('+', "%2B")
        .replace(':', "%3A")
}

/// Our programs, and all crates that are linked into them or make code for them.
fn crates() -> Result<Vec<Component>, BuildError> {
    let metadata = MetadataCommand::new()
        .manifest_path(workspace("Cargo.toml"))
        .other_options(["--locked", "--filter-platform", TARGET].map(str::to_owned))
        .exec()
        .map_err(|error| wrong(&error.to_string()))?;
    let packages = metadata
        .packages
        .iter()
        .map(|package| (&package.id, package));
    let packages: BTreeMap<&PackageId, &Package> = packages.collect();
    let nodes = metadata.resolve.iter().flat_map(|resolve| &resolve.nodes);
    let nodes: BTreeMap<&PackageId, _> = nodes.map(|node| (&node.id, node)).collect();
    let is_program = |id: &&PackageId| PROGRAMS.contains(&packages[*id].name.as_str());
    let mut next: Vec<&PackageId> = packages.keys().copied().filter(is_program).collect();
    let is_linked = |kinds: &[DepKindInfo]| {
        let mut kinds = kinds.iter();
        kinds.any(|kind| kind.kind == DependencyKind::Normal)
    };
    let mut linked = BTreeSet::new();
    while let Some(id) = next.pop() {
        if linked.insert(id) {
            let needed = nodes[id]
                .deps
                .iter()
                .filter(|dep| is_linked(&dep.dep_kinds));
            next.extend(needed.map(|dep| &dep.pkg));
        }
    }
    let mut linked: Vec<_> = linked.iter().map(|id| packages[*id]).collect();
    linked.sort_by(|one, other| (&one.name, &one.version).cmp(&(&other.name, &other.version)));
    linked.into_iter().map(of_crate).collect()
}

fn of_crate(package: &Package) -> Result<Component, BuildError> {
    let (name, version) = (package.name.as_str(), package.version.to_string());
    let kind = match PROGRAMS.contains(&name) {
        true => Classification::Application,
        false => Classification::Library,
    };
    // Our own are nowhere else to be found.
    let url = package.source.as_ref();
    let url = url.map(|_| purl(&format!("pkg:cargo/{name}@{}", escaped(&version))));
    let url = url.transpose()?;
    let mut component = component(kind, name, &version, url);
    let license = package.license.as_deref();
    // Some write / for OR, as was once the custom.
    let license = license.map(|license| license.replace('/', " OR "));
    let license = license.and_then(|license| SpdxExpression::try_from(license).ok());
    component.licenses = license.map(|license| Licenses(vec![LicenseChoice::Expression(license)]));
    Ok(component)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTALLED: &str = "\
Package: libc6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Source: glibc
Version: 2.41-12+deb13u1
Maintainer: somebody
Description: GNU C Library
 A line that goes on: it is none of its fields.
";

    const BOOT_PACKAGES: &str = "\
busybox-static\t1:1.37.0-6+b9\tamd64\tbusybox\t1:1.37.0-6
debconf\t1.5.91\tall\tdebconf\t1.5.91
dmsetup\t2:1.02.205-2\tamd64\tlvm2\t2.03.31-2
libdevmapper1.02.1\t2:1.02.205-2\tamd64\tlvm2\t2.03.31-2
linux-image-6.12.0-amd64\t6.12.0-1\tamd64\tlinux-signed-amd64\t6.12.0+1
systemd-boot-efi\t257.13-1\tamd64\tsystemd\t257.13-1
";

    fn bill(folder: &Path) -> (Bom, String) {
        let dpkg = folder.join("var/lib/dpkg");
        fs::create_dir_all(dpkg.join("info")).unwrap();
        fs::write(dpkg.join("status"), INSTALLED).unwrap();
        let boot = folder.join("packages");
        fs::write(&boot, BOOT_PACKAGES).unwrap();
        let out = folder.join(FILE);
        let bill = Bill {
            version: "1.2.3",
            root: folder,
            boot: &boot,
        };
        bill.write(&out).unwrap();
        let text = fs::read_to_string(&out).unwrap();
        (Bom::parse_from_json(text.as_bytes()).unwrap(), text)
    }

    #[test]
    fn a_bill_names_packages_kernel_programs_and_what_is_linked_into_them() {
        let folder = tempfile::tempdir().unwrap();
        let (bom, text) = bill(folder.path());
        let components = bom.components.unwrap().0;
        let version = |name: &str| {
            let mut found = components
                .iter()
                .filter(|found| found.name.to_string() == name);
            Some(found.next()?.version.as_ref()?.to_string())
        };
        for (name, wanted) in [
            ("libc6", "2.41-12+deb13u1"),
            ("linux-image-6.12.0-amd64", "6.12.0-1"),
            ("busybox-static", "1:1.37.0-6+b9"),
        ] {
            assert_eq!(version(name).as_deref(), Some(wanted), "{name}");
        }
        for url in [
            "pkg:deb/debian/libc6@2.41-12%2Bdeb13u1?arch=amd64&distro=trixie&upstream=glibc%402.41-12%2Bdeb13u1",
            "pkg:cargo/rustls@",
        ] {
            assert!(text.contains(url), "{url} in {text}");
        }
        for program in PROGRAMS {
            assert_eq!(version(program).as_deref(), Some(env!("CARGO_PKG_VERSION")));
        }
        // As the lock file has them.
        let lock = include_str!("../../Cargo.lock");
        for linked in ["rustls", "hyper", "sled", "nix"] {
            let version = version(linked).unwrap();
            let locked = format!("name = \"{linked}\"\nversion = \"{version}\"\n");
            assert!(lock.contains(&locked), "{linked} {version}");
        }
        // Only unpacked, only for tests, only on a client's side, only elsewhere.
        for other in [
            "debconf",
            "proptest",
            "indicatif",
            "ashlar-ctl",
            "windows-sys",
        ] {
            assert_eq!(version(other), None, "{other}");
        }
        assert_eq!(bill(folder.path()).1, text, "another bill of the same");
    }

    #[test]
    fn what_boots_it_is_not_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let boot = folder.path().join("packages");
        fs::write(&boot, BOOT_PACKAGES.replace("linux-image", "linux")).unwrap();
        let bill = Bill {
            version: "1.2.3",
            root: folder.path(),
            boot: &boot,
        };
        let refused = bill.booting().unwrap_err().to_string();
        assert!(refused.contains("linux-image-"), "{refused}");
    }
}
