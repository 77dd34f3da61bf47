//! Giving up everything but two pipes and the image.
//!
//! | what | how | against |
//! |------|-----|---------|
//! | other files | closed; at most five may be open | what was inherited by mistake |
//! | memory, core files, processes | resource limits | a bomb, secrets on a disk, a fork |
//! | file system, network, signals | landlock: nothing is allowed | a path that gets through |
//! | system calls | seccomp: reading and writing what is open, memory | everything else |
//!
//! Seccomp is what counts: without it nothing is read. It allows no call that names a file, a
//! socket or another process, so a kernel without landlock loses the second wall and not the
//! first; that is reported, and goes on.

use std::collections::BTreeMap;
use std::io;

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Bytes of address space: program and stack take a sixth, a conversion another.
const MEMORY: u64 = 128 << 20;

/// Standard input, output and error, and the first two once more.
const FILES: u64 = 5;

/// How far we are shut in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// By all means.
    Full,
    /// This kernel's landlock is missing, or old and knows less.
    WithoutLandlock,
}

/// Why we are not shut in.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// A resource limit.
    #[error("failed to limit {what}")]
    Limit {
        /// What of.
        what: &'static str,
        /// Why.
        #[source]
        source: nix::Error,
    },
    /// Landlock is there and refused.
    #[error("failed to shut off the file system")]
    Landlock(#[source] Box<landlock::RulesetError>),
    /// Seccomp is not there, or refused.
    #[error("failed to shut off system calls")]
    Seccomp(#[source] Box<seccompiler::Error>),
    /// No filter for this machine.
    #[error("failed to make a filter of system calls")]
    Filter(#[source] Box<seccompiler::BackendError>),
}

/// Shuts this process in, for good. From here on a forbidden call kills it.
pub fn confine() -> Result<Confinement, ConfineError> {
    let filter = filter()?;
    limit("memory", Resource::RLIMIT_AS, MEMORY)?;
    limit("core files", Resource::RLIMIT_CORE, 0)?;
    limit("written files", Resource::RLIMIT_FSIZE, 0)?;
    limit("processes", Resource::RLIMIT_NPROC, 0)?;
    let confinement = shut_off_files()?;
    limit("open files", Resource::RLIMIT_NOFILE, FILES)?;
    seccompiler::apply_filter(&filter).map_err(|why| ConfineError::Seccomp(Box::new(why)))?;
    Ok(confinement)
}

/// Closes what was inherited beyond standard input, output and error.
pub(crate) fn close_others() -> io::Result<()> {
    let (most, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // Nothing of this process is open yet, so each of these was somebody else's or is none.
    for number in 3..most.min(1 << 20) as i32 {
        let _none = nix::unistd::close(number);
    }
    Ok(())
}

fn limit(what: &'static str, resource: Resource, most: u64) -> Result<(), ConfineError> {
    let outcome = setrlimit(resource, most, most);
    outcome.map_err(|source| ConfineError::Limit { what, source })
}

/// Allows no file, no port, no signal and no abstract socket. Also gives up new privileges.
fn shut_off_files() -> Result<Confinement, ConfineError> {
    const KNOWN: ABI = ABI::V6;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(KNOWN)))
        .and_then(|rules| rules.scope(Scope::from_all(KNOWN)))
        .and_then(Ruleset::create)
        .and_then(|rules| rules.restrict_self())
        .map_err(|why| ConfineError::Landlock(Box::new(why)))?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Confinement::Full,
        RulesetStatus::PartiallyEnforced | RulesetStatus::NotEnforced => {
            Confinement::WithoutLandlock
        }
    })
}

/// Calls that a conversion makes.
const ALLOWED: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_pread64,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_write,
];

/// Calls that are allowed, three of them only in part: no memory may be executed or be a file's,
/// and of descriptors nothing but their flags is read, which checks of the standard library do.
fn filter() -> Result<BpfProgram, ConfineError> {
    let broken = |why| ConfineError::Filter(Box::new(why));
    let masked = |argument, mask: i32, value: i32| {
        let (mask, value) = (mask as u32 as u64, value as u32 as u64);
        let operator = SeccompCmpOp::MaskedEq(mask);
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
    };
    let not_executable = || masked(2, libc::PROT_EXEC, 0);
    let anonymous = || masked(3, libc::MAP_ANONYMOUS, libc::MAP_ANONYMOUS);
    let map = [not_executable(), anonymous()].into_iter();
    let map = map.collect::<Result<_, _>>().map_err(broken)?;
    let protect = vec![not_executable().map_err(broken)?];
    let flags = vec![masked(1, !0, libc::F_GETFD).map_err(broken)?];
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    let rule = |conditions| SeccompRule::new(conditions).map_err(broken);
    rules.insert(libc::SYS_mmap, vec![rule(map)?]);
    rules.insert(libc::SYS_mprotect, vec![rule(protect)?]);
    rules.insert(libc::SYS_fcntl, vec![rule(flags)?]);
    let machine = std::env::consts::ARCH.try_into().map_err(broken)?;
    let (forbidden, allowed) = (SeccompAction::KillProcess, SeccompAction::Allow);
    SeccompFilter::new(rules, forbidden, allowed, machine)
        .and_then(BpfProgram::try_from)
        .map_err(broken)
}
