//! From a method and a path to an operation, if the role allows it.

use ashlar_protocol::{Method, Problem, ProblemCode, ROUTES, Role, Route};
use uuid::Uuid;

use super::headers::{cut, hyphenated};

/// A row of the table, and the id in the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Matched {
    pub(super) route: &'static Route,
    pub(super) id: Option<Uuid>,
}

/// What the table says about a method and a path.
///
/// What is not in the table needs the role `admin`, even to be told so: others learn nothing
/// about what is there.
pub(super) fn find(method: &str, path: &str, role: Role) -> Result<Matched, Problem> {
    let mut other_methods = Vec::new();
    for route in ROUTES {
        let Some(segment) = matches(route.path, path) else {
            continue;
        };
        if route.method.as_str() != method {
            other_methods.push(route.method);
            continue;
        }
        require(role, route.role, method, path)?;
        let id = segment.map(id).transpose()?;
        return Ok(Matched { route, id });
    }
    require(role, Role::Admin, method, path)?;
    Err(unlisted(method, path, &other_methods))
}

/// `Some` when the path fits the pattern, holding what stands for `{id}`.
fn matches<'p>(pattern: &str, path: &'p str) -> Option<Option<&'p str>> {
    let mut id = None;
    let mut segments = path.split('/');
    for expected in pattern.split('/') {
        let segment = segments.next()?;
        if expected == "{id}" {
            id = Some(segment);
        } else if expected != segment {
            return None;
        }
    }
    segments.next().is_none().then_some(id)
}

fn require(role: Role, least: Role, method: &str, path: &str) -> Result<(), Problem> {
    if role >= least {
        return Ok(());
    }
    Err(Problem::new(
        ProblemCode::Forbidden,
        format!(
            "{} {} takes the role {least}, the certificate has {role}",
            cut(method).escape_debug(),
            cut(path).escape_debug()
        ),
    ))
}

fn id(segment: &str) -> Result<Uuid, Problem> {
    hyphenated(segment).ok_or_else(|| {
        Problem::new(
            ProblemCode::MalformedRequest,
            format!("path: {:?} is not the UUID of anything", cut(segment)),
        )
    })
}

fn unlisted(method: &str, path: &str, other_methods: &[Method]) -> Problem {
    if other_methods.is_empty() {
        let detail = format!("there is no {}", cut(path).escape_debug());
        return Problem::new(ProblemCode::RouteNotFound, detail);
    }
    let others: Vec<_> = other_methods.iter().map(|m| m.as_str()).collect();
    Problem::new(
        ProblemCode::MethodNotAllowed,
        format!(
            "{} takes {}, not {}",
            cut(path).escape_debug(),
            others.join(", "),
            cut(method).escape_debug()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

    #[test]
    fn each_role_gets_exactly_the_rows_it_may_use() {
        for route in ROUTES {
            let path = route.path.replace("{id}", ID);
            for role in Role::ALL {
                let found = find(route.method.as_str(), &path, role);
                if role >= route.role {
                    let matched = found.unwrap();
                    assert_eq!(matched.route, route);
                    assert_eq!(matched.id.is_some(), route.path.contains("{id}"));
                } else {
                    assert_eq!(found.unwrap_err().code, ProblemCode::Forbidden, "{route:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_unlisted_is_for_admins_to_know() {
        for (method, path, code) in [
            ("GET", "/", ProblemCode::RouteNotFound),
            ("GET", "", ProblemCode::RouteNotFound),
            ("GET", "/v1/volumes/", ProblemCode::MalformedRequest),
            ("GET", "/v2/volumes", ProblemCode::RouteNotFound),
            ("GET", "/v1/volumes/x/y/z", ProblemCode::RouteNotFound),
            ("POST", "/v1/volumes", ProblemCode::MethodNotAllowed),
            ("HEAD", "/v1/volumes", ProblemCode::MethodNotAllowed),
            ("get", "/v1/volumes", ProblemCode::MethodNotAllowed),
        ] {
            let found = find(method, path, Role::Admin).unwrap_err();
            assert_eq!(found.code, code, "{method} {path}");
            let found = find(method, path, Role::Operator).unwrap_err();
            if code != ProblemCode::MalformedRequest {
                assert_eq!(found.code, ProblemCode::Forbidden, "{method} {path}");
            }
        }
    }

    #[test]
    fn a_wrong_method_is_told_the_right_ones() {
        let problem = find("POST", &format!("/v1/hosts/{ID}"), Role::Admin).unwrap_err();
        assert!(
            problem.detail.contains("takes GET, PUT, DELETE, not POST"),
            "{problem}"
        );
    }
}
