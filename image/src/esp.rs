//! What is on the ESP of a new box.
//!
//! ```text
//!  EFI/BOOT/BOOTX64.EFI        systemd-boot, where any UEFI machine looks
//!  EFI/Linux/ashlar-2-a+3.efi  kernel image of slot a
//!  EFI/Linux/ashlar-1-b+3.efi  kernel image of slot b
//!  loader/loader.conf
//! ```

use std::fs;
use std::path::Path;

use crate::BuildError;
use crate::boot::Boot;
use crate::slot::Slot;
use crate::tools::Tools;
use crate::uki::{self, SigningKey, uki};

/// No menu, not even for a key held down, nobody at the console edits the command line, nothing but
/// the slots is started, and no certificates are taken over from the ESP. No default, which the
/// loader would stick to even with no tries left.
pub(crate) const LOADER_CONF: &str = "timeout menu-disabled\neditor no\nauto-entries no\nauto-firmware no\n\
                      secure-boot-enroll off\n";

/// What goes onto the ESP.
pub(crate) struct Esp<'a> {
    pub tools: &'a Tools,
    pub boot: &'a Boot,
    pub version: &'a str,
    pub signing: Option<&'a SigningKey>,
}

impl Esp<'_> {
    /// Fills a directory. `cmdline` is the kernel's in each slot.
    pub(crate) fn fill(
        &self,
        directory: &Path,
        cmdline: impl Fn(Slot) -> String,
    ) -> Result<(), BuildError> {
        for place in ["EFI/BOOT", "EFI/Linux", "loader"] {
            let place = directory.join(place);
            fs::create_dir_all(&place).map_err(BuildError::io("create", &place))?;
        }
        let conf = directory.join("loader/loader.conf");
        fs::write(&conf, LOADER_CONF).map_err(BuildError::io("write", &conf))?;
        self.loader(&directory.join("EFI/BOOT/BOOTX64.EFI"))?;
        for slot in Slot::ALL {
            let out = directory.join("EFI/Linux").join(slot.entry());
            self.kernel(slot, &cmdline(slot), &out)?;
        }
        Ok(())
    }

    /// Makes the kernel image of a slot.
    pub(crate) fn kernel(&self, slot: Slot, cmdline: &str, out: &Path) -> Result<(), BuildError> {
        uki(
            self.tools,
            self.boot,
            slot,
            self.version,
            cmdline,
            self.signing,
            out,
        )
    }

    fn loader(&self, out: &Path) -> Result<(), BuildError> {
        let loader = &self.boot.loader;
        match self.signing {
            Some(signing) => uki::sign(self.tools, signing, loader, out),
            None => fs::copy(loader, out)
                .map(drop)
                .map_err(BuildError::io("copy", loader)),
        }
    }
}
