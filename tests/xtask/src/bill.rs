//! The bill of materials of an image, held to its format by those who made that.

use std::path::Path;
use std::process::Command;

use crate::build::{check as succeed, root, target};
use crate::python::environment;

/// What checks it, with its version.
const REQUIREMENTS: &str = "image/requirements.txt";

/// Says what does not fit, if anything does not.
const VALIDATE: &str = "\
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
with open(sys.argv[1]) as bill:
    error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(bill.read())
sys.exit(f'{sys.argv[1]}: {error}' if error else 0)
";

/// Refuses one that is not what its schema says.
pub fn check(bill: &Path) -> anyhow::Result<()> {
    let what = "what bills of materials are checked with";
    let place = target().join("bill");
    let python = environment(&root().join(REQUIREMENTS), &place, what)?;
    succeed(Command::new(python).args(["-c", VALIDATE]).arg(bill))
}
