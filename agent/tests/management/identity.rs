//! From the factory to the owner, and whom a box lets in.

use std::time::Duration;

use ashlar_ctl::client::Failure;
use ashlar_ctl::pki::{Directory, Profile, Validity};
use ashlar_ctl::{CallError, Change, Client, Endpoint, Identity};
use ashlar_inprocess::{Appliance, pool};
use ashlar_protocol::{
    Authentication, ClaimSecret, ClaimSpec, FreezeSpec, HostSpec, InstallSpec, Operation, Pem,
    Phase, ProblemCode, RequestSpec, ResetSpec, Role, SealSpec, Serial, Sha256, TrustUpdate,
};
use rcgen::{
    CertificateParams, CertificateRevocationListParams, CertificateSigningRequestParams,
    CrlDistributionPoint, CrlIssuingDistributionPoint, DnType, DnValue, ExtendedKeyUsagePurpose,
    Issuer, KeyIdMethod, KeyPair, PublicKeyData, RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use time::OffsetDateTime;
use tokio::net::UnixListener;
use uuid::Uuid;

use crate::raw;

const SERIAL: &str = "AX-000123";
const DAY: time::Duration = time::Duration::days(1);

fn secret() -> ClaimSecret {
    let label = "ABCDE-FGHJK-01234-56789-VWXYZ".to_owned();
    label.try_into().unwrap()
}

fn pem(text: String) -> Pem {
    text.try_into().unwrap()
}

/// An authority's certificate, and what signs in its name.
fn signer(pki: &Directory) -> (String, Issuer<'static, KeyPair>) {
    let own = pki.paths("ca");
    let certificate = std::fs::read_to_string(own.certificate).unwrap();
    let key = KeyPair::from_pem(&std::fs::read_to_string(own.key).unwrap()).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&certificate, key).unwrap();
    (certificate, issuer)
}

fn named(common_name: &str, serial: Option<&str>, names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    let name = &mut params.distinguished_name;
    name.push(DnType::CommonName, common_name);
    if let Some(serial) = serial {
        let kind = DnType::CustomDnType(vec![2, 5, 4, 5]);
        name.push(kind, DnValue::Utf8String(serial.to_owned()));
    }
    params.subject_alt_names = names.iter().map(|name| alternative(name)).collect();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn alternative(name: &str) -> SanType {
    match name.parse() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(name.try_into().unwrap()),
    }
}

/// What an authority makes of a request, with names of its own choice.
fn signed(pki: &Directory, request: &Pem, params: CertificateParams) -> Pem {
    let asked = CertificateSigningRequestParams::from_pem(request.as_str()).unwrap();
    let (_, issuer) = signer(pki);
    pem(params.signed_by(&asked.public_key, &issuer).unwrap().pem())
}

/// The key that a certificate is asked for.
fn key(request: &Pem) -> Vec<u8> {
    let asked = CertificateSigningRequestParams::from_pem(request.as_str()).unwrap();
    asked.public_key.subject_public_key_info()
}

fn device_name() -> String {
    SERIAL.parse::<Serial>().unwrap().device_name()
}

fn idevid() -> CertificateParams {
    named(SERIAL, Some(SERIAL), &[&device_name()])
}

/// Where a box is that shows its device certificate.
fn as_device(appliance: &Appliance) -> Endpoint {
    let name = ServerName::try_from(device_name()).unwrap();
    appliance.endpoint().known_as(&name)
}

fn stranger(appliance: &Appliance) -> Client {
    let identity = Identity::stranger(&appliance.pki.paths("ca").certificate).unwrap();
    Client::new(as_device(appliance), &identity)
}

