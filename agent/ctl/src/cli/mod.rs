//! The command line: what there is to say, and what comes of it.
//!
//! ```text
//! ashlarctl NOUN VERB …  ─ one file per noun ─ Session ─ Client ─ appliance
//!                                                 └ output: table or JSON
//! ```

mod access;
mod audit;
mod backup;
mod bulk;
mod connection;
mod disk;
mod event;
mod firmware;
mod group;
mod host;
mod identity;
mod job;
mod label;
mod output;
mod pki;
mod pool;
mod portal;
mod progress;
mod qos;
mod session;
mod snapshot;
mod support;
mod system;
mod thin;
mod transfer;
mod trust;
mod volume;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use access::Access;
use session::Session;

/// Manage an Ashlar block-storage appliance.
#[derive(Debug, Parser)]
#[command(
    name = "ashlarctl",
    version,
    propagate_version = true,
    after_help = "Objects are named by id, or by name where only one has it.\n\
        Sizes are bytes or like 512MiB, 10GiB, 1.5TiB.\n\
        Exit codes: 0 done, 1 failed, 2 not understood.\n\n\
        Example:\n  \
        export ASHLAR_ENDPOINT=box1:8443 ASHLAR_CERT=admin.pem ASHLAR_KEY=admin.key ASHLAR_CA=ca.pem\n  \
        ashlarctl disk list\n  \
        ashlarctl pool create fast --disk serial-A1 --disk serial-A2\n  \
        ashlarctl volume create db1 --pool fast --size 10GiB\n  \
        ashlarctl host create web --nqn nqn.2014-08.org.nvmexpress:uuid:8d5e…\n  \
        ashlarctl volume attach db1 web --transport nvme-tcp\n  \
        ashlarctl snapshot create before --volume db1\n  \
        ashlarctl volume create copy --from-snapshot before\n  \
        ashlarctl snapshot export before db1.img\n  \
        ashlarctl volume import copy disk.img"
)]
struct Arguments {
    #[command(flatten)]
    access: Access,
    #[command(subcommand)]
    noun: Noun,
}

#[derive(Debug, Subcommand)]
enum Noun {
    /// The box: identity, version, health
    #[command(subcommand)]
    System(system::Verb),
    /// Its firmware: which runs, and updates
    #[command(subcommand)]
    Firmware(firmware::Verb),
    /// Who the box is: its certificates, its owner
    #[command(subcommand)]
    Identity(identity::Verb),
    /// Whose clients the box lets in
    #[command(subcommand)]
    Trust(trust::Verb),
    /// Its disks
    #[command(subcommand)]
    Disk(disk::Verb),
    /// Pools: disks that give room to volumes
    #[command(subcommand)]
    Pool(pool::Verb),
    /// Volumes
    #[command(subcommand)]
    Volume(volume::Verb),
    /// Snapshots: volumes as they were at an instant
    #[command(subcommand)]
    Snapshot(snapshot::Verb),
    /// Groups: volumes whose snapshots are of one instant
    #[command(subcommand)]
    Group(group::Verb),
    /// Snapshots of all members of a group
    #[command(subcommand)]
    GroupSnapshot(group::SnapshotVerb),
    /// Portals: the addresses at which volumes are served
    #[command(subcommand)]
    Portal(portal::Verb),
    /// Hosts: who may reach volumes
    #[command(subcommand)]
    Host(host::Verb),
    /// Connections: a volume reachable by a host
    #[command(subcommand)]
    Connection(connection::Verb),
    /// Jobs: changes under way
    #[command(subcommand)]
    Job(job::Verb),
    /// Events: what happened, in order
    #[command(subcommand)]
    Event(event::Verb),
    /// The audit trail: who asked for what, and what came of it
    #[command(subcommand)]
    Audit(audit::Verb),
    /// What somebody needs who is to help with the box
    #[command(subcommand)]
    Support(support::Verb),
    /// Back a volume up into a file: all of it, or what differs from the backup before
    Backup(backup::Make),
    /// Make a new volume of a full backup and those that build upon it
    Restore(backup::Restore),
    /// Make many changes, each with an answer of its own
    Bulk(bulk::Arguments),
    /// Make a small certificate authority, certificates, and boxes' identities
    #[command(subcommand)]
    Pki(pki::Verb),
}

/// Parses the arguments and does what they say; exits with 2 when they say nothing.
pub fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(usage) = error.downcast_ref::<clap::Error>() {
                usage.exit();
            }
            eprintln!("ashlarctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { access, noun } = arguments;
    if let Noun::Pki(verb) = noun {
        return pki::run(verb);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        if let Noun::Identity(verb) = noun {
            return identity::run(access, verb).await;
        }
        let session = Session::open(access)?;
        match noun {
            Noun::System(verb) => system::run(&session, verb).await,
            Noun::Identity(_) => unreachable!("it has a session of its own"),
            Noun::Trust(verb) => trust::run(&session, verb).await,
            Noun::Firmware(verb) => firmware::run(&session, verb).await,
            Noun::Disk(verb) => disk::run(&session, verb).await,
            Noun::Pool(verb) => pool::run(&session, verb).await,
            Noun::Volume(verb) => volume::run(&session, verb).await,
            Noun::Snapshot(verb) => snapshot::run(&session, verb).await,
            Noun::Group(verb) => group::run(&session, verb).await,
            Noun::GroupSnapshot(verb) => group::run_snapshot(&session, verb).await,
            Noun::Portal(verb) => portal::run(&session, verb).await,
            Noun::Host(verb) => host::run(&session, verb).await,
            Noun::Connection(verb) => connection::run(&session, verb).await,
            Noun::Job(verb) => job::run(&session, verb).await,
            Noun::Event(verb) => event::run(&session, verb).await,
            Noun::Audit(verb) => audit::run(&session, verb).await,
            Noun::Support(verb) => support::run(&session, verb).await,
            Noun::Bulk(arguments) => bulk::run(&session, arguments).await,
            Noun::Backup(arguments) => backup::make(&session, arguments).await,
            Noun::Restore(arguments) => backup::restore(&session, arguments).await,
            Noun::Pki(verb) => pki::run(verb),
        }
    });
    // A thread may wait for a pipe that nobody writes to.
    runtime.shutdown_background();
    outcome
}

/// Arguments that each are fine but do not go together.
fn usage(text: &str) -> anyhow::Error {
    Arguments::command()
        .error(ErrorKind::ArgumentConflict, text)
        .into()
}
