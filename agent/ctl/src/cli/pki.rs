//! `ashlarctl pki …`

use std::path::PathBuf;

use super::usage;
use ashlar_ctl::pki::{
    Device, Directory, Paths, Profile, Request, Token, Validity, claim_secret, write_certificate,
};
use ashlar_protocol::{Role, Serial};
use clap::{Args, Subcommand};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make an authority: DIR/ca.pem and DIR/ca.key
    Init {
        /// Where to put it; made when it is not there
        dir: PathBuf,
        /// The authority's common name
        #[arg(long, default_value = "Ashlar lab CA")]
        name: String,
        #[command(flatten)]
        validity: ValidityArguments,
        /// Replace what is there; everything issued before becomes worthless
        #[arg(long)]
        overwrite: bool,
    },
    /// Issue a certificate: DIR/NAME.pem and DIR/NAME.key
    #[command(after_help = "Examples:\n  \
        ashlarctl pki issue lab alice --role operator\n  \
        ashlarctl pki issue lab box1 --server --san box1.example --san 192.0.2.7")]
    Issue {
        /// The authority's directory
        dir: PathBuf,
        /// Whose certificate: its file name and its common name
        name: String,
        #[command(flatten)]
        purpose: Purpose,
        #[command(flatten)]
        validity: ValidityArguments,
        /// Replace NAME's certificate and key
        #[arg(long)]
        overwrite: bool,
    },
    /// Sign a certificate for the key of a request; what else the request asks for is ignored
    #[command(after_help = "Example:\n  \
        ashlarctl pki sign lab box1 --request box1.csr --server --san box1.example --out box1.pem")]
    Sign {
        /// The authority's directory
        dir: PathBuf,
        /// Whose certificate: its common name
        name: String,
        /// The request (PKCS #10, PEM)
        #[arg(long, value_name = "FILE")]
        request: PathBuf,
        #[command(flatten)]
        purpose: Purpose,
        #[command(flatten)]
        validity: ValidityArguments,
        #[command(flatten)]
        out: Out,
    },
    /// Sign the identity that a box keeps for life, where it is made
    SignDevice {
        /// The directory of the authority of the factory
        dir: PathBuf,
        #[command(flatten)]
        proof: Proof,
        #[command(flatten)]
        out: Out,
    },
    /// Check what `sign-device` checks, for an authority that is kept elsewhere
    CheckDevice {
        #[command(flatten)]
        proof: Proof,
    },
    /// Make a secret by which a box can be claimed, and print it
    ClaimSecret,
}

/// What a certificate is for.
#[derive(Debug, Args)]
pub struct Purpose {
    #[command(flatten)]
    profile: ProfileArguments,
    /// A server's DNS name or IP address; may be given several times
    #[arg(
        long,
        value_name = "NAME",
        requires = "server",
        required_if_eq("server", "true")
    )]
    san: Vec<String>,
}

impl Purpose {
    fn profile(self) -> anyhow::Result<Profile> {
        match self.profile.role {
            Some(_) if !self.san.is_empty() => {
                Err(usage("--san is for a server; a client has no names"))
            }
            None if self.san.is_empty() => Err(usage("--server needs at least one --san")),
            Some(role) => Ok(Profile::Client { role: Some(role) }),
            None => Ok(Profile::Server { names: self.san }),
        }
    }
}

/// What shows that a key is a box's own.
#[derive(Debug, Args)]
pub struct Proof {
    /// The box's serial number
    #[arg(long)]
    serial: Serial,
    /// Its request, from `identity request`
    #[arg(long, value_name = "FILE")]
    request: PathBuf,
    /// The token that it was flashed with, 64 hex digits
    #[arg(long, value_name = "FILE")]
    token: PathBuf,
    /// What `identity show` has as proof that the box made the key
    #[arg(long, value_name = "HEX")]
    proof: String,
}

impl Proof {
    fn device(self) -> anyhow::Result<Device> {
        let request = Request::read(&self.request)?;
        let token = Token::read(&self.token)?;
        Ok(Device::proven(self.serial, request, &token, &self.proof)?)
    }
}

/// Where a certificate goes.
#[derive(Debug, Args)]
pub struct Out {
    /// Where to put the certificate, replacing what is there [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Out {
    fn give(self, certificate: &str) -> anyhow::Result<()> {
        match self.out {
            Some(path) => write_certificate(&path, certificate)?,
            None => print!("{certificate}"),
        }
        Ok(())
    }
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ProfileArguments {
    /// A client that may do what this role may: reader, operator or admin
    #[arg(long)]
    role: Option<Role>,
    /// An appliance
    #[arg(long)]
    server: bool,
}

#[derive(Debug, Args)]
pub struct ValidityArguments {
    /// Good for so many days from now [default: 3650 for an authority, else 365]
    #[arg(long, value_name = "N", conflicts_with = "not_after")]
    days: Option<u32>,
    /// Good until this moment, such as 2027-01-31T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    not_after: Option<OffsetDateTime>,
}

impl ValidityArguments {
    fn or_days(&self, default: u32) -> Validity {
        match self.not_after {
            Some(not_after) => Validity::until(not_after),
            None => Validity::days(self.days.unwrap_or(default)),
        }
    }
}

fn moment(text: &str) -> Result<OffsetDateTime, time::error::Parse> {
    OffsetDateTime::parse(text, &Rfc3339)
}

pub fn run(verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Init {
            dir,
            name,
            validity,
            overwrite,
        } => {
            let dir = Directory::at(dir).overwriting(overwrite);
            print(&dir.init(&name, validity.or_days(3650))?);
        }
        Verb::Issue {
            dir,
            name,
            purpose,
            validity,
            overwrite,
        } => {
            let dir = Directory::at(dir).overwriting(overwrite);
            print(&dir.issue(&name, &purpose.profile()?, validity.or_days(365))?);
        }
        Verb::Sign {
            dir,
            name,
            request,
            purpose,
            validity,
            out,
        } => {
            let profile = purpose.profile()?;
            let request = Request::read(&request)?;
            let validity = validity.or_days(365);
            out.give(&Directory::at(dir).sign(&name, &request, &profile, validity)?)?;
        }
        Verb::SignDevice { dir, proof, out } => {
            out.give(&Directory::at(dir).sign_device(&proof.device()?)?)?;
        }
        Verb::CheckDevice { proof } => drop(proof.device()?),
        Verb::ClaimSecret => println!("{}", *claim_secret()?),
    }
    Ok(())
}

fn print(paths: &Paths) {
    println!("certificate  {}", paths.certificate.display());
    println!("key          {}", paths.key.display());
}
