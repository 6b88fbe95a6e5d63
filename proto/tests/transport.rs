//! The transport over real TLS on loopback: who gets in, what the server knows of them, and what
//! those who do not get in are told.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use calvin_proto::{
    limits,
    transport::{
        HandshakeRefused, PeerInfo, Shown, Trusted, client_config, connect, coordinator_dns_name,
        incoming, new_key, server_builder, server_config, services,
    },
    wire::{EnrolReply, EnrolRequest, RenewRequest, enrolment_server::Enrolment},
};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use tokio::{io::AsyncReadExt as _, net::TcpListener, time::timeout};
use tonic::{Request, Response, Status};

const DEADLINE: Duration = Duration::from_secs(20);

struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    fn issue(&self, sans: Vec<SanType>, usage: ExtendedKeyUsagePurpose, ends: i64) -> Identity {
        self.issue_at(SystemTime::now(), sans, usage, ends)
    }

    /// A certificate as it was made when the clock said `now`.
    fn issue_at(
        &self,
        now: SystemTime,
        sans: Vec<SanType>,
        usage: ExtendedKeyUsagePurpose,
        ends: i64,
    ) -> Identity {
        let key_pem = new_key().unwrap();
        let key = KeyPair::from_pem(&key_pem).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = sans;
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        params.not_before = (now - Duration::from_secs(7200)).into();
        params.not_after = if ends < 0 {
            (now - Duration::from_secs(ends.unsigned_abs())).into()
        } else {
            (now + Duration::from_secs(ends.unsigned_abs())).into()
        };
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            certificate: certificate.pem(),
            key: key_pem,
        }
    }

    fn client(&self, uri: &str, ends: i64) -> Identity {
        let sans = vec![SanType::URI(uri.try_into().unwrap())];
        self.issue(sans, ExtendedKeyUsagePurpose::ClientAuth, ends)
    }

    fn server(&self) -> rustls::ServerConfig {
        self.server_at(SystemTime::now())
    }

    fn server_at(&self, now: SystemTime) -> rustls::ServerConfig {
        let name = coordinator_dns_name(&"test".parse().unwrap());
        let sans = vec![SanType::DnsName(name.try_into().unwrap())];
        let identity = self.issue_at(now, sans, ExtendedKeyUsagePurpose::ServerAuth, 3600);
        let trusted = Trusted::from_pem(&self.pem).unwrap();
        server_config(&trusted, &identity.certificate, &identity.key).unwrap()
    }
}

struct Identity {
    certificate: String,
    key: String,
}

/// Says who called.
struct WhoIsIt;

