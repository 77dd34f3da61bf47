//! Recorded operations: what the real kernel answered, to hold the model to it.
//!
//! A script is a text file of one operation a line, each with the answer that a real kernel
//! gave:
//!
//! ```text
//! let TPG target/iscsi/iqn.2026-11.io.ashlar:t/tpgt_1
//! mkdir $TPG = ok
//! write $TPG/enable "2" = EINVAL
//! read $TPG/enable = "0"
//! link $TPG/lun/lun_0/disk target/core/iblock_0/a = ENODEV
//! list $TPG/np = 10.0.0.1:3260/
//! read target/core/iblock_0/a/info = ~"DEACTIVATED"
//! ```
//!
//! `= ok`, an errno, the value that was read, the entries that were listed (`/` after a
//! directory, `@` after a link, `(nothing)`) or where a link led. `~"…"` is a part of the value,
//! for values that hold more than the rule. The program `kernel-conformance` runs scripts on the running kernel, checking or
//! recording; the test of the same name runs them on the model.

use std::collections::BTreeMap;
use std::fmt;

use crate::tree::{EntryKind, Tree, TreeError, TreePath};

/// A script that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ScriptError {
    /// The number of the line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// One thing to do to a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Operation {
    MakeDir,
    RemoveDir,
    Link(TreePath),
    Unlink,
    Write(String),
    Read,
    ReadLink,
    List,
    Exists,
}

/// One line of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Line {
    /// Kept as it is: empty lines, comments, definitions.
    Other(String),
    Operation {
        /// The line up to the answer, as it was written.
        text: String,
        path: TreePath,
        operation: Operation,
        recorded: Option<String>,
    },
}

/// Operations and what they answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    lines: Vec<Line>,
}

/// An operation that answered otherwise than recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The number of the line, from 1.
    pub line: usize,
    /// The operation as written.
    pub operation: String,
    /// The recorded answer; empty if none was.
    pub recorded: String,
    /// The answer given.
    pub answer: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "line {}: {}", self.line, self.operation)?;
        writeln!(f, "  recorded: {}", self.recorded)?;
        write!(f, "  answered: {}", self.answer)
    }
}

impl Script {
    /// Reads a script.
    pub fn parse(text: &str) -> Result<Script, ScriptError> {
        let mut names = BTreeMap::new();
        let mut lines = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let parsed = Line::parse(line, &mut names);
            lines.push(parsed.map_err(|reason| ScriptError {
                line: index + 1,
                reason,
            })?);
        }
        Ok(Script { lines })
    }

    /// How many operations it has.
    pub fn operations(&self) -> usize {
        let operation = |line: &&Line| matches!(line, Line::Operation { .. });
        self.lines.iter().filter(operation).count()
    }

    /// Performs every operation, in order, and answers those that went otherwise than recorded.
    pub fn check(&self, tree: &dyn Tree) -> Vec<Mismatch> {
        let mut mismatches = Vec::new();
        for (index, line) in self.lines.iter().enumerate() {
            let Line::Operation {
                text,
                path,
                operation,
                recorded,
            } = line
            else {
                continue;
            };
            let answer = operation.perform(tree, path);
            let recorded = recorded.clone().unwrap_or_default();
            if !agrees(&recorded, &answer) {
                mismatches.push(Mismatch {
                    line: index + 1,
                    operation: text.clone(),
                    recorded,
                    answer,
                });
            }
        }
        mismatches
    }

    /// Performs every operation, in order, and answers the script with what they answered.
    pub fn record(&self, tree: &dyn Tree) -> String {
        let mut text = String::new();
        for line in &self.lines {
            match line {
                Line::Other(other) => text.push_str(other),
                Line::Operation {
                    text: written,
                    path,
                    operation,
                    recorded,
                } => {
                    let answer = operation.perform(tree, path);
                    let kept = recorded.as_ref().filter(|kept| agrees(kept, &answer));
                    text.push_str(&format!("{written} = {}", kept.unwrap_or(&answer)));
                }
            }
            text.push('\n');
        }
        text
    }
}

impl Line {
    fn parse(line: &str, names: &mut BTreeMap<String, String>) -> Result<Line, String> {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            return Ok(Line::Other(line.to_owned()));
        }
        let (text, recorded) = match trimmed.split_once(" = ") {
            Some((text, recorded)) => (text.trim_end(), Some(recorded.trim().to_owned())),
            None => (trimmed, None),
        };
        let mut words = text.splitn(3, ' ');
        let verb = words.next().unwrap_or_default();
        let first = words.next().ok_or("a path follows the operation")?;
        let rest = words.next();
        if verb == "let" {
            let value = rest.ok_or("a path follows the name")?;
            names.insert(first.to_owned(), substitute(value, names)?);
            return Ok(Line::Other(line.to_owned()));
        }
        Ok(Line::Operation {
            text: text.to_owned(),
            path: path(first, names)?,
            operation: Operation::parse(verb, rest, names)?,
            recorded,
        })
    }
}

