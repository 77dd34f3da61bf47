//! The process that reads the image.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;

use ashlar_image_formats::{FileSource, Format, Image, ImageError};

use crate::confine::{close_others, confine};
use crate::extents::{StreamError, stream};
use crate::report::{Line, Opened};

/// What the agent asks for.
struct Arguments {
    /// Bytes of the image; what it comes from may be longer.
    length: u64,
    /// Most bytes of its disk.
    limit: u64,
    /// What it is, unless its signature is to say.
    format: Option<Format>,
}

/// All of it, from arguments to exit code: 0 when everything was handed on.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::parse(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("failed {error}");
            return ExitCode::from(2);
        }
    };
    let told = convert(&arguments);
    let line = match told {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::TooLarge(why)) => Line::TooLarge(why),
        Err(Failure::Refused(why)) => Line::Refused(why),
        Err(Failure::Failed(why)) => Line::Failed(why),
    };
    // Nobody is left to tell when that fails.
    drop(line.write(&mut io::stderr()));
    ExitCode::FAILURE
}

enum Failure {
    TooLarge(String),
    Refused(String),
    Failed(String),
}

fn convert(arguments: &Arguments) -> Result<(), Failure> {
    close_others().map_err(|error| failed("failed to close files", &error))?;
    let duplicate = |file: Result<_, io::Error>| file.map(File::from);
    let image = duplicate(io::stdin().as_fd().try_clone_to_owned());
    let image = image.map_err(|error| failed("there is no image", &error))?;
    let out = duplicate(io::stdout().as_fd().try_clone_to_owned());
    let out = out.map_err(|error| failed("there is no pipe", &error))?;
    let confinement = confine().map_err(|error| failed("failed to shut itself in", &error))?;

    let source = FileSource::new(image, arguments.length);
    let image = Image::open(source, arguments.format, arguments.limit);
    let mut image = image.map_err(|error| judge(error.into()))?;
    let opened = Line::Open(Opened {
        format: image.format(),
        size: image.size(),
        confinement,
    });
    let told = opened.write(&mut io::stderr());
    told.map_err(|error| failed("failed to say what it is", &error))?;
    stream(&mut image, out).map_err(judge)
}

fn judge(error: StreamError) -> Failure {
    match error {
        StreamError::Image(error @ ImageError::TooLarge { .. }) => {
            Failure::TooLarge(error.to_string())
        }
        StreamError::Image(error) if error.is_refusal() => Failure::Refused(error.to_string()),
        StreamError::Image(error) => failed("", &error),
        StreamError::Write(_) => failed("", &error),
    }
}

fn failed(what: &str, error: &dyn std::error::Error) -> Failure {
    let mut text = what.to_owned();
    let mut cause = Some(error);
    while let Some(error) = cause {
        let separator = if text.is_empty() { "" } else { ": " };
        text = format!("{text}{separator}{error}");
        cause = error.source();
    }
    Failure::Failed(text)
}

impl Arguments {
    fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Arguments, lexopt::Error> {
        use lexopt::prelude::*;
        let (mut length, mut limit, mut format) = (None, None, None);
        let mut parser = lexopt::Parser::from_iter(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Long("length") => length = Some(parser.value()?.parse()?),
                Long("limit") => limit = Some(parser.value()?.parse()?),
                Long("format") => format = Some(parser.value()?.parse()?),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Arguments {
            length: length.ok_or("--length is missing")?,
            limit: limit.ok_or("--limit is missing")?,
            format,
        })
    }
}
