//! Runs a tool and tells what it complained about.

use std::process::{Command, Stdio};

use crate::BuildError;

/// Bytes of a tool's complaint that are worth repeating: the end says what went wrong.
const COMPLAINT: usize = 2000;

/// Runs a tool to its end and returns what it printed.
pub(crate) fn run(command: &mut Command) -> Result<Vec<u8>, BuildError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| BuildError::Start {
            program: program.clone(),
            source,
        })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(BuildError::Tool {
        program,
        status: output.status,
        complaint: tail(&output.stderr),
    })
}

fn tail(text: &[u8]) -> String {
    let start = text.len().saturating_sub(COMPLAINT);
    String::from_utf8_lossy(&text[start..]).trim().to_owned()
}
