//! An appliance on the model kernel for tests in other languages.
//!
//! Boots one, says on one line of JSON where it is, and then takes a command on each line of its
//! standard input, answering each with a line: `kill-agent`, `kill-targetd` or `power-cut`, with
//! `done`; `kernel`, with what the kernel has, as JSON. It ends with its standard input.

use std::io::{BufRead, Write};

use anyhow::{Context, bail};
use ashlar_tests::model::Model;
use ashlar_tests::runner::Appliance;
use ashlar_tests::scenario::Accident;
use serde_json::json;

/// Its ports on Fibre Channel.
const FC_PORTS: [&str; 2] = ["20000025b5aa0c1f", "20000025b5aa0c2f"];

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut model = Model::boot_with(&FC_PORTS.map(|port| port.parse().expect("a port")))?;
    let own = std::env::current_exe()?;
    let convert = own.with_file_name("convert");
    if !convert.is_file() {
        bail!("{} is missing", convert.display());
    }
    model.convert_with(&convert)?;
    say(&json!({
        "endpoint": model.address().to_string(),
        "pki": model.pki().display().to_string(),
    })
    .to_string())?;
    // Nothing else is to be done meanwhile: the appliance has threads of its own.
    for line in std::io::stdin().lock().lines() {
        let answer = obey(&mut model, line?.trim()).await?;
        say(&answer)?;
    }
    Ok(())
}

async fn obey(model: &mut Model, command: &str) -> anyhow::Result<String> {
    let accident = match command {
        "kernel" => return Ok(json!(model.kernel().await?).to_string()),
        "kill-agent" => Accident::KillAgent,
        "kill-targetd" => Accident::KillTargetd,
        "power-cut" => Accident::PowerCut,
        "lose-store" => Accident::LoseStore,
        other => bail!("there is no command {other:?}"),
    };
    model.accident(accident).await?;
    Ok("done".to_owned())
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").context("failed to answer")?;
    out.flush().context("failed to answer")
}
