//! `ashlar-agent [--config FILE | --config-if-any FILE] [--check]`
//!
//! ```text
//! configuration ── TLS files ── store ── port bound ── first lap done, or not in time ── READY
//!    SIGHUP: certificates again; live connections go on
//!    SIGTERM, SIGINT: STOPPING ── port closed ── requests finish ── store closed
//! ```

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use ashlar_agent::config::{self, Config, ConfigError};
use ashlar_agent::engine::{Engine, EngineOptions};
use ashlar_agent::http::Server;
use ashlar_agent::identity::{Identity, reset};
use ashlar_agent::{notify, telemetry};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info};

/// Longest wait for the first lap before we say that we are ready.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// How long a disk has to be gone before a spare takes its place: longer than a disk takes that was
/// only plugged in elsewhere. The protocol and docs/redundancy.md name it.
const SPARE_AFTER: Duration = Duration::from_secs(30);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What requests get to finish when we stop.
const FINISH: Duration = Duration::from_secs(3);

const USAGE: &str = "\
ashlar-agent: the management daemon of an Ashlar appliance

Usage: ashlar-agent [--config FILE | --config-if-any FILE] [--check]

  --config FILE         the configuration [default: /etc/ashlar/agent.toml]
  --config-if-any FILE  the same, and as if it were empty if it is not there
  --check               read the configuration and the certificates that it names, say what is
                        wrong, and end
  --version             print the version

ASHLAR_LOG filters what is logged, such as `debug` or `ashlar_agent=debug`.
";

fn main() -> ExitCode {
    let arguments = match Arguments::parse() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprint!("ashlar-agent: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match start(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("ashlar-agent: {failure:#}");
            ExitCode::FAILURE
        }
    }
}

struct Arguments {
    config: PathBuf,
    /// Whether it may not be there.
    if_any: bool,
    check: bool,
}

impl Arguments {
    /// `None` when all was said already.
    fn parse() -> Result<Option<Arguments>, lexopt::Error> {
        use lexopt::prelude::*;
        let mut arguments = Arguments {
            config: config::DEFAULT_PATH.into(),
            if_any: false,
            check: false,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Short('c') | Long("config") => {
                    (arguments.config, arguments.if_any) = (parser.value()?.into(), false);
                }
                Long("config-if-any") => {
                    (arguments.config, arguments.if_any) = (parser.value()?.into(), true);
                }
                Long("check") => arguments.check = true,
                Short('h') | Long("help") => {
                    print!("{USAGE}");
                    return Ok(None);
                }
                Short('V') | Long("version") => {
                    println!("ashlar-agent {}", env!("CARGO_PKG_VERSION"));
                    return Ok(None);
                }
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(arguments))
    }
}

fn start(arguments: &Arguments) -> anyhow::Result<()> {
    let config = match Config::read(&arguments.config) {
        Err(ConfigError::Read { source, .. })
            if arguments.if_any && source.kind() == ErrorKind::NotFound =>
        {
            Config::default()
        }
        config => config?,
    };
    // Of a box that keeps its own, opening them makes what is not there yet.
    if arguments.check && config.tls.is_none() {
        return Ok(());
    }
    if arguments.check {
        Identity::open(&config)?;
        return Ok(());
    }
    telemetry::init()?;
    if reset::finish(&config, reset::is_first_start()?)? {
        info!("the box is as it came from its factory");
    }
    let identity = Identity::open(&config)?;
    // One thread does the network: a management port has little to compute, and each thread
    // more has a stack and an allocator's arena to keep.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let outcome = runtime.block_on(serve(config, identity));
    if let Err(failure) = &outcome {
        error!("{failure:#}");
    }
    outcome
}

async fn serve(config: Config, identity: Identity) -> anyhow::Result<()> {
    // Before anything slow, so that no signal kills us half-way.
    let signals = Signals::install().context("failed to listen for signals")?;
    let (engine, task) = Engine::start(options(&config)).await?;
    let server = Server::bind(config.listen, identity.clone(), engine.clone()).await?;
    let address = server
        .address()
        .context("failed to ask for our own address")?;
    let (stop, stopped) = watch::channel(false);
    let mut port = tokio::spawn(server.run(stopped));

    engine.ready().await;
    notify::ready();
    info!(%address, version = env!("CARGO_PKG_VERSION"), "serving");
    let watchdog = tokio::spawn(notify::watchdog(engine));

    signals.until_stop(&identity).await;
    notify::stopping();
    info!("stopping");
    watchdog.abort();
    stop.send_replace(true);
    // What still waits for the kernel after that is told that the agent is stopping.
    let early = tokio::time::timeout(FINISH, &mut port).await;
    let ended = async {
        match early {
            Ok(ended) => ended,
            Err(_late) => port.await,
        }
    };
    task.stop_after(ended)
        .await
        .context("the management port broke")?;
    info!("stopped");
    Ok(())
}

fn options(config: &Config) -> EngineOptions {
    EngineOptions {
        state_dir: config.state_dir.clone(),
        targetd_socket: config.targetd_socket.clone(),
        convert: config.convert.clone(),
        firmware: config.firmware.clone(),
        support: config.support(),
        name: config.box_name(),
        listens: config.listens(),
        ready_within: READY_WITHIN,
        spare_after: SPARE_AFTER,
        scrub_day: DAY,
    }
}

/// The signals we answer to.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> std::io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Reloads on each SIGHUP and returns on SIGTERM or SIGINT.
    async fn until_stop(mut self, identity: &Identity) {
        loop {
            // Signals are kept until they are received, so dropping the others loses none.
            tokio::select! {
                _ = self.hangup.recv() => reload(identity),
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
            }
        }
    }
}

fn reload(identity: &Identity) {
    notify::reloading();
    match identity.reload() {
        Ok(()) => info!("certificates reloaded"),
        Err(failure) => {
            let failure = anyhow::Error::from(failure);
            error!("kept the old certificates: {failure:#}");
        }
    }
    notify::ready();
}
