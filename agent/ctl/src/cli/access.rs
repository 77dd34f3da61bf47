//! How to reach the appliance, as whom, and how to answer.

use std::path::PathBuf;

use ashlar_ctl::{Endpoint, Identity};
use clap::{Args, ValueEnum};
use rustls_pki_types::ServerName;
use uuid::Uuid;

use super::usage;

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
    /// The name in the appliance's certificate, if it is not the one in --endpoint
    #[arg(
        long,
        global = true,
        env = "ASHLAR_SERVER_NAME",
        value_name = "NAME",
        value_parser = server_name,
        hide_env_values = true
    )]
    pub server_name: Option<ServerName<'static>>,
    /// What a box that is being made was given with its image, instead of --ca
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "ca")]
    pub token: Option<PathBuf>,
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

fn server_name(name: &str) -> Result<ServerName<'static>, &'static str> {
    ServerName::try_from(name.to_owned()).map_err(|_| "it is no DNS name or IP address")
}

impl Access {
    /// The appliance, and what its certificate must be for.
    pub fn endpoint(&self) -> anyhow::Result<Endpoint> {
        let endpoint = self.endpoint.clone();
        let endpoint =
            endpoint.ok_or_else(|| usage("which appliance? --endpoint or ASHLAR_ENDPOINT"))?;
        Ok(match &self.server_name {
            Some(name) => endpoint.known_as(name),
            None => endpoint,
        })
    }

    /// Who we are.
    pub fn identity(&self) -> anyhow::Result<Identity> {
        let file = |path: &Option<PathBuf>, hint| path.clone().ok_or_else(|| usage(hint));
        let certificate = file(&self.cert, "as whom? --cert or ASHLAR_CERT")?;
        let key = file(&self.key, "with which key? --key or ASHLAR_KEY")?;
        if let Some(token) = &self.token {
            return Ok(Identity::of_station(&certificate, &key, token)?);
        }
        let authority = file(&self.ca, "trusting whom? --ca or ASHLAR_CA")?;
        Ok(Identity::from_files(&certificate, &key, &authority)?)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}
