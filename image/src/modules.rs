//! Kernel modules: which ones a list needs, in load order.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::BuildError;
use crate::command::run;

/// The modules of one kernel, unpacked from its package.
pub(crate) struct Modules {
    directory: PathBuf,
    version: String,
    needs: BTreeMap<String, Vec<String>>,
    paths: BTreeMap<String, String>,
}

impl Modules {
    /// Reads the module tree of the only kernel in a package tree.
    pub(crate) fn read(tree: &Path) -> Result<Self, BuildError> {
        let all = tree.join("usr/lib/modules");
        let mut listed = fs::read_dir(&all).map_err(BuildError::io("list", &all))?;
        let directory = listed
            .next()
            .ok_or_else(|| BuildError::Missing {
                what: "kernel modules".into(),
                tree: tree.to_owned(),
            })?
            .map_err(BuildError::io("list", &all))?
            .path();
        let version = file_name(&directory).to_owned();
        let path = directory.join("modules.dep");
        let text = fs::read_to_string(&path).map_err(BuildError::io("read", &path))?;
        let (paths, needs) = parse(&text);
        Ok(Self {
            directory,
            version,
            needs,
            paths,
        })
    }

    /// The kernel's version, which names the modules' directory.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// The named modules and all they depend on, each after what it depends on. A module that
    /// is built into the kernel is in no list, and needs none.
    pub(crate) fn closure(&self, list: &str) -> Result<Vec<String>, BuildError> {
        let built_in = self.built_in()?;
        let mut order = Vec::new();
        for name in names(list) {
            if !built_in.iter().any(|module| module == name) {
                self.visit(name, &mut order)?;
            }
        }
        Ok(order)
    }

    /// Copies modules into a root file system, unpacked: unpacking at boot costs more than the
    /// room it saves.
    pub(crate) fn install(&self, modules: &[String], root: &Path) -> Result<(), BuildError> {
        let target = root.join("usr/lib/modules").join(&self.version);
        for module in modules {
            let to = target.join(self.paths[module].trim_end_matches(".xz"));
            self.unpack(module, &to)?;
        }
        for file in [
            "modules.order",
            "modules.builtin",
            "modules.builtin.modinfo",
        ] {
            let (from, to) = (self.directory.join(file), target.join(file));
            fs::copy(&from, &to).map_err(BuildError::io("copy", &from))?;
        }
        run(Command::new("depmod")
            .arg("-b")
            .arg(root.join("usr"))
            .arg(&self.version))
        .map(drop)
    }

    /// Writes one module, unpacked.
    pub(crate) fn unpack(&self, module: &str, to: &Path) -> Result<(), BuildError> {
        let from = self.directory.join(&self.paths[module]);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(BuildError::io("create", parent))?;
        }
        let content = run(Command::new("xz").arg("-dcf").arg(&from))?;
        fs::write(to, content).map_err(BuildError::io("write", to))
    }

    fn built_in(&self) -> Result<Vec<String>, BuildError> {
        let path = self.directory.join("modules.builtin");
        let text = fs::read_to_string(&path).map_err(BuildError::io("read", &path))?;
        Ok(text.lines().map(module_name).collect())
    }

    fn visit(&self, name: &str, order: &mut Vec<String>) -> Result<(), BuildError> {
        if order.iter().any(|seen| seen == name) {
            return Ok(());
        }
        let needs = self.needs.get(name).ok_or_else(|| BuildError::Missing {
            what: format!("kernel module {name}"),
            tree: self.directory.clone(),
        })?;
        for need in needs {
            self.visit(need, order)?;
        }
        order.push(name.to_owned());
        Ok(())
    }
}

/// The names in a list of modules: one a line, `#` begins a comment.
fn names(list: &str) -> impl Iterator<Item = &str> {
    list.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Reads `path: needed…` lines as depmod writes them.
fn parse(text: &str) -> (BTreeMap<String, String>, BTreeMap<String, Vec<String>>) {
    let (mut paths, mut needs) = (BTreeMap::new(), BTreeMap::new());
    for (path, needed) in text.lines().filter_map(|line| line.split_once(':')) {
        let name = module_name(path);
        paths.insert(name.clone(), path.to_owned());
        needs.insert(name, needed.split_whitespace().map(module_name).collect());
    }
    (paths, needs)
}

/// A module's name as the kernel has it; files are named with `-` or `_` at whim.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

fn file_name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_after_what_it_needs() {
        let dep = "kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/lib/crc-16.ko.xz\n\
                   kernel/fs/jbd2/jbd2.ko.xz: kernel/lib/crc-16.ko.xz\n\
                   kernel/lib/crc-16.ko.xz:\n";
        let (paths, needs) = parse(dep);
        let modules = Modules {
            directory: PathBuf::new(),
            version: String::new(),
            needs,
            paths,
        };
        let mut order = Vec::new();
        modules.visit("ext4", &mut order).unwrap();
        assert_eq!(order, ["crc_16", "jbd2", "ext4"]);
    }
}
