//! Operations that fail, and a process that dies between two of them.

use std::fmt;

use crate::tree::Errno;

/// One operation that could change the kernel, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was done to what, secrets as `<secret>`.
    pub operation: String,
    /// The kernel's answer.
    pub outcome: Result<(), Errno>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outcome {
            Ok(()) => write!(f, "{}", self.operation),
            Err(errno) => write!(f, "{} = {errno:?}", self.operation),
        }
    }
}

/// The log, and what is to go wrong.
#[derive(Debug, Default)]
pub(super) struct Faults {
    steps: u64,
    log: Vec<Step>,
    failing: Option<(u64, Errno)>,
    matching: Vec<(String, Errno)>,
    dies_after: Option<u64>,
    stopped: bool,
}

impl Faults {
    pub(super) fn fail_step(&mut self, n: u64, errno: Errno) {
        self.failing = Some((self.steps + n, errno));
    }

    pub(super) fn fail_matching(&mut self, text: &str, errno: Errno) {
        self.matching.push((text.to_owned(), errno));
    }

    pub(super) fn stop_after(&mut self, n: u64) {
        self.dies_after = Some(self.steps + n);
        self.stopped = n == 0;
    }

    pub(super) fn stopped(&self) -> bool {
        self.stopped
    }

    pub(super) fn revive(&mut self) {
        self.failing = None;
        self.matching.clear();
        self.dies_after = None;
        self.stopped = false;
    }

    pub(super) fn take_log(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.log)
    }

    /// Whether a process is there to ask anything.
    pub(super) fn alive(&self) -> Result<(), Errno> {
        if self.stopped {
            Err(Errno::ESHUTDOWN)
        } else {
            Ok(())
        }
    }

    /// Called before a step: the error it is to fail with, if any.
    pub(super) fn before(&mut self, operation: &str) -> Result<(), Errno> {
        self.steps += 1;
        if let Some((step, errno)) = self.failing
            && step == self.steps
        {
            self.failing = None;
            return Err(errno);
        }
        let hit = |(text, _): &(String, Errno)| operation.contains(text.as_str());
        match self.matching.iter().position(hit) {
            Some(index) => Err(self.matching.remove(index).1),
            None => Ok(()),
        }
    }

    /// Called after a step, done or failed.
    pub(super) fn after(&mut self, operation: String, outcome: Result<(), Errno>) {
        self.log.push(Step { operation, outcome });
        if self.dies_after.is_some_and(|last| self.steps >= last) {
            self.stopped = true;
        }
    }
}
