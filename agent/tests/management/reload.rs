//! Certificates change while connections live.

use ashlar_agent::identity::IdentityError;
use ashlar_agent::tls::TlsError;
use ashlar_ctl::pki::{Profile, Validity};
use ashlar_protocol::HealthStatus;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::OffsetDateTime;

use crate::raw;
use ashlar_inprocess::Appliance;

async fn shown(appliance: &Appliance) -> Vec<u8> {
    let tls = raw::admin(appliance, "h2").await;
    tls.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn renew(appliance: &Appliance) -> Vec<u8> {
    renew_until(appliance, Validity::days(2))
}

fn renew_until(appliance: &Appliance, validity: Validity) -> Vec<u8> {
    let profile = Profile::Server {
        names: vec!["127.0.0.1".to_owned()],
    };
    let pki = appliance.pki.clone().overwriting(true);
    let paths = pki.issue("server", &profile, validity).unwrap();
    CertificateDer::from_pem_file(paths.certificate)
        .unwrap()
        .to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_and_live_connections_go_on() {
    let appliance = Appliance::start().await;
    let client = appliance.client("reader");
    client.system_show().await.unwrap();
    let before = shown(&appliance).await;

    let renewed = renew(&appliance);
    assert_eq!(shown(&appliance).await, before, "only a reload changes it");
    appliance.own.reload().unwrap();
    assert_eq!(shown(&appliance).await, renewed);

    client.system_show().await.unwrap();
    assert_eq!(client.connections_made(), 1);
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_when_a_certificate_is_to_be_renewed() {
    let appliance = Appliance::start().await;
    let client = appliance.client("reader");
    let told = async || {
        let health = client.health_show().await.unwrap();
        let mut checks = health.checks.into_iter();
        checks.find(|check| check.name == "certificate")
    };
    assert_eq!(told().await, None);
    let soon = OffsetDateTime::now_utc() + time::Duration::minutes(1);
    renew_until(&appliance, Validity::until(soon));
    appliance.own.reload().unwrap();
    let check = told().await.unwrap();
    assert_eq!(check.status, HealthStatus::Degraded);
    assert!(check.detail.unwrap().contains("0 days left"));
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_reload_keeps_what_was_in_force() {
    let appliance = Appliance::start().await;
    let before = shown(&appliance).await;
    let own = appliance.pki.paths("admin");
    let config = raw::config(&appliance.pki, Some(own), &["h2"]);
    let (server, ca) = (appliance.pki.paths("server"), appliance.pki.paths("ca"));

    let key = std::fs::read(&server.key).unwrap();
    let reader = appliance.pki.paths("reader").key;
    std::fs::copy(reader, &server.key).unwrap();
    let failed = || match appliance.own.reload().unwrap_err() {
        IdentityError::Tls(TlsError::Within { source, .. }) => *source,
        IdentityError::Tls(failure) => failure,
        other => panic!("{other:?}"),
    };
    let failure = failed();
    assert!(matches!(failure, TlsError::Files { .. }), "{failure:?}");
    std::fs::write(&server.key, key).unwrap();

    std::fs::write(&ca.certificate, "").unwrap();
    let failure = failed();
    assert!(matches!(failure, TlsError::Empty { .. }), "{failure:?}");
    std::fs::remove_file(&ca.certificate).unwrap();
    let failure = failed();
    assert!(matches!(failure, TlsError::Read { .. }), "{failure:?}");

    let tls = raw::connect(&appliance, config.into()).await.unwrap();
    let now = tls.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    assert_eq!(now, before);
    appliance.stop().await;
}