/// Who owns boxes: an authority with two admins and a reader.
fn owner(appliance: &Appliance) -> Directory {
    let pki = Directory::at(appliance.dir.path().join("owner"));
    pki.init("owner CA", Validity::days(1)).unwrap();
    let clients = [
        ("admin", Role::Admin),
        ("other", Role::Admin),
        ("reader", Role::Reader),
    ];
    for (name, role) in clients {
        let profile = Profile::Client { role: Some(role) };
        pki.issue(name, &profile, Validity::days(1)).unwrap();
    }
    pki
}

/// A client of the owner's, of a box that shows its device certificate.
fn client(appliance: &Appliance, owner: &Directory, name: &str) -> Client {
    let own = owner.paths(name);
    let maker = appliance.pki.paths("ca").certificate;
    let identity = Identity::from_files(&own.certificate, &own.key, &maker).unwrap();
    Client::new(as_device(appliance), &identity)
}

fn value<T>(change: Result<Change<T>, CallError>) -> T {
    match change.unwrap() {
        Change::Done { value, .. } => value,
        Change::Accepted(job) => panic!("{job:?}"),
    }
}

fn code<T: std::fmt::Debug>(outcome: Result<T, CallError>) -> ProblemCode {
    match outcome.unwrap_err().failure {
        Failure::Problem(problem) => problem.code,
        other => panic!("{other:?}"),
    }
}

/// That a field was refused, and why.
fn refused<T: std::fmt::Debug>(outcome: Result<T, CallError>, why: &str) {
    let problem = outcome.unwrap_err().problem().unwrap().clone();
    assert_eq!(problem.code, ProblemCode::InvalidField, "{problem}");
    assert!(problem.detail.contains(why), "{problem}");
}

/// Whether there is no way in at all.
async fn is_shut_out(client: &Client) -> bool {
    let error = client.identity_show().await.unwrap_err();
    error.problem().is_none()
}

async fn seal(appliance: &Appliance) {
    let station = appliance.station("admin");
    let request = value(station.identity_request(&RequestSpec::default()).await);
    let spec = SealSpec {
        certificates: signed(&appliance.pki, &request.request, idevid()),
        claim: secret().digest(&SERIAL.parse().unwrap()),
    };
    let sealed = value(station.identity_seal(&spec).await);
    assert_eq!(sealed.phase, Phase::Unclaimed);
}

fn claim(owner: &Directory) -> ClaimSpec {
    ClaimSpec {
        secret: secret(),
        authorities: pem(signer(owner).0),
        client: certificate(owner, "admin"),
    }
}

/// The certificate of a client.
fn certificate(owner: &Directory, name: &str) -> Pem {
    pem(std::fs::read_to_string(owner.paths(name).certificate).unwrap())
}

async fn claimed() -> (Appliance, Directory) {
    let appliance = Appliance::seeded(SERIAL).await;
    seal(&appliance).await;
    let owner = owner(&appliance);
    value(stranger(&appliance).identity_claim(&claim(&owner)).await);
    (appliance, owner)
}

