//! Disks, and QEMU's tools to put them into images.

#![allow(dead_code, reason = "each test uses some of it")]

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// Where images of one test go.
pub fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Runs `qemu-img` with options and files.
pub fn qemu_img(options: &[&str], files: &[&Path]) {
    run(Command::new("qemu-img").args(options).args(files));
}

/// Lets `qemu-io` change a qcow2.
pub fn qemu_io(image: &Path, commands: &[&str]) {
    qemu_io_of("qcow2", image, commands);
}

/// Lets `qemu-io` change an image of any format.
pub fn qemu_io_of(format: &str, image: &Path, commands: &[&str]) {
    let commands = commands.iter().flat_map(|command| ["-c", command]);
    run(Command::new("qemu-io")
        .args(["-d", "unmap", "-f", format])
        .args(commands)
        .arg(image));
}

fn run(command: &mut Command) {
    let output = command.output().expect("QEMU's tools are installed");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A disk with text, noise, zeros and nothing, in stretches that do and do not fit clusters.
pub fn disk(size: usize) -> Vec<u8> {
    let mut disk = vec![0; size];
    let (mut at, mut state) = (0, 0x9e37_79b9_u32);
    while at < size {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = 512 * (1 + (state >> 8) as usize % 700);
        let end = (at + length).min(size);
        match state >> 28 & 3 {
            0 => fill_text(&mut disk[at..end], state),
            1 => fill_noise(&mut disk[at..end], state),
            _ => {}
        }
        at = end;
    }
    // The disk ends with data, so that a cluster that is not whole is tried.
    let tail = size.saturating_sub(700);
    fill_noise(&mut disk[tail..], 77);
    disk
}

fn fill_text(part: &mut [u8], seed: u32) {
    let words = format!("every good boy deserves fudge {seed} ");
    let text = words.bytes().cycle();
    part.iter_mut().zip(text).for_each(|(to, from)| *to = from);
}

fn fill_noise(part: &mut [u8], mut state: u32) {
    for byte in part {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        *byte = state as u8;
    }
}
