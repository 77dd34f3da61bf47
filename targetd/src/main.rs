//! `ashlar-targetd`: carries out what the agent wants of the kernel.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use ashlar_targetd::server::{AllowedPeers, Server, SocketOptions, activated, bind};
use ashlar_targetd::{Kernel, Targetd};
use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Group, Uid, User};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The privileged daemon of Ashlar: the only process that writes kernel state.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Where to listen, unless the service manager passes a socket.
    #[arg(long, default_value = "/run/ashlar/targetd.sock")]
    socket: PathBuf,
    /// Group whose members may reach the socket.
    #[arg(long)]
    socket_group: Option<String>,
    /// User the agent runs as, by name or number; it and root are served.
    #[arg(long, default_value = "ashlar")]
    agent_user: String,
    /// Directory where the kernel keeps persistent reservations.
    #[arg(long, default_value = "/var/lib/ashlar/target")]
    dbroot: PathBuf,
}

fn main() -> ExitCode {
    let options = Options::parse();
    start_logging();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    // Before any thread is made, so that all of them leave these signals to this one.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;

    let allowed = AllowedPeers {
        agent: user(&options.agent_user)?,
    };
    let listener = match activated()? {
        Some(listener) => listener,
        None => bind(&SocketOptions {
            path: options.socket.clone(),
            group: options.socket_group.as_deref().map(group).transpose()?,
        })?,
    };
    let targetd = Targetd::start(Kernel::running()?, &options.dbroot)?;
    let server = Server::spawn(Arc::new(targetd), listener, allowed)?;
    tell(sd_notify::NotifyState::Ready);
    tracing::info!("ready");
    let signal = signals.wait()?;
    tracing::info!(%signal, "stopping; what is exported stays so");
    tell(sd_notify::NotifyState::Stopping);
    server.stop();
    Ok(())
}

/// To the journal where there is one, else to standard error. `ASHLAR_LOG` is the least level:
/// `error`, `warn`, `info` (the default), `debug` or `trace`.
fn start_logging() {
    let level = std::env::var("ASHLAR_LOG").ok();
    let level = level.and_then(|level| level.parse().ok());
    let registry = tracing_subscriber::registry().with(level.unwrap_or(LevelFilter::INFO));
    let journal = std::env::var_os("JOURNAL_STREAM")
        .and_then(|_| tracing_journald::layer().ok())
        .map(|layer| layer.with_field_prefix(None));
    match journal {
        Some(layer) => registry.with(layer).init(),
        None => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_ansi(io::stderr().is_terminal())
                    .with_writer(io::stderr),
            )
            .init(),
    }
}

/// A service manager that does not listen is no reason not to serve.
fn tell(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "failed to notify the service manager");
    }
}

fn user(name: &str) -> Result<Uid, Box<dyn std::error::Error>> {
    if let Ok(number) = name.parse() {
        return Ok(Uid::from_raw(number));
    }
    let user = User::from_name(name)?;
    Ok(user.ok_or_else(|| format!("there is no user {name}"))?.uid)
}

fn group(name: &str) -> Result<nix::unistd::Gid, Box<dyn std::error::Error>> {
    let group = Group::from_name(name)?;
    Ok(group
        .ok_or_else(|| format!("there is no group {name}"))?
        .gid)
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}
