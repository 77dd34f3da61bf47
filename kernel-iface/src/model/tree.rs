//! The model as a tree: each call one operation on the state, with its faults and its log.

use zeroize::Zeroizing;

use super::{ModelKernel, ModelState};
use crate::tree::{Entry, Errno, Operation, Tree, TreeError, TreePath};

impl ModelKernel {
    fn step(
        &self,
        operation: Operation,
        path: &TreePath,
        change: impl FnOnce(&mut ModelState) -> Result<(), Errno>,
    ) -> Result<(), TreeError> {
        let line = log_line(&operation, path);
        let outcome = self.perform(line, change);
        outcome.map_err(|errno| TreeError::refused(operation, path, errno))
    }

    fn look_at<T>(
        &self,
        operation: Operation,
        path: &TreePath,
        look: impl FnOnce(&ModelState) -> Result<T, Errno>,
    ) -> Result<T, TreeError> {
        let outcome = self.look(look);
        outcome.map_err(|errno| TreeError::refused(operation, path, errno))
    }
}

fn log_line(operation: &Operation, path: &TreePath) -> String {
    match operation {
        Operation::Write(value) => format!("write {path} {value:?}"),
        Operation::WriteSecret => format!("write {path} <secret>"),
        Operation::MakeDir => format!("mkdir {path}"),
        Operation::RemoveDir => format!("rmdir {path}"),
        Operation::Link(target) => format!("link {path} {target}"),
        Operation::Unlink => format!("unlink {path}"),
        Operation::Read | Operation::ReadLink | Operation::List | Operation::Exists => {
            format!("{operation} {path}")
        }
    }
}

impl Tree for ModelKernel {
    fn read(&self, path: &TreePath) -> Result<String, TreeError> {
        self.look_at(Operation::Read, path, |state| {
            let throttle = state.read_throttle(path);
            let text = throttle.unwrap_or_else(|| state.read_attribute(path))?;
            Ok(text.trim_end().to_owned())
        })
    }

    fn read_secret(&self, path: &TreePath) -> Result<Zeroizing<String>, TreeError> {
        self.read(path).map(Zeroizing::new)
    }

    fn write(&self, path: &TreePath, value: &str) -> Result<(), TreeError> {
        self.step(Operation::Write(value.to_owned()), path, |state| {
            let throttle = state.write_throttle(path, value);
            throttle.unwrap_or_else(|| state.write_attribute(path, value))
        })
    }

    fn write_secret(&self, path: &TreePath, value: &str) -> Result<(), TreeError> {
        self.step(Operation::WriteSecret, path, |state| {
            state.write_attribute(path, value)
        })
    }

    fn make_dir(&self, path: &TreePath) -> Result<(), TreeError> {
        self.step(Operation::MakeDir, path, |state| state.make_dir(path))
    }

    fn remove_dir(&self, path: &TreePath) -> Result<(), TreeError> {
        self.step(Operation::RemoveDir, path, |state| state.remove_dir(path))
    }

    fn link(&self, path: &TreePath, target: &TreePath) -> Result<(), TreeError> {
        self.step(Operation::Link(target.clone()), path, |state| {
            state.make_link(path, target)
        })
    }

    fn unlink(&self, path: &TreePath) -> Result<(), TreeError> {
        self.step(Operation::Unlink, path, |state| state.remove_link(path))
    }

    fn read_link(&self, path: &TreePath) -> Result<TreePath, TreeError> {
        let target = self.look_at(Operation::ReadLink, path, |state| state.follow_link(path))?;
        TreePath::try_from(target.as_str())
            .map_err(|_| TreeError::unexpected(path, &target, "a path of this tree"))
    }

    fn list(&self, path: &TreePath) -> Result<Vec<Entry>, TreeError> {
        self.look_at(Operation::List, path, |state| state.list_directory(path))
    }

    fn exists(&self, path: &TreePath) -> Result<bool, TreeError> {
        self.look_at(Operation::Exists, path, |state| {
            let throttle = state.throttle_is_there(path);
            Ok(throttle.unwrap_or_else(|| state.is_there(path)))
        })
    }
}