#[tokio::test(flavor = "multi_thread")]
async fn in_its_factory_a_box_is_the_factorys() {
    let mut appliance = Appliance::seeded(SERIAL).await;
    let station = appliance.station("admin");
    let made = station.identity_show().await.unwrap();
    assert_eq!(made.phase, Phase::Factory);
    assert!(made.proof.is_some() && made.device.is_none());
    // What is made there is made as on any box.
    let operator = appliance.station("operator");
    operator.volume_list().await.unwrap();
    let request = operator.identity_request(&RequestSpec::default()).await;
    assert_eq!(code(request), ProblemCode::Forbidden);
    assert_eq!(code(station.trust_show().await), ProblemCode::WrongState);
    assert!(is_shut_out(&stranger(&appliance)).await);
    let request = value(station.identity_request(&RequestSpec::default()).await).request;

    // The key stays what it is.
    appliance = appliance.restart().await;
    let station = appliance.station("admin");
    let again = value(station.identity_request(&RequestSpec::default()).await).request;
    assert_eq!(key(&request), key(&again));
    assert_eq!(station.identity_show().await.unwrap().proof, made.proof);

    // Another station, with another token, does not take it for the box that it has flashed.
    let token = appliance.dir.path().join("token");
    std::fs::write(&token, "1".repeat(64)).unwrap();
    assert!(is_shut_out(&appliance.station("admin")).await);
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_goes_from_its_factory_to_its_owner() {
    let mut appliance = Appliance::seeded(SERIAL).await;
    let station = appliance.station("admin");
    station.system_show().await.unwrap();
    seal(&appliance).await;
    assert!(
        is_shut_out(&station).await,
        "no client of the factory's stays"
    );
    appliance = appliance.restart().await;
    let anybody = stranger(&appliance);
    let shown = anybody.identity_show().await.unwrap();
    assert_eq!(shown.phase, Phase::Unclaimed);
    assert_eq!(shown.device.as_ref(), Some(&shown.certificate));
    assert_eq!(code(anybody.system_show().await), ProblemCode::NoRole);
    assert_eq!(code(anybody.trust_show().await), ProblemCode::NoRole);
    // Not even the factory is somebody.
    let factory = client(&appliance, &appliance.pki, "admin");
    assert_eq!(code(factory.system_show().await), ProblemCode::NoRole);

    let owner = owner(&appliance);
    let mut wrong = claim(&owner);
    wrong.secret = "0".repeat(25).try_into().unwrap();
    let wrong = anybody.identity_claim(&wrong).await;
    assert_eq!(code(wrong), ProblemCode::Forbidden);
    let mut wrong = claim(&owner);
    wrong.authorities = certificate(&owner, "admin");
    refused(anybody.identity_claim(&wrong).await, "no authority");
    // Nobody who matters would get in then.
    for (client, why) in [
        (certificate(&appliance.pki, "admin"), "would not let in"),
        (certificate(&owner, "reader"), "not the role admin"),
    ] {
        let mut wrong = claim(&owner);
        wrong.client = client;
        refused(anybody.identity_claim(&wrong).await, why);
    }
    assert_eq!(
        anybody.identity_show().await.unwrap().phase,
        Phase::Unclaimed
    );
    let now = value(anybody.identity_claim(&claim(&owner)).await);
    assert_eq!(now.phase, Phase::Claimed);

    assert!(is_shut_out(&stranger(&appliance)).await);
    assert!(is_shut_out(&factory).await);
    let admin = client(&appliance, &owner, "admin");
    admin.system_show().await.unwrap();
    let records = admin.audit_list().await.unwrap();
    let claims: Vec<_> = records
        .iter()
        .filter(|record| record.operation == Some(Operation::IdentityClaim))
        .map(|record| (record.status, record.key_sha256.is_none()))
        .collect();
    assert_eq!(claims.last(), Some(&(Some(200), true)), "{claims:?}");
    let again = admin.identity_claim(&claim(&owner)).await;
    assert_eq!(code(again), ProblemCode::WrongState);
    appliance = appliance.restart().await;
    let admin = client(&appliance, &owner, "admin");
    assert_eq!(admin.identity_show().await.unwrap().phase, Phase::Claimed);
    let trust = admin.trust_show().await.unwrap();
    assert_eq!(trust.authorities[0].subject, "CN=owner CA");
    appliance.stop().await;
}

/// The start over again, by request: the owner's all goes, the factory's stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_box_forgets_its_owner_and_is_claimed_anew() {
    let (mut appliance, owner) = claimed().await;
    let socket = UnixListener::bind(appliance.dir.path().join("restart.sock")).unwrap();
    let admin = client(&appliance, &owner, "admin");
    let device = admin.identity_show().await.unwrap().device;
    let id = Uuid::new_v4();
    let reset = |secret: ClaimSecret, abandon_pools| ResetSpec {
        secret,
        abandon_pools,
    };
    let reader = client(&appliance, &owner, "reader");
    let refused = reader.identity_reset(&reset(secret(), true)).await;
    assert_eq!(code(refused), ProblemCode::Forbidden);
    let wrong = "0".repeat(25).try_into().unwrap();
    let refused = admin.identity_reset(&reset(wrong, true)).await;
    assert_eq!(code(refused), ProblemCode::Forbidden);
    value(admin.pool_create(id, &pool()).await);
    let refused = admin.identity_reset(&reset(secret(), false)).await;
    assert_eq!(code(refused), ProblemCode::InUse);
    assert_eq!(admin.pool_list().await.unwrap().len(), 1);
    assert_eq!(admin.identity_show().await.unwrap().phase, Phase::Claimed);

    value(admin.identity_reset(&reset(secret(), true)).await);
    within(socket.accept()).await.unwrap();
    // Until it has started again it is nobody's, and nobody can have it.
    let other = client(&appliance, &owner, "other");
    assert_eq!(code(other.system_show().await), ProblemCode::NoRole);
    let early = stranger(&appliance).identity_claim(&claim(&owner)).await;
    assert_eq!(code(early), ProblemCode::WrongState);
    drop(socket);
    appliance = appliance.restart().await;
    let shown = stranger(&appliance).identity_show().await.unwrap();
    assert_eq!((shown.phase, shown.device), (Phase::Unclaimed, device));
    assert_eq!(code(admin.system_show().await), ProblemCode::NoRole);

    // Whoever has its label has it, and finds nothing of its former owner but disks that are not blank.
    value(stranger(&appliance).identity_claim(&claim(&owner)).await);
    let admin = client(&appliance, &owner, "admin");
    assert_eq!(admin.pool_list().await.unwrap(), []);
    let jobs = admin.job_list().await.unwrap();
    assert!(
        jobs.iter()
            .all(|job| job.operation == Operation::IdentityClaim),
        "{jobs:?}"
    );
    let records = admin.audit_list().await.unwrap();
    assert!(
        records
            .iter()
            .all(|record| record.operation == Some(Operation::IdentityClaim))
    );
    assert_eq!(admin.trust_show().await.unwrap().authorities.len(), 1);
    appliance.stop().await;
}

