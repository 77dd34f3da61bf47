//! From text to steps.

use serde_json::Value as Json;

use super::{Accident, Action, Request, Scenario, Step, fill, placeholder, whole_placeholder};

/// Why a file is not a scenario.
#[derive(Debug, thiserror::Error)]
#[error("{name}:{line}: {problem}")]
pub struct ParseError {
    name: String,
    line: usize,
    problem: String,
}

/// Parses a file's text.
pub fn parse(name: &str, text: &str) -> Result<Scenario, ParseError> {
    let at = |line: usize| {
        move |problem: String| ParseError {
            name: name.to_owned(),
            line,
            problem,
        }
    };
    let mut steps = Vec::new();
    let mut request_id = None;
    let mut lines = logical_lines(text).into_iter().peekable();
    while let Some(line) = lines.next() {
        let error = at(line.number);
        let action = match line.head.split_once(' ').unwrap_or((&line.head, "")) {
            ("as", who) => Action::As(who.to_owned()),
            ("with", header) => {
                let id = header
                    .strip_prefix("request-id ")
                    .and_then(whole_placeholder);
                let (name, _) =
                    id.ok_or_else(|| error("expected 'with request-id {name}'".into()))?;
                request_id = Some(placeholder(name));
                continue;
            }
            ("kernel", "") => Action::Kernel(line.more.iter().map(|l| fill(l)).collect()),
            ("do", what) => Action::Do(accident(what).map_err(error)?),
            (method @ ("GET" | "PUT" | "POST" | "DELETE"), path) => {
                let answer = lines
                    .next_if(|next| next.head.starts_with("=>"))
                    .ok_or_else(|| error("a request needs an answer, '=> STATUS'".into()))?;
                let (status, expected) = expectation(&answer).map_err(at(answer.number))?;
                Action::Request(Request {
                    method: method.to_owned(),
                    path: fill(path),
                    request_id: request_id.take(),
                    body: json(&line.more.join("\n")).map_err(error)?,
                    status,
                    answer: expected,
                })
            }
            (word, _) => return Err(error(format!("unknown step {word:?}"))),
        };
        steps.push(Step {
            line: line.number,
            action,
        });
    }
    Ok(Scenario {
        name: name.to_owned(),
        steps,
    })
}

/// A line and the indented ones below it.
struct Line {
    number: usize,
    head: String,
    more: Vec<String>,
}

fn logical_lines(text: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        let trimmed = raw.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        match lines.last_mut() {
            Some(line) if raw.starts_with([' ', '\t']) => line.more.push(trimmed.to_owned()),
            _ => lines.push(Line {
                number: index + 1,
                head: trimmed.to_owned(),
                more: Vec::new(),
            }),
        }
    }
    lines
}

fn accident(what: &str) -> Result<Accident, String> {
    match what {
        "kill agent" => Ok(Accident::KillAgent),
        "kill targetd" => Ok(Accident::KillTargetd),
        "power-cut" => Ok(Accident::PowerCut),
        "lose-store" => Ok(Accident::LoseStore),
        _ => Err(format!("unknown accident {what:?}")),
    }
}

fn expectation(line: &Line) -> Result<(u16, Option<Json>), String> {
    let rest = line.head.trim_start_matches("=>").trim();
    let (status, body) = rest.split_once(' ').unwrap_or((rest, ""));
    let status = status
        .parse()
        .map_err(|_| format!("status {status:?} is no number"))?;
    let body = format!("{body}\n{}", line.more.join("\n"));
    Ok((status, json(&body)?))
}

fn json(text: &str) -> Result<Option<Json>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    serde_json::from_str(text)
        .map(Some)
        .map_err(|e| format!("not JSON: {e}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_becomes_steps() {
        let text = "\
# comment
as operator
with request-id {r1}
PUT /v1/volumes/{v1}
  {\"name\": \"one\",
   \"size\": 1}
=> 201 {\"state\": \"available\"}
do kill agent
kernel
  volume {v1}
";
        let scenario = parse("x", text).unwrap();
        let v1 = placeholder("v1");
        let actions: Vec<_> = scenario.steps.into_iter().map(|s| s.action).collect();
        assert_eq!(
            actions,
            [
                Action::As("operator".into()),
                Action::Request(Request {
                    method: "PUT".into(),
                    path: format!("/v1/volumes/{v1}"),
                    request_id: Some(placeholder("r1")),
                    body: Some(json!({"name": "one", "size": 1})),
                    status: 201,
                    answer: Some(json!({"state": "available"})),
                }),
                Action::Do(Accident::KillAgent),
                Action::Kernel(vec![format!("volume {v1}")]),
            ]
        );
    }

    #[test]
    fn a_request_without_an_answer_is_refused() {
        let error = parse("x", "GET /v1/system\nas admin\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "x:1: a request needs an answer, '=> STATUS'"
        );
    }

    #[test]
    fn a_misspelt_step_is_refused_with_its_line() {
        let error = parse("x", "\n\nfetch /v1\n").unwrap_err();
        assert_eq!(error.to_string(), "x:3: unknown step \"fetch\"");
    }
}
