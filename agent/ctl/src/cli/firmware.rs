//! `ashlarctl firmware …`

use std::path::PathBuf;

use ashlar_ctl::transfer::{self, Form, Source};
use ashlar_protocol::{ActivateSpec, Firmware, FirmwareSlot, SlotName};
use clap::Subcommand;

use super::access::Format;
use super::output::{self, Facts, or_dash};
use super::progress::Bar;
use super::session::Session;
use super::transfer::watch;
use super::volume::moment;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show which firmware runs, and which is started next
    Show,
    /// Write an update to the slot that does not run; it is started by the next restart
    Install {
        /// The bundle
        #[arg(value_name = "FILE")]
        bundle: PathBuf,
    },
    /// Choose the slot that is started next
    Activate {
        /// a or b
        slot: SlotName,
    },
}

pub async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Show => show(session, &session.client.firmware_show().await?),
        Verb::Install { bundle } => {
            let source = Source::open(&bundle, Form::Raw)?;
            let bar = Bar::start("installing");
            let done = transfer::install(&session.client, source, watch(&bar)).await?;
            drop(bar);
            output::one(session.format, &done)
        }
        Verb::Activate { slot } => {
            let spec = ActivateSpec { slot };
            let shown = async || session.client.under_new_ids().firmware_show().await;
            session
                .change(session.client.firmware_activate(&spec), shown)
                .await
        }
    }
}

fn show(session: &Session, firmware: &Firmware) -> anyhow::Result<()> {
    output::one(session.format, firmware)?;
    match session.format {
        Format::Json => Ok(()),
        Format::Table => output::many(session.format, &firmware.slots),
    }
}

impl Facts for Firmware {
    const COLUMNS: &'static [&'static str] = &["version", "running", "next"];

    fn facts(&self) -> Vec<(&'static str, String)> {
        vec![
            ("version", self.version.clone()),
            ("running", self.running.to_string()),
            ("next", self.next.to_string()),
            ("installing", self.installing.to_string()),
        ]
    }
}

impl Facts for FirmwareSlot {
    const COLUMNS: &'static [&'static str] = &["slot", "good", "version", "installed"];

    fn facts(&self) -> Vec<(&'static str, String)> {
        vec![
            ("slot", self.name.to_string()),
            ("good", self.good.to_string()),
            ("version", or_dash(self.version.as_ref())),
            ("installed", or_dash(self.installed.map(moment))),
        ]
    }
}
