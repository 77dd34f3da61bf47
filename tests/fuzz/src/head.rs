//! A request's method, target and headers, as the agent understands them.

use ashlar_agent::http::understand;
use ashlar_protocol::{Method, Role};
use hyper::Request;
use hyper::http::request::Parts;

/// Takes the bytes for the head of an HTTP/1.1 request: a line `METHOD TARGET`, lines
/// `NAME:VALUE`. The first byte chooses the role.
///
/// # Panics
/// When a request is understood that its role does not allow or the table does not have.
pub fn run(data: &[u8]) {
    let Some((choice, head)) = data.split_first() else {
        return;
    };
    let role = Role::ALL[usize::from(*choice) % Role::ALL.len()];
    let Some(parts) = parts(head) else {
        return;
    };
    let Ok((operation, id)) = understand(&parts, role) else {
        return;
    };
    let route = operation.route();
    assert!(role >= route.role, "{role} was let to {operation:?}");
    assert_eq!(parts.method.as_str(), route.method.as_str());
    let id = id.map(|id| id.to_string()).unwrap_or_default();
    let path = route.path.replace("{id}", &id);
    // An id may be written in upper case.
    assert!(parts.uri.path().eq_ignore_ascii_case(&path));
    assert_eq!(route.path.contains("{id}"), !id.is_empty());
}

/// What hyper would hand on; `None` where it would answer itself.
fn parts(head: &[u8]) -> Option<Parts> {
    let mut lines = head.split(|byte| *byte == b'\n');
    let line = std::str::from_utf8(lines.next()?).ok()?;
    let (method, target) = line.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(target);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        request = request.header(&line[..colon], &line[colon + 1..]);
    }
    Some(request.body(()).ok()?.into_parts().0)
}

/// Every route, and headers in many spellings.
pub fn seeds() -> Vec<Vec<u8>> {
    let id = crate::seed::id(7);
    let mut seeds: Vec<Vec<u8>> = ashlar_protocol::ROUTES
        .iter()
        .map(|route| {
            let path = route.path.replace("{id}", &id.to_string());
            let query = match route.method {
                Method::Get if !route.path.contains("{id}") => "?limit=10",
                Method::Delete if route.path == "/v1/volumes/{id}" => {
                    "?clear=zero&clear_size=1048576&bandwidth=65536"
                }
                _ => "",
            };
            format!(
                "\x02{} {path}{query}\ncontent-type:application/cbor",
                route.method.as_str()
            )
            .into_bytes()
        })
        .collect();
    for (role, head) in [
        (
            0,
            format!(
                "GET /v1/connections?volume={id}&limit=7&after=a%2Fb\naccept:application/cbor;q=1, */*"
            ),
        ),
        (0, format!("GET /v1/connections?snapshot={id}&limit=7")),
        (
            1,
            format!(
                "PUT https://box:8443/v1/volumes/{id}\nashlar-request-id:{id}\nprefer:respond-async, wait=\"5\"\ncontent-type:application/cbor; x=y"
            ),
        ),
        (
            2,
            format!(
                "DELETE /v1/volumes/{id}/connections?\nprefer:handling=lenient;wait=9999\ncontent-encoding:gzip"
            ),
        ),
        (0, format!("POST /v1/volumes/{id}/extend\naccept:text/html")),
        (2, "OPTIONS *\naccept:".to_owned()),
    ] {
        seeds.push([&[role], head.as_bytes()].concat());
    }
    seeds
}
