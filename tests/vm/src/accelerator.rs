//! KVM where it works, emulation where it does not.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::Context;

/// How QEMU runs guest code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// On the processor.
    Kvm,
    /// By translation: an order of magnitude slower, otherwise the same.
    Tcg,
}

/// A kernel under KVM gets to the end of its own start in a second or two.
const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// What a kernel without a root file system says at the end of its start.
const END_OF_START: &str = "Kernel panic - not syncing: VFS";

impl Accelerator {
    /// Proves KVM by starting `kernel` under it, within a time limit: the device node may be
    /// there and guests hang all the same. The answer is kept in `cache` until the host reboots.
    pub fn probe(kernel: &Path, cache: &Path) -> anyhow::Result<Accelerator> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let answer = cache.join("accelerator");
        match fs::read_to_string(&answer) {
            Ok(text) if text == format!("kvm {boot}") => return Ok(Accelerator::Kvm),
            Ok(text) if text == format!("tcg {boot}") => return Ok(Accelerator::Tcg),
            _ => {}
        }
        let found = if Path::new("/dev/kvm").exists() && kvm_works(kernel)? {
            Accelerator::Kvm
        } else {
            Accelerator::Tcg
        };
        let word = match found {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        };
        fs::create_dir_all(cache)?;
        fs::write(&answer, format!("{word} {boot}"))?;
        Ok(found)
    }

    /// The arguments that choose it.
    pub(crate) fn arguments(self) -> [&'static str; 4] {
        match self {
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // Without the fifth level of page tables, which each look-up would walk through.
            Accelerator::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max,la57=off"],
        }
    }
}

fn kvm_works(kernel: &Path) -> anyhow::Result<bool> {
    let mut qemu = Command::new("qemu-system-x86_64")
        .args(Accelerator::Kvm.arguments())
        .args([
            "-m",
            "512M",
            "-display",
            "none",
            "-no-reboot",
            "-nodefaults",
        ])
        .args(["-serial", "stdio", "-append", "console=ttyS0 panic=-1"])
        .arg("-kernel")
        .arg(kernel)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("failed to start qemu-system-x86_64")?;
    let console = qemu.stdout.take().expect("it was piped");
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(std::io::read_to_string(console)));
    let ended = receiver.recv_timeout(PROBE_LIMIT);
    qemu.kill()?;
    qemu.wait()?;
    Ok(matches!(ended, Ok(Ok(text)) if text.contains(END_OF_START)))
}
