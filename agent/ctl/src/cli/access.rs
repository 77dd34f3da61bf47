//! How to reach the appliance, as whom, and how to answer.

use std::path::PathBuf;

use ashlar_ctl::Endpoint;
use clap::{Args, ValueEnum};
use uuid::Uuid;

#[derive(Debug, Args)]
pub struct Access {
    /// The appliance: HOST, HOST:PORT; the port is 8443 unless said
    #[arg(
        short,
        long,
        global = true,
        env = "ASHLAR_ENDPOINT",
        hide_env_values = true
    )]
    pub endpoint: Option<Endpoint>,
    /// Our certificate, PEM
    #[arg(
        long,
        global = true,
        env = "ASHLAR_CERT",
        value_name = "FILE",
        hide_env_values = true
    )]
    pub cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(
        long,
        global = true,
        env = "ASHLAR_KEY",
        value_name = "FILE",
        hide_env_values = true
    )]
    pub key: Option<PathBuf>,
    /// The authority that appliances' certificates come from, PEM
    #[arg(
        long,
        global = true,
        env = "ASHLAR_CA",
        value_name = "FILE",
        hide_env_values = true
    )]
    pub ca: Option<PathBuf>,
    /// Tables for people, JSON for scripts
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Do not wait for a change to be in the kernel: print its job
    #[arg(long, global = true)]
    pub no_wait: bool,
    /// Give up waiting for a change after so long; it goes on without us
    #[arg(long, global = true, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Make the request under this id: repeated with the same arguments, it is done once. An
    /// object that it creates has the same id unless --id says another
    #[arg(long, global = true, value_name = "UUID")]
    pub request_id: Option<Uuid>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}
