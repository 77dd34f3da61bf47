//! Who may do what.

use ashlar_protocol::{MEDIA_TYPE, Method, Operation, ProblemCode, ROUTES, Role, Route};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use uuid::Uuid;

use crate::raw::{self, Answer, Sender};
use ashlar_ctl::pki::Validity;
use ashlar_inprocess::Appliance;

/// Asks for a route; its body has a field that no route knows.
async fn ask(sender: &mut Sender, route: &Route) -> Answer {
    let path = route.path.replace("{id}", &Uuid::new_v4().to_string());
    let request = Request::builder().method(route.method.as_str()).uri(path);
    let has_body = matches!(route.method.as_str(), "PUT" | "POST");
    let request = if has_body {
        let request = request.header("content-type", MEDIA_TYPE);
        request.body(Full::from(Bytes::from_static(b"\xa1\x61?\xf6")))
    } else {
        request.body(Full::default())
    };
    sender.send(request.unwrap()).await.unwrap()
}

async fn sender(appliance: &Appliance, name: &str) -> Sender {
    let own = appliance.pki.paths(name);
    let config = raw::config(&appliance.pki, Some(own), &["h2"]);
    Sender::open(raw::connect(appliance, config.into()).await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_route_asks_for_its_least_role_over_the_wire() {
    let appliance = Appliance::start().await;
    for role in Role::ALL {
        let mut sender = sender(&appliance, role.as_str()).await;
        for route in ROUTES {
            let answer = ask(&mut sender, route).await;
            if role < route.role {
                assert_eq!(
                    answer.problem().code,
                    ProblemCode::Forbidden,
                    "{role} {route:?}"
                );
                continue;
            }
            // Past the role: it looks at lists, and refuses what it does not know and ids of
            // nothing.
            match answer.status {
                200 => assert!(!route.path.contains("{id}"), "{role} {route:?}"),
                _ => {
                    let code = answer.problem().code;
                    let expected = match (route.operation, route.method) {
                        (Operation::VolumeImport | Operation::FirmwareInstall, _) => {
                            ProblemCode::UnsupportedMediaType
                        }
                        // This box has no updater, and its certificates are configured.
                        (Operation::FirmwareShow | Operation::TrustShow, _) => {
                            ProblemCode::Unsupported
                        }
                        (_, Method::Put | Method::Post) => ProblemCode::InvalidField,
                        _ => ProblemCode::NotFound,
                    };
                    assert_eq!(code, expected, "{role} {route:?}");
                }
            }
        }
    }
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_without_a_role_may_not_even_look() {
    let appliance = Appliance::start().await;
    appliance.issue("nobody", None, Validity::days(1));
    let mut sender = sender(&appliance, "nobody").await;
    for route in ROUTES {
        let problem = ask(&mut sender, route).await.problem();
        assert_eq!(problem.code, ProblemCode::NoRole, "{route:?}");
        assert!(problem.detail.contains("urn:ashlar:role:"), "{problem}");
    }
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_in_the_table_is_for_admins_to_know() {
    let appliance = Appliance::start().await;
    for (name, code) in [
        ("reader", ProblemCode::Forbidden),
        ("operator", ProblemCode::Forbidden),
        ("admin", ProblemCode::RouteNotFound),
    ] {
        let mut sender = sender(&appliance, name).await;
        let request = Request::get("/v1/secrets").body(Full::default()).unwrap();
        let problem = sender.send(request).await.unwrap().problem();
        assert_eq!(problem.code, code, "{name}");
    }
    appliance.stop().await;
}