#[tonic::async_trait]
impl Enrolment for WhoIsIt {
    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolReply>, Status> {
        let info = request.extensions().get::<PeerInfo>().unwrap();
        let text = match &info.shown {
            Shown::Nothing => "nothing".to_owned(),
            Shown::Unreadable(error) => error.to_string(),
            Shown::Certificate(peer) => {
                let expired = peer.not_after < SystemTime::now();
                let word = if expired { "expired" } else { "valid" };
                assert_eq!(peer.key.len(), 64);
                assert!(!peer.serial.is_empty() && !peer.authority.is_empty());
                format!("{} {word}", peer.identity)
            }
        };
        Ok(Response::new(EnrolReply {
            certificate_pem: text,
            ..EnrolReply::default()
        }))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<EnrolReply>, Status> {
        Err(Status::unimplemented("not asked here"))
    }
}

struct TestServer {
    address: SocketAddr,
    config: Arc<ArcSwap<rustls::ServerConfig>>,
    refused: Arc<Mutex<Vec<HandshakeRefused>>>,
    _task: tokio::task::JoinHandle<()>,
}

impl TestServer {
    async fn start(ca: &Ca) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = Arc::new(ArcSwap::from_pointee(ca.server()));
        let refused = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&refused);
        let incoming = incoming(
            listener,
            Arc::clone(&config),
            Arc::new(move |refusal| record.lock().unwrap().push(refusal)),
        );
        let task = tokio::spawn(async move {
            server_builder(limits::AGENT_STREAMS)
                .add_service(services::enrolment_server(WhoIsIt))
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        Self {
            address,
            config,
            refused,
            _task: task,
        }
    }

    /// Who the server says we are, or why we did not get there.
    async fn ask(&self, ca: &Ca, identity: Option<&Identity>) -> Result<String, String> {
        let trusted = Trusted::from_pem(&ca.pem).unwrap();
        let identity = identity.map(|own| (own.certificate.as_str(), own.key.as_str()));
        let config = Arc::new(client_config(&trusted, identity).unwrap());
        let name = coordinator_dns_name(&"test".parse().unwrap());
        let channel = match connect(self.address, &name, config).await {
            Ok(channel) => channel,
            Err(error) => return Err(error.explain().unwrap_or_else(|| format!("{error:?}"))),
        };
        let reply = services::enrolment_client(channel)
            .enrol(EnrolRequest::default())
            .await
            .map_err(|status| format!("{status:?}"))?;
        Ok(reply.into_inner().certificate_pem)
    }

    fn refusals(&self) -> Vec<String> {
        let refused = self.refused.lock().unwrap();
        refused
            .iter()
            .map(|refusal| refusal.reason.clone())
            .collect()
    }

    async fn wait_for_refusals(&self, count: usize) -> Vec<String> {
        let wait = async {
            while self.refusals().len() < count {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, wait).await.expect("refusals in time");
        self.refusals()
    }
}

const WEB: &str = "spiffe://test/fleet/web/instance/web-abcdefgh";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_knows_who_calls_and_whether_the_certificate_has_expired() {
    let ca = Ca::new();
    let server = TestServer::start(&ca).await;
    assert_eq!(server.ask(&ca, None).await.unwrap(), "nothing");
    let valid = ca.client(WEB, 3600);
    assert_eq!(
        server.ask(&ca, Some(&valid)).await.unwrap(),
        format!("{WEB} valid")
    );
    let expired = ca.client(WEB, -60);
    assert_eq!(
        server.ask(&ca, Some(&expired)).await.unwrap(),
        format!("{WEB} expired")
    );
    let stranger = ca.client("https://example.org/", 3600);
    assert!(
        server
            .ask(&ca, Some(&stranger))
            .await
            .unwrap()
            .contains("no instance, operator or coordinator")
    );
    assert!(server.refusals().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_were_made_before_the_clock_was_set_back_still_count() {
    let (ca, foreign) = (Ca::new(), Ca::new());
    let server = TestServer::start(&ca).await;
    let later = SystemTime::now() + Duration::from_secs(5 * 3600);
    let client = |ca: &Ca| {
        let sans = vec![SanType::URI(WEB.try_into().unwrap())];
        ca.issue_at(later, sans, ExtendedKeyUsagePurpose::ClientAuth, 3600)
    };
    // The client's, the server's, and both.
    let identity = client(&ca);
    let seen = format!("{WEB} valid");
    assert_eq!(server.ask(&ca, Some(&identity)).await.unwrap(), seen);
    server.config.store(Arc::new(ca.server_at(later)));
    assert_eq!(server.ask(&ca, None).await.unwrap(), "nothing");
    assert_eq!(server.ask(&ca, Some(&identity)).await.unwrap(), seen);
    // Whose they are counts all the same.
    let reason = server.ask(&foreign, None).await.unwrap_err();
    assert_eq!(reason, "the certificate is not of this environment's CA");
    let stranger = client(&foreign);
    let reason = server.ask(&ca, Some(&stranger)).await.unwrap_err();
    assert!(reason.contains("not of this environment's CA"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_ca_is_refused_with_the_reason_on_both_sides() {
    let (ca, foreign) = (Ca::new(), Ca::new());
    let server = TestServer::start(&ca).await;
    // Repeated: the reason must not be lost to a reset of the connection.
    for count in 1..=20 {
        let identity = foreign.client(WEB, if count % 2 == 0 { 3600 } else { -60 });
        let reason = server.ask(&ca, Some(&identity)).await.unwrap_err();
        assert!(
            reason.contains("the certificate is not of this environment's CA"),
            "{count}: {reason}"
        );
        let seen = server.wait_for_refusals(count).await;
        assert_eq!(seen.len(), count);
        assert_eq!(
            seen[count - 1],
            "the certificate is not of this environment's CA"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_certificate_is_no_client_certificate() {
    let ca = Ca::new();
    let server = TestServer::start(&ca).await;
    let sans = vec![SanType::URI(WEB.try_into().unwrap())];
    let identity = ca.issue(sans, ExtendedKeyUsagePurpose::ServerAuth, 3600);
    let reason = server.ask(&ca, Some(&identity)).await.unwrap_err();
    assert!(reason.starts_with("the other side says: "), "{reason}");
    assert_eq!(
        server.wait_for_refusals(1).await,
        ["the certificate is not made for this use"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_does_not_talk_to_the_server_of_another_environment() {
    let (ca, foreign) = (Ca::new(), Ca::new());
    let server = TestServer::start(&foreign).await;
    let reason = server.ask(&ca, None).await.unwrap_err();
    assert_eq!(reason, "the certificate is not of this environment's CA");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swapped_ca_counts_from_the_next_connection_on() {
    let (old, new) = (Ca::new(), Ca::new());
    let server = TestServer::start(&old).await;
    let identity = old.client(WEB, 3600);
    assert!(server.ask(&old, Some(&identity)).await.is_ok());
    server.config.store(Arc::new(new.server()));
    let reason = server.ask(&new, Some(&identity)).await.unwrap_err();
    assert!(reason.contains("not of this environment's CA"), "{reason}");
    let identity = new.client(WEB, 3600);
    assert!(server.ask(&new, Some(&identity)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_not_tls_are_refused_and_hold_up_nobody() {
    use tokio::io::AsyncWriteExt as _;
    let ca = Ca::new();
    let server = TestServer::start(&ca).await;
    let mut silent = Vec::new();
    for _ in 0..32 {
        silent.push(
            tokio::net::TcpStream::connect(server.address)
                .await
                .unwrap(),
        );
    }
    let mut stream = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut rest))
        .await
        .expect("closed in time")
        .unwrap();
    assert_eq!(
        server.wait_for_refusals(1).await,
        ["the other side does not speak TLS"]
    );
    assert_eq!(server.ask(&ca, None).await.unwrap(), "nothing");
}
