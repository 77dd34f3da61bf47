//! A root shell in a guest, for tests, over a virtio-serial port.
//!
//! The initiator has it built in. The appliance has not, nor anything else to log in by: there it
//! is a unit that the service manager takes from the machine's SMBIOS tables. That works only
//! when the test gives the kernel its command line: the one on the appliance's own disk turns such
//! units off. It is no defence against whoever controls the machine's firmware tables, who can
//! also have the boot loader lengthen that command line.
//!
//! A request is one line, a base64 encoded shell command. Its answer is one line: the exit status,
//! base64 of what it printed, base64 of its complaints, separated by single spaces. The latter
//! two may be empty. One command runs at a time, with its input empty.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The name of the virtio-serial port.
pub const SHELL_PORT: &str = "org.ashlar.shell";

/// The script that serves the port.
pub(crate) const SHELL: &str = include_str!("../shell/serve");

const UNIT: &str = "ashlar-test-shell.service";

/// What to add to the appliance's kernel command line for the unit to be started.
pub const TEST_SHELL_CMDLINE: &str = "systemd.wants=ashlar-test-shell.service";

/// Arguments for QEMU that give an appliance the unit. The port itself is the caller's to add:
/// a `virtio-serial` device, and a `virtserialport` named [`SHELL_PORT`].
pub fn test_shell_qemu_args() -> Vec<String> {
    let unit = STANDARD.encode(unit());
    vec![
        "-smbios".into(),
        format!("type=11,value=io.systemd.credential.binary:systemd.extra-unit.{UNIT}={unit}"),
    ]
}

fn unit() -> String {
    let script = STANDARD.encode(SHELL);
    format!(
        "[Unit]\nDescription=Root shell for tests\n[Service]\nOOMScoreAdjust=-1000\n\
         ExecStart=/bin/sh -c \"echo {script} | base64 -d >/run/{UNIT} && exec sh /run/{UNIT}\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_holds_nothing_that_qemu_or_systemd_reads_as_its_own() {
        let arguments = test_shell_qemu_args();
        let (_, value) = arguments[1].split_once("value=").unwrap();
        assert!(!value.contains([',', ' ', '\n']), "{value}");
        assert!(!unit().contains(['%', '$']), "{}", unit());
        assert!(TEST_SHELL_CMDLINE.ends_with(UNIT));
    }
}
