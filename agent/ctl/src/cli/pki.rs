//! `ashlarctl pki …`

use std::path::PathBuf;

use super::usage;
use ashlar_ctl::pki::{Directory, Paths, Profile, Validity};
use ashlar_protocol::Role;
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
        profile: ProfileArguments,
        /// A server's DNS name or IP address; may be given several times
        #[arg(
            long,
            value_name = "NAME",
            requires = "server",
            required_if_eq("server", "true")
        )]
        san: Vec<String>,
        #[command(flatten)]
        validity: ValidityArguments,
        /// Replace NAME's certificate and key
        #[arg(long)]
        overwrite: bool,
    },
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
    let paths = match verb {
        Verb::Init {
            dir,
            name,
            validity,
            overwrite,
        } => Directory::at(dir)
            .overwriting(overwrite)
            .init(&name, validity.or_days(3650))?,
        Verb::Issue {
            dir,
            name,
            profile,
            san,
            validity,
            overwrite,
        } => {
            let profile = match profile.role {
                Some(_) if !san.is_empty() => {
                    return Err(usage("--san is for a server; a client has no names"));
                }
                None if san.is_empty() => {
                    return Err(usage("--server needs at least one --san"));
                }
                Some(role) => Profile::Client { role: Some(role) },
                None => Profile::Server { names: san },
            };
            Directory::at(dir).overwriting(overwrite).issue(
                &name,
                &profile,
                validity.or_days(365),
            )?
        }
    };
    print(&paths);
    Ok(())
}

fn print(paths: &Paths) {
    println!("certificate  {}", paths.certificate.display());
    println!("key          {}", paths.key.display());
}
