//! Each thing that can be wrong with a request gets its own clear answer.

use ashlar_codec::Value;
use ashlar_protocol::{MAX_BODY, MEDIA_TYPE, ProblemCode, REQUEST_ID_HEADER};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use uuid::Uuid;

use crate::raw::{self, Sender};
use ashlar_inprocess::Appliance;

const ID: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

/// A request, and what must be said about it.
struct Case {
    request: Request<Full<Bytes>>,
    code: ProblemCode,
    /// Words the detail must have.
    told: &'static str,
}

/// `METHOD /path` with headers and a body.
fn case(
    line: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
    code: ProblemCode,
    told: &'static str,
) -> Case {
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Case {
        request: request.body(Full::from(body.into())).unwrap(),
        code,
        told,
    }
}

/// A case about the body of a request that is fine otherwise.
fn body(line: &str, body: impl Into<Bytes>, code: ProblemCode, told: &'static str) -> Case {
    case(line, &[("content-type", MEDIA_TYPE)], body, code, told)
}

fn map(entries: &[(&str, Value)]) -> Vec<u8> {
    let entries = entries
        .iter()
        .map(|(key, value)| (Value::Text((*key).to_owned()), value.clone()));
    ashlar_codec::to_vec(&Value::Map(entries.collect())).unwrap()
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn id() -> Value {
    Value::Bytes(ID.parse::<Uuid>().unwrap().as_bytes().to_vec())
}

fn volume(name: Value, pool: Value, size: Value) -> Vec<u8> {
    map(&[("name", name), ("pool", pool), ("size", size)])
}

fn headers() -> Vec<Case> {
    use ProblemCode::{MalformedRequest, NotAcceptable, UnsupportedMediaType};
    let put = "PUT /v1/volumes/6ba7b810-9dad-41d1-80b4-00c04fd430c8";
    vec![
        case(
            "GET /v1/volumes",
            &[("accept", "text/html")],
            "",
            NotAcceptable,
            "accept",
        ),
        case(
            put,
            &[],
            "x",
            UnsupportedMediaType,
            "content-type is missing",
        ),
        case(
            put,
            &[("content-type", "application/json")],
            "{}",
            UnsupportedMediaType,
            "application/json",
        ),
        case(
            "PUT /v1/firmware/bundle",
            &[("content-type", MEDIA_TYPE)],
            "x",
            UnsupportedMediaType,
            "application/octet-stream is taken",
        ),
        case(
            put,
            &[("content-type", MEDIA_TYPE), ("content-encoding", "gzip")],
            "x",
            UnsupportedMediaType,
            "content-encoding",
        ),
        case(
            put,
            &[("content-type", MEDIA_TYPE), ("prefer", "wait=soon")],
            "x",
            MalformedRequest,
            "wait is \"soon\"",
        ),
        case(
            "GET /v1/volumes",
            &[(REQUEST_ID_HEADER, "42")],
            "",
            MalformedRequest,
            REQUEST_ID_HEADER,
        ),
        case(
            "GET /v1/volumes",
            &[(REQUEST_ID_HEADER, ID), (REQUEST_ID_HEADER, ID)],
            "",
            MalformedRequest,
            "more than once",
        ),
        case(
            "GET /v1/volumes",
            &[],
            "x",
            MalformedRequest,
            "GET takes no body",
        ),
        case(
            "DELETE /v1/volumes/6ba7b810-9dad-41d1-80b4-00c04fd430c8",
            &[],
            "x",
            MalformedRequest,
            "DELETE takes no body",
        ),
    ]
}

fn targets() -> Vec<Case> {
    use ProblemCode::{InvalidField, MalformedRequest, MethodNotAllowed, RouteNotFound};
    let get = |path: &str, code, told| case(&format!("GET {path}"), &[], "", code, told);
    vec![
        get("/v1/nothing", RouteNotFound, "/v1/nothing"),
        get("/v1/volumes/abc", MalformedRequest, "\"abc\""),
        get(
            "/v1/volumes/00000000-0000-0000-0000-000000000000",
            MalformedRequest,
            "UUID",
        ),
        get("/v1/volumes?limit=0", InvalidField, "limit is \"0\""),
        get("/v1/volumes?limit=1001", InvalidField, "1 to 1000"),
        get(
            "/v1/volumes?limit=2&limit=3",
            InvalidField,
            "more than once",
        ),
        get("/v1/volumes?color=red", InvalidField, "color"),
        get("/v1/volumes?after=tomorrow", MalformedRequest, "cursor"),
        get(
            "/v1/connections?volume=abc",
            InvalidField,
            "volume is \"abc\"",
        ),
        get("/v1/system?limit=1", InvalidField, "limit"),
        case(
            "POST /v1/volumes",
            &[],
            "",
            MethodNotAllowed,
            "takes GET, not POST",
        ),
        case(
            "PATCH /v1/system",
            &[],
            "",
            MethodNotAllowed,
            "takes GET, not PATCH",
        ),
    ]
}

fn bodies() -> Vec<Case> {
    use ProblemCode::{BodyTooLarge, InvalidField, MalformedBody};
    let put = "PUT /v1/volumes/6ba7b810-9dad-41d1-80b4-00c04fd430c8";
    let (name, size) = (text("a"), Value::Integer(1 << 20));
    let deep = [vec![0x81; 9], vec![0x00]].concat();
    let twice = [&[0xa2][..], b"\x61a\x01", b"\x61a\x02"].concat();
    vec![
        body(put, "", MalformedBody, "ends at byte 0"),
        body(put, vec![0xbf, 0xff], MalformedBody, "indefinite"),
        body(put, vec![0xa0, 0xa0], MalformedBody, "more bytes follow"),
        body(put, vec![0xa5], MalformedBody, "byte"),
        body(put, deep, MalformedBody, "deeper than 8"),
        body(put, twice, MalformedBody, "repeats a key"),
        body(put, vec![0xc0, 0x00], MalformedBody, "tag 0"),
        body(put, vec![0x61, 0xff], MalformedBody, "UTF-8"),
        body(
            put,
            vec![0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            MalformedBody,
            "claims a length",
        ),
        body(put, vec![0u8; MAX_BODY + 1], BodyTooLarge, "65536"),
        body(put, vec![0x01], InvalidField, "expected"),
        body(put, vec![0xa0], InvalidField, "missing field `name`"),
        body(
            put,
            volume(text(""), id(), size.clone()),
            InvalidField,
            "1 to 255 bytes",
        ),
        body(
            put,
            volume(text("a\nb"), id(), size.clone()),
            InvalidField,
            "control",
        ),
        body(
            put,
            volume(name.clone(), text("p"), size.clone()),
            InvalidField,
            "pool",
        ),
        body(
            put,
            volume(name.clone(), id(), text("1GiB")),
            InvalidField,
            "size",
        ),
        body(
            put,
            volume(name.clone(), id(), Value::Integer(-1)),
            InvalidField,
            "size",
        ),
        body(
            put,
            map(&[
                ("name", name.clone()),
                ("pool", id()),
                ("size", size),
                ("color", text("red")),
            ]),
            InvalidField,
            "unknown field `color`",
        ),
        body(
            "POST /v1/volumes/6ba7b810-9dad-41d1-80b4-00c04fd430c8/extend",
            map(&[("size", Value::Null)]),
            InvalidField,
            "size",
        ),
    ]
}

fn names() -> Vec<Case> {
    use ProblemCode::InvalidField;
    let host = "PUT /v1/hosts/6ba7b810-9dad-41d1-80b4-00c04fd430c8";
    let connection = "PUT /v1/connections/6ba7b810-9dad-41d1-80b4-00c04fd430c8";
    let pool = "PUT /v1/pools/6ba7b810-9dad-41d1-80b4-00c04fd430c8";
    let named = |key: &str, value: Value| map(&[("name", text("h")), (key, value)]);
    let secret = |secret: &str| {
        let credentials = [("name", text("user")), ("secret", text(secret))];
        let credentials = credentials.map(|(key, value)| (text(key), value));
        let chap = [(text("chap"), Value::Map(credentials.into()))];
        named("secrets", Value::Map(chap.into()))
    };
    vec![
        body(
            host,
            named("iqn", text("iqn.nonsense")),
            InvalidField,
            "iSCSI name",
        ),
        body(
            host,
            named("nqn", text("iqn.2026-11.io.x:y")),
            InvalidField,
            "begins with 'nqn.'",
        ),
        body(host, secret("short"), InvalidField, "12 to 16 characters"),
        body(
            pool,
            named("disks", Value::Array(vec![text("/dev/sda")])),
            InvalidField,
            "begins with 'wwn-' or 'serial-'",
        ),
        body(
            connection,
            map(&[
                ("volume", id()),
                ("host", id()),
                ("transport", text("fibre")),
            ]),
            InvalidField,
            "transport",
        ),
    ]
}

/// What is decoded but cannot be: the engine's own answers, as they reach the client.
fn rules() -> Vec<Case> {
    use ProblemCode::NotFound;
    let connection = map(&[
        ("volume", id()),
        ("host", id()),
        ("transport", text("iscsi")),
    ]);
    vec![
        body(
            "PUT /v1/connections/6ba7b810-9dad-41d1-80b4-00c04fd430c8",
            connection,
            NotFound,
            ID,
        ),
        body(
            "PUT /v1/volumes/6ba7b810-9dad-41d1-80b4-00c04fd430c8",
            volume(text("a"), id(), Value::Integer(1 << 20)),
            NotFound,
            ID,
        ),
        case(
            "GET /v1/jobs/6ba7b810-9dad-41d1-80b4-00c04fd430c8",
            &[],
            "",
            NotFound,
            ID,
        ),
    ]
}

async fn check_all(protocol: &str) {
    let appliance = Appliance::start().await;
    let mut cases = headers();
    cases.extend(targets());
    cases.extend(bodies());
    cases.extend(names());
    cases.extend(rules());
    for case in cases {
        // A connection each: over HTTP/1.1 a refused body ends it.
        let mut sender = Sender::open(raw::admin(&appliance, protocol).await).await;
        let line = format!("{} {}", case.request.method(), case.request.uri());
        let answer = sender.send(case.request).await.unwrap();
        let problem = answer.problem();
        assert_eq!(problem.code, case.code, "{line}: {problem}");
        assert!(problem.detail.contains(case.told), "{line}: {problem}");
    }
    let client = appliance.client("admin");
    assert_eq!(client.volume_list().await.unwrap(), []);
    assert_eq!(client.host_list().await.unwrap(), []);
    assert_eq!(client.pool_list().await.unwrap(), []);
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_told_what_is_wrong_over_http_1() {
    check_all("http/1.1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_told_what_is_wrong_over_http_2() {
    check_all("h2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_in_the_wrong_place_is_not_repeated() {
    let appliance = Appliance::start().await;
    for value in [
        text("hunter2hunter2"),
        Value::Array(vec![text("hunter2hunter2")]),
    ] {
        let line = "PUT /v1/hosts/6ba7b810-9dad-41d1-80b4-00c04fd430c8";
        let secrets = map(&[("name", text("h")), ("secrets", value)]);
        let case = body(line, secrets, ProblemCode::InvalidField, "secrets");
        let mut sender = Sender::open(raw::admin(&appliance, "h2").await).await;
        let problem = sender.send(case.request).await.unwrap().problem();
        assert_eq!(problem.code, case.code);
        assert!(!problem.detail.contains("hunter2"), "{problem}");
    }
    appliance.stop().await;
}