/// Without anybody to start it again it is reset by whatever starts it next, and refuses until then.
#[tokio::test(flavor = "multi_thread")]
async fn a_reset_that_nobody_starts_again_is_kept() {
    let (mut appliance, owner) = claimed().await;
    let admin = client(&appliance, &owner, "admin");
    let spec = ResetSpec {
        secret: secret(),
        abandon_pools: false,
    };
    assert_eq!(
        code(admin.identity_reset(&spec).await),
        ProblemCode::Unsupported
    );
    let other = client(&appliance, &owner, "other");
    assert_eq!(code(other.system_show().await), ProblemCode::NoRole);
    appliance = appliance.restart().await;
    let shown = stranger(&appliance).identity_show().await.unwrap();
    assert_eq!(shown.phase, Phase::Unclaimed);
    appliance.stop().await;
}

/// A client that keeps its connection busy and takes no note of its end: it speaks HTTP/2 as no
/// library does.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_factorys_that_does_not_go_does_nothing_more() {
    let appliance = Appliance::seeded(SERIAL).await;
    let mut stubborn = raw::Stubborn::open(&appliance).await;
    stubborn.ask("GET", "/v1/system", true).await;
    assert!(stubborn.is_answered().await);
    // A body that comes when the box is not the factory's any more.
    let host = HostSpec {
        name: "late".parse().unwrap(),
        iqn: "iqn.2026-11.org.example:late".to_owned().try_into().ok(),
        nqn: None,
        wwpns: Default::default(),
        authentication: Authentication::None,
        dhchap: Default::default(),
        secrets: Default::default(),
    };
    let path = format!("/v1/hosts/{}", Uuid::new_v4());
    let late = stubborn.ask("PUT", &path, false).await;
    seal(&appliance).await;
    let body = ashlar_codec::to_vec(&host).unwrap();
    stubborn.give(late, &body).await;
    stubborn.ask("GET", "/v1/system", true).await;
    assert!(!stubborn.is_answered().await);
    within(stubborn.end()).await;
    let owner = owner(&appliance);
    value(stranger(&appliance).identity_claim(&claim(&owner)).await);
    let admin = client(&appliance, &owner, "admin");
    assert_eq!(admin.host_list().await.unwrap(), []);
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_is_sealed_with_what_proves_who_it_is_and_nothing_else() {
    let appliance = Appliance::seeded(SERIAL).await;
    let station = appliance.station("admin");
    let request = value(station.identity_request(&RequestSpec::default()).await).request;
    let (_, issuer) = signer(&appliance.pki);
    let another = idevid().signed_by(&KeyPair::generate().unwrap(), &issuer);
    let strangers = Directory::at(appliance.dir.path().join("strangers"));
    strangers.init("strangers", Validity::days(1)).unwrap();
    let mut expired = idevid();
    expired.not_after = OffsetDateTime::now_utc() - DAY;
    let mut for_clients = idevid();
    for_clients.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let name = &*device_name();
    let signed = |params| signed(&appliance.pki, &request, params);
    let of_strangers = self::signed(&strangers, &request, idevid());
    for (certificates, why) in [
        (pem(another.unwrap().pem()), "another key"),
        (signed(named("x", None, &[name])), "serialNumber"),
        (signed(named("x", Some("AX-9"), &[name])), "serialNumber"),
        (signed(named("x", Some(SERIAL), &["box"])), "did not sign"),
        (of_strangers, "did not sign"),
        (signed(expired), "did not sign"),
        (signed(for_clients), "did not sign"),
        (request.clone(), "no certificate"),
    ] {
        let claim = secret().digest(&SERIAL.parse().unwrap());
        let spec = SealSpec {
            certificates,
            claim,
        };
        refused(station.identity_seal(&spec).await, why);
    }
    // Nor with what its next owner would not know of.
    let made = station.pool_create(Uuid::new_v4(), &pool()).await;
    made.unwrap();
    let spec = SealSpec {
        certificates: signed(idevid()),
        claim: secret().digest(&SERIAL.parse().unwrap()),
    };
    let used = station.identity_seal(&spec).await;
    assert_eq!(code(used), ProblemCode::InUse);
    assert_eq!(station.identity_show().await.unwrap().phase, Phase::Factory);
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owners_certificate_is_kept_once_a_client_has_come_by_it() {
    let (mut appliance, owner) = claimed().await;
    let admin = client(&appliance, &owner, "admin");
    let names = vec!["127.0.0.1".parse().unwrap()];
    let spec = RequestSpec { names };
    let request = value(admin.identity_request(&spec).await).request;
    let again = value(admin.identity_request(&spec).await).request;
    assert_eq!(key(&request), key(&again));
    let params = || named("box1", None, &["127.0.0.1"]);
    let install = InstallSpec {
        certificates: signed(&owner, &request, params()),
    };
    let device = admin.identity_show().await.unwrap().certificate;

    // Nobody comes by it before the power goes: who asks for the device gets its certificate.
    value(admin.identity_install(&install).await);
    let still = client(&appliance, &owner, "admin");
    still.identity_show().await.unwrap();
    appliance = appliance.restart().await;
    let admin = client(&appliance, &owner, "admin");
    assert_eq!(admin.identity_show().await.unwrap().certificate, device);

    value(admin.identity_install(&install).await);
    let (own, ca) = (owner.paths("admin"), owner.paths("ca").certificate);
    let identity = Identity::from_files(&own.certificate, &own.key, &ca).unwrap();
    // A reader takes it, on whom it does not depend.
    let reader = owner.paths("reader");
    let reader = Identity::from_files(&reader.certificate, &reader.key, &ca).unwrap();
    let reader = Client::new(appliance.endpoint(), &reader);
    reader.identity_show().await.unwrap();
    let waits = appliance.dir.path().join("identity/request.key");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(waits.exists());
    let comes = Client::new(appliance.endpoint(), &identity);
    let shown = comes.identity_show().await.unwrap();
    assert_eq!(shown.certificate.subject, "CN=box1");
    assert_eq!(shown.device.as_ref(), Some(&device));
    // It is kept behind the client's back: the request's key goes last.
    let gone = async {
        while waits.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(gone).await;
    appliance = appliance.restart().await;
    let comes = Client::new(appliance.endpoint(), &identity);
    let kept = comes.identity_show().await.unwrap();
    assert_eq!(kept.certificate, shown.certificate);

    // The next one is for another key, and what does not fit changes nothing.
    let next = value(comes.identity_request(&RequestSpec::default()).await).request;
    assert_ne!(key(&next), key(&request));
    let mut expired = params();
    expired.not_after = OffsetDateTime::now_utc() - DAY;
    let mut future = params();
    future.not_before = OffsetDateTime::now_utc() + DAY;
    let good = signed(&owner, &next, params());
    let below = |above: &Directory| pem(format!("{}{}", good.as_str(), signer(above).0));
    for (certificates, why) in [
        (signed(&owner, &request, params()), "key"),
        (signed(&owner, &next, expired), "has expired"),
        (signed(&owner, &next, future), "not valid yet"),
        (below(&appliance.pki), "not signed by the next"),
        (next.clone(), "no certificate"),
    ] {
        let spec = InstallSpec { certificates };
        refused(comes.identity_install(&spec).await, why);
    }
    let certificates = below(&owner);
    let next = InstallSpec { certificates };
    value(comes.identity_install(&next).await);
    // What is on trial is given up for the former one, which needs none.
    value(comes.identity_install(&install).await);
    let former = Client::new(appliance.endpoint(), &identity);
    let former = former.identity_show().await.unwrap().certificate;
    assert_eq!(former, shown.certificate);
    // By the name of the device, it is the device to the end.
    let device_again = client(&appliance, &owner, "admin");
    device_again.system_show().await.unwrap();
    appliance.stop().await;
}

/// What should not take long, and does not take for ever.
async fn within<T>(what: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, what).await.expect("in time")
}

/// The digest of a client's key.
fn digest(owner: &Directory, name: &str) -> Sha256 {
    use sha2::Digest;
    let own = CertificateDer::from_pem_file(owner.paths(name).certificate).unwrap();
    let (_, own) = x509_parser::parse_x509_certificate(&own).unwrap();
    <[u8; 32]>::from(sha2::Sha256::digest(own.public_key().raw)).into()
}

/// A list of these clients' certificates. The next one is late, and it counts all the same.
fn list(owner: &Directory, number: u64, revoked: &[&str]) -> Pem {
    list_of(owner, number, revoked, None)
}

fn list_of(owner: &Directory, number: u64, revoked: &[&str], part: Option<&str>) -> Pem {
    let now = OffsetDateTime::now_utc();
    let revoked = revoked.iter().map(|name| {
        let own = CertificateDer::from_pem_file(owner.paths(name).certificate).unwrap();
        let (_, own) = x509_parser::parse_x509_certificate(&own).unwrap();
        RevokedCertParams {
            serial_number: SerialNumber::from_slice(own.raw_serial()),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        }
    });
    let params = CertificateRevocationListParams {
        this_update: now - 2 * DAY,
        next_update: now - DAY,
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: part.map(|uri| CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint {
                uris: vec![uri.to_owned()],
            },
            scope: None,
        }),
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    pem(params.signed_by(&signer(owner).1).unwrap().pem().unwrap())
}

fn lists(list: Pem) -> TrustUpdate {
    TrustUpdate {
        lists: Some(list),
        ..TrustUpdate::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_revoked_is_cut_off_and_stays_out() {
    let (mut appliance, owner) = claimed().await;
    let admin = client(&appliance, &owner, "admin");
    let other = client(&appliance, &owner, "other");
    let reader = client(&appliance, &owner, "reader");
    let mut watching = other.event_stream(None).await.unwrap();
    reader.system_show().await.unwrap();

    let first = lists(list(&owner, 1, &["other"]));
    let planned = TrustUpdate {
        dry_run: true,
        ..first.clone()
    };
    let told = value(admin.trust_update(&planned).await);
    assert_eq!(told.cut, ["CN=other"]);
    assert_eq!(told.trust.lists[0].number, "1");
    assert!(admin.trust_show().await.unwrap().lists.is_empty());

    let told = value(admin.trust_update(&first).await);
    assert_eq!(told.cut, ["CN=other"]);
    // Its stream, which would have no end, breaks.
    within(async { while watching.next().await.is_ok() {} }).await;
    assert!(is_shut_out(&other).await);
    reader.system_show().await.unwrap();
    assert_eq!(
        (reader.connections_made(), admin.connections_made()),
        (1, 1)
    );

    // Older lists, others' lists, and those that would shut out whoever brings them.
    let strangers = Directory::at(appliance.dir.path().join("strangers"));
    strangers.init("owner CA", Validity::days(1)).unwrap();
    for (list, why) in [
        (list(&owner, 1, &[]), "has number 1 here, and this is 1"),
        (list(&owner, 0, &[]), "has number 1 here, and this is 0"),
        (list(&strangers, 9, &[]), "no authority has signed"),
        (list(&owner, 2, &["other", "admin"]), "not be let in"),
        (pem(signer(&owner).0), "no revocation list"),
        (
            list_of(&owner, 9, &[], Some("http://example.org/1")),
            "not all that it revokes",
        ),
    ] {
        refused(admin.trust_update(&lists(list)).await, why);
    }
    value(admin.trust_update(&first).await);
    appliance = appliance.restart().await;
    assert!(is_shut_out(&client(&appliance, &owner, "other")).await);
    let admin = client(&appliance, &owner, "admin");
    assert_eq!(admin.trust_show().await.unwrap().lists[0].revoked, 1);
    value(admin.trust_update(&lists(list(&owner, 2, &[]))).await);
    let other = client(&appliance, &owner, "other");
    other.system_show().await.unwrap();
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_denied_whatever_certificate_they_have() {
    let (appliance, owner) = claimed().await;
    let admin = client(&appliance, &owner, "admin");
    let other = client(&appliance, &owner, "other");
    other.system_show().await.unwrap();
    let update = |deny: &[&str], allow: &[&str]| TrustUpdate {
        deny: deny.iter().map(|name| digest(&owner, name)).collect(),
        allow: allow.iter().map(|name| digest(&owner, name)).collect(),
        ..TrustUpdate::default()
    };
    // Not even while nothing else may be changed does anybody stay who must not.
    let spec = FreezeSpec { reason: None };
    value(admin.system_freeze(&spec).await);
    let told = value(admin.trust_update(&update(&["other"], &[])).await);
    assert_eq!(told.cut, ["CN=other"]);
    assert_eq!(told.trust.denied, [digest(&owner, "other")]);
    assert!(is_shut_out(&other).await);
    value(admin.system_thaw().await);

    // Another certificate for the key, as its authority may make one.
    let own = owner.paths("other");
    let key = KeyPair::from_pem(&std::fs::read_to_string(&own.key).unwrap()).unwrap();
    let mut params = named("other again", None, &[]);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let role = Role::Admin.uri();
    params.subject_alt_names = vec![SanType::URI(role.try_into().unwrap())];
    let again = params.signed_by(&key, &signer(&owner).1).unwrap().pem();
    let file = appliance.dir.path().join("again.pem");
    std::fs::write(&file, again).unwrap();
    let maker = appliance.pki.paths("ca").certificate;
    let identity = Identity::from_files(&file, &own.key, &maker).unwrap();
    let again = Client::new(as_device(&appliance), &identity);
    assert!(is_shut_out(&again).await);

    // A request of its that has waited since before does nothing any more.
    let chain = CertificateDer::pem_file_iter(&own.certificate).unwrap();
    let chain: Vec<_> = chain.map(Result::unwrap).collect();
    let late = appliance
        .own
        .update_trust(update(&[], &["other"]), chain.into());
    assert_eq!(late.await.unwrap_err().code, ProblemCode::Forbidden);

    let oneself = admin.trust_update(&update(&["admin"], &[])).await;
    refused(oneself, "not be let in");
    let authority = admin.trust_update(&update(&["ca"], &[])).await;
    refused(authority, "an authority's key");
    value(admin.trust_update(&update(&[], &["other"])).await);
    other.system_show().await.unwrap();
    let keys = |from: u16| {
        let numbers = (from..from + 600).map(u16::to_be_bytes);
        let all = numbers.map(|[high, low]| {
            let mut key = [0; 32];
            (key[0], key[1]) = (high, low);
            Sha256::from(key)
        });
        TrustUpdate {
            deny: all.collect(),
            ..TrustUpdate::default()
        }
    };
    value(admin.trust_update(&keys(0)).await);
    let many = admin.trust_update(&keys(600)).await;
    assert_eq!(code(many), ProblemCode::OutOfRange);
    appliance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_comes_in_beside_another_and_takes_over() {
    let (appliance, first) = claimed().await;
    let admin = client(&appliance, &first, "admin");
    let other = client(&appliance, &first, "other");
    other.system_show().await.unwrap();
    let second = Directory::at(appliance.dir.path().join("second"));
    second.init("second CA", Validity::days(1)).unwrap();
    let profile = Profile::Client {
        role: Some(Role::Admin),
    };
    second.issue("admin", &profile, Validity::days(1)).unwrap();
    let update = |of: &[&Directory]| TrustUpdate {
        authorities: Some(pem(of.iter().map(|pki| signer(pki).0).collect())),
        ..TrustUpdate::default()
    };
    let oneself = admin.trust_update(&update(&[&second])).await;
    refused(oneself, "not be let in");
    // The lists of two of one name would be taken for those of both.
    let namesake = Directory::at(appliance.dir.path().join("namesake"));
    namesake.init("owner CA", Validity::days(1)).unwrap();
    let both = admin.trust_update(&update(&[&first, &namesake])).await;
    refused(both, "two of the name");
    // One that has expired does not come in, and one that was there is no hindrance.
    let old = Directory::at(appliance.dir.path().join("old"));
    let soon = OffsetDateTime::now_utc() + time::Duration::seconds(3);
    old.init("old CA", Validity::until(soon)).unwrap();
    value(admin.trust_update(&update(&[&first, &old])).await);
    while OffsetDateTime::now_utc() <= soon + time::Duration::seconds(1) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    value(admin.trust_update(&lists(list(&first, 1, &[]))).await);
    value(admin.trust_update(&update(&[&first, &second])).await);
    let back = admin.trust_update(&update(&[&first, &second, &old])).await;
    refused(back, "has expired");
    let heir = client(&appliance, &second, "admin");
    let told = value(heir.trust_update(&update(&[&second])).await);
    assert_eq!(told.cut, ["CN=admin", "CN=other"]);
    assert!(told.trust.lists.is_empty());
    // Another of the first one's name begins to count anew.
    let other_first = TrustUpdate {
        lists: Some(list(&namesake, 1, &[])),
        ..update(&[&second, &namesake])
    };
    let told = value(heir.trust_update(&other_first).await);
    assert_eq!(told.trust.lists[0].number, "1");
    assert!(is_shut_out(&admin).await && is_shut_out(&other).await);
    appliance.stop().await;
}