impl Operation {
    fn parse(
        verb: &str,
        rest: Option<&str>,
        names: &BTreeMap<String, String>,
    ) -> Result<Operation, String> {
        let alone = |operation| match rest {
            None => Ok(operation),
            Some(rest) => Err(format!("{verb} takes no {rest:?}")),
        };
        match verb {
            "mkdir" => alone(Operation::MakeDir),
            "rmdir" => alone(Operation::RemoveDir),
            "unlink" => alone(Operation::Unlink),
            "read" => alone(Operation::Read),
            "readlink" => alone(Operation::ReadLink),
            "list" => alone(Operation::List),
            "exists" => alone(Operation::Exists),
            "link" => {
                let target = rest.ok_or("link takes a target")?;
                path(target, names).map(Operation::Link)
            }
            "write" => {
                let value = rest.ok_or("write takes a value")?;
                unquote(value).map(Operation::Write)
            }
            _ => Err(format!("{verb:?} is no operation")),
        }
    }

    /// Does it, and answers as a script writes it.
    fn perform(&self, tree: &dyn Tree, path: &TreePath) -> String {
        let done = |outcome: Result<(), TreeError>| outcome.map(|()| "ok".to_owned());
        let answer = match self {
            Operation::MakeDir => done(tree.make_dir(path)),
            Operation::RemoveDir => done(tree.remove_dir(path)),
            Operation::Link(target) => done(tree.link(path, target)),
            Operation::Unlink => done(tree.unlink(path)),
            Operation::Write(value) => done(tree.write(path, value)),
            Operation::Read => tree.read(path).map(|value| quote(&value)),
            Operation::ReadLink => tree.read_link(path).map(|target| target.to_string()),
            Operation::List => tree.list(path).map(|entries| listing(&entries)),
            Operation::Exists => tree.exists(path).map(|there| there.to_string()),
        };
        answer.unwrap_or_else(|error| match error.errno() {
            Some(errno) => format!("{errno:?}"),
            None => error.to_string(),
        })
    }
}

fn listing(entries: &[crate::tree::Entry]) -> String {
    let names = entries.iter().map(|entry| {
        let mark = match entry.kind {
            EntryKind::Directory => "/",
            EntryKind::Link => "@",
            EntryKind::Attribute => "",
        };
        format!("{}{mark}", entry.name)
    });
    let names: Vec<String> = names.collect();
    match names.as_slice() {
        [] => "(nothing)".to_owned(),
        names => names.join(" "),
    }
}

fn agrees(recorded: &str, answer: &str) -> bool {
    match recorded.strip_prefix('~').map(unquote) {
        Some(Ok(part)) => unquote(answer).is_ok_and(|value| value.contains(&part)),
        Some(Err(_)) => false,
        None => recorded == answer,
    }
}

fn path(text: &str, names: &BTreeMap<String, String>) -> Result<TreePath, String> {
    TreePath::try_from(substitute(text, names)?.as_str()).map_err(|error| error.to_string())
}

/// Replaces `$NAME` at the start.
fn substitute(text: &str, names: &BTreeMap<String, String>) -> Result<String, String> {
    let Some(rest) = text.strip_prefix('$') else {
        return Ok(text.to_owned());
    };
    let (name, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let value = names.get(name).ok_or(format!("${name} is not defined"))?;
    Ok(format!("{value}{rest}"))
}

fn quote(value: &str) -> String {
    let mut quoted = String::from('"');
    for c in value.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\0' => quoted.push_str("\\0"),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

fn unquote(text: &str) -> Result<String, String> {
    let inner = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let inner = inner.ok_or_else(|| format!("{text} is not in quotes"))?;
    let mut value = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        value.push(match c {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some('0') => '\0',
                Some(c @ ('"' | '\\')) => c,
                other => return Err(format!("\\{other:?} is no escape")),
            },
            c => c,
        });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelKernel;

    const SCRIPT: &str = "\
# a comment
let HOSTS nvmet/hosts
mkdir $HOSTS/a = ok
mkdir $HOSTS/a = EEXIST
list $HOSTS = a/
read $HOSTS/a/dhchap_hash = ~\"sha256\"
write $HOSTS/a/dhchap_hash \"md5\\n\" = ok
";

    #[test]
    fn a_script_finds_the_answers_that_differ() {
        let script = Script::parse(SCRIPT).unwrap();
        assert_eq!(script.operations(), 5);
        let mismatches = script.check(&ModelKernel::new());
        assert_eq!(mismatches.len(), 1);
        assert_eq!(mismatches[0].line, 7);
        assert_eq!(mismatches[0].answer, "EINVAL");
    }

    #[test]
    fn recording_changes_only_the_answers_that_differ() {
        let script = Script::parse(SCRIPT).unwrap();
        let recorded = script.record(&ModelKernel::new());
        assert_eq!(
            recorded,
            SCRIPT.replace("\"md5\\n\" = ok", "\"md5\\n\" = EINVAL")
        );
    }

    #[test]
    fn a_script_that_cannot_be_read_says_where() {
        for (text, reason) in [
            ("\nfly a", "\"fly\" is no operation"),
            ("mkdir", "a path follows the operation"),
            ("mkdir ../a", "\"../a\" is not a plain name"),
            ("read $X/a", "$X is not defined"),
            ("write a b", "b is not in quotes"),
        ] {
            let error = Script::parse(text).unwrap_err();
            assert_eq!(error.reason, reason);
        }
    }
}
