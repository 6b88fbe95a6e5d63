//! Identities without a network: what is durable, what time does to it, and who is turned away.

mod adopted;
mod asked_again;
mod clock;

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use calvin_model::{InstanceId, OperatorRole};
use calvin_proto::transport::{PeerCertificate, PeerInfo, Shown, new_key, signing_request};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::*;

const HOUR: u64 = 3600;

struct Bench {
    data: tempfile::TempDir,
    /// Seconds since 1970.
    clock: Arc<AtomicU64>,
    identity: Identity,
}

fn open(data: &Path, clock: &Arc<AtomicU64>) -> Identity {
    let database = Arc::new(Database::open(&data.join("store.redb")).unwrap());
    let clock = Arc::clone(clock);
    let now: Now = Arc::new(move || {
        SystemTime::UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::SeqCst))
    });
    let options = IdentityOptions::new(
        "test".parse().unwrap(),
        data.to_owned(),
        vec!["127.0.0.1:7001".parse().unwrap()],
    );
    Identity::open(options, database, now).unwrap()
}

impl Bench {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicU64::new(1_900_000_000));
        let identity = open(data.path(), &clock);
        Self {
            data,
            clock,
            identity,
        }
    }

    fn restart(self) -> Self {
        let Self {
            data,
            clock,
            identity,
        } = self;
        drop(identity);
        let identity = open(data.path(), &clock);
        Self {
            data,
            clock,
            identity,
        }
    }

    fn pass(&self, seconds: u64) {
        self.clock.fetch_add(seconds, Ordering::SeqCst);
    }

    fn token(&self, instance: &str) -> String {
        self.identity
            .join_token(&"web".parse().unwrap(), &id(instance), 1)
            .unwrap()
    }

    fn enrol(&self, instance: &str, token: &str, key: &str) -> Result<Enrolled, EnrolError> {
        self.identity.enrol(&EnrolClaim {
            environment: "test",
            instance,
            token,
            csr_der: &signing_request(key).unwrap(),
        })
    }

    fn enrolled(&self, instance: &str) -> Enrolled {
        self.enrol(instance, &self.token(instance), &new_key().unwrap())
            .unwrap()
    }

    fn audit(&self) -> Vec<AuditEntry> {
        let text = fs::read_to_string(self.data.path().join("audit.log")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn operator(&self, name: &str, role: OperatorRole) -> PeerInfo {
        let csr = signing_request(&new_key().unwrap()).unwrap();
        let added = self
            .identity
            .add_operator(&name.parse().unwrap(), role, &csr, None, "local:0")
            .unwrap();
        peer(&added.certificate_pem)
    }

    /// What the caller of the operator service is told, and the words of the audit meanwhile.
    fn call(&self, peer: &PeerInfo, needed: OperatorRole) -> (Result<Caller, String>, Vec<String>) {
        let before = self.audit().len();
        let mut request = tonic::Request::new(());
        request.extensions_mut().insert(peer.clone());
        let called = self.identity.call(&request, needed).judge();
        let words = self.audit().split_off(before);
        (
            called.map_err(|status| status.message().to_owned()),
            words.into_iter().map(|entry| entry.what).collect(),
        )
    }
}

fn id(instance: &str) -> InstanceId {
    instance.parse().unwrap()
}

fn peer(certificate_pem: &str) -> PeerInfo {
    let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).unwrap();
    let certificate = PeerCertificate::parse(&der).unwrap();
    PeerInfo {
        address: SocketAddr::from(([127, 0, 0, 1], 4)),
        shown: Shown::Certificate(Arc::new(certificate)),
    }
}

fn word(result: Result<Enrolled, EnrolError>) -> &'static str {
    match result {
        Err(EnrolError::Refused(refusal)) => refusal.word(),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn keys_are_private_and_what_is_durable_survives_a_restart() {
    let bench = Bench::new();
    let token = bench.token("web-a");
    let key = new_key().unwrap();
    let first = bench.enrol("web-a", &token, &key).unwrap();
    let ann = bench.operator("ann", OperatorRole::Operator);
    for file in ["ca/ca-1.key", "ca/token.key", "audit.log"] {
        let metadata = fs::metadata(bench.data.path().join(file)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{file}");
    }
    let store = fs::read(bench.data.path().join("store.redb")).unwrap();
    let holds_token = store
        .windows(token.len())
        .any(|window| window == token.as_bytes());
    assert!(!holds_token, "the token itself is stored");

    let bench = bench.restart();
    assert_eq!(bench.token("web-a"), token);
    let again = bench.enrol("web-a", &token, &key).unwrap();
    assert_eq!(again.certificate_pem, first.certificate_pem);
    assert_eq!(again.ca_pem, first.ca_pem);
    assert!(bench.call(&ann, OperatorRole::Operator).0.is_ok());
}

#[test]
fn a_ca_key_that_others_may_read_is_refused() {
    let bench = Bench::new();
    let key = bench.data.path().join("ca/ca-1.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let Bench {
        data,
        clock,
        identity,
    } = bench;
    drop(identity);
    let database = Arc::new(Database::open(&data.path().join("store.redb")).unwrap());
    let options = IdentityOptions::new("test".parse().unwrap(), data.path().to_owned(), vec![]);
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::SeqCst));
    let error = Identity::open(options, database, Arc::new(move || at)).unwrap_err();
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

#[test]
fn names_come_from_the_coordinator_and_time_from_its_clock() {
    let bench = Bench::new();
    let enrolled = bench.enrolled("web-a");
    let info = peer(&enrolled.certificate_pem);
    let Shown::Certificate(certificate) = &info.shown else {
        panic!("no certificate");
    };
    assert_eq!(
        certificate.identity.to_string(),
        "spiffe://test/fleet/web/instance/web-a"
    );
    let now = bench.identity.now();
    assert_eq!(certificate.not_before, now - BACKDATED);
    assert_eq!(certificate.not_after, now + CERTIFICATE_LIFE);
    let half = Duration::from_secs(12 * HOUR);
    assert!(enrolled.renew_after <= half && enrolled.renew_after > half * 3 / 4);
}

#[test]
fn only_the_first_key_spends_a_token_and_another_raises_an_alarm() {
    let bench = Bench::new();
    let token = bench.token("web-a");
    bench.enrol("web-a", &token, &new_key().unwrap()).unwrap();
    assert!(bench.identity.alarms().is_empty());
    let thief = bench.enrol("web-a", &token, &new_key().unwrap());
    assert_eq!(word(thief), "token_spent");
    let bench = bench.restart();
    assert!(bench.identity.alarms()[&id("web-a")].contains("another key"));
}

#[test]
fn a_token_that_is_forged_foreign_or_expired_is_refused_and_spends_nothing() {
    let bench = Bench::new();
    let (mine, other) = (bench.token("web-a"), bench.token("web-b"));
    assert_ne!(mine, other);
    let key = new_key().unwrap();
    assert_eq!(
        word(bench.enrol("web-a", &"a".repeat(64), &key)),
        "token_forged"
    );
    assert_eq!(word(bench.enrol("web-a", "", &key)), "token_forged");
    assert_eq!(word(bench.enrol("web-a", &other, &key)), "token_foreign");
    assert_eq!(word(bench.enrol("web-c", &mine, &key)), "instance_unknown");
    assert_eq!(word(bench.enrol("../web", &mine, &key)), "instance_unknown");
    let foreign = EnrolClaim {
        environment: "prod",
        instance: "web-a",
        token: &mine,
        csr_der: &signing_request(&key).unwrap(),
    };
    assert_eq!(word(bench.identity.enrol(&foreign)), "environment_foreign");
    let garbage = EnrolClaim {
        environment: "test",
        csr_der: b"garbage",
        ..foreign
    };
    assert_eq!(word(bench.identity.enrol(&garbage)), "request_not_valid");
    bench.enrol("web-b", &other, &key).unwrap();
    bench.pass(HOUR);
    assert_eq!(word(bench.enrol("web-a", &mine, &key)), "token_expired");
    // Asked for again by the provider, it is the same and good again.
    assert_eq!(bench.token("web-a"), mine);
    bench.enrol("web-a", &mine, &key).unwrap();
}

#[test]
fn an_expired_certificate_may_renew_and_a_retired_instance_may_nothing() {
    let bench = Bench::new();
    let info = peer(&bench.enrolled("web-a").certificate_pem);
    let csr = signing_request(&new_key().unwrap()).unwrap();
    bench.pass(24 * HOUR);
    let refusal = bench
        .identity
        .instance(&info, Expired::Refused)
        .unwrap_err();
    assert_eq!(refusal.word(), "certificate_expired");
    bench.pass(1000 * HOUR);
    let renewed = bench.identity.renew(&info, &csr).unwrap();
    let info = peer(&renewed.certificate_pem);
    assert!(bench.identity.instance(&info, Expired::Refused).is_ok());

    bench.identity.revoke(&id("web-a")).unwrap();
    assert_eq!(word(bench.identity.renew(&info, &csr)), "instance_retired");
    let token = bench.token("web-a");
    let again = bench.enrol("web-a", &token, &new_key().unwrap());
    assert_eq!(word(again), "instance_retired");
    let bench = bench.restart();
    assert_eq!(word(bench.identity.renew(&info, &csr)), "instance_retired");
}

#[test]
fn a_lost_renewal_may_be_asked_for_again_but_an_older_certificate_raises_an_alarm() {
    let bench = Bench::new();
    let csr = || signing_request(&new_key().unwrap()).unwrap();
    let first = peer(&bench.enrolled("web-a").certificate_pem);
    // The answer is lost: the same certificate asks again.
    bench.identity.renew(&first, &csr()).unwrap();
    let second = peer(
        &bench
            .identity
            .renew(&first, &csr())
            .unwrap()
            .certificate_pem,
    );
    bench.identity.renew(&second, &csr()).unwrap();
    assert!(bench.identity.alarms().is_empty());
    let stolen = bench.identity.renew(&first, &csr());
    assert_eq!(word(stolen), "certificate_superseded");
    assert!(bench.identity.alarms()[&id("web-a")].contains("two machines"));
}

#[test]
fn an_instance_that_is_over_and_not_kept_is_forgotten() {
    let bench = Bench::new();
    let info = peer(&bench.enrolled("web-a").certificate_pem);
    bench.enrolled("web-b");
    bench.identity.forget(|_| false).unwrap();
    assert!(bench.identity.instance(&info, Expired::Refused).is_ok());
    bench.pass(25 * HOUR);
    bench.identity.forget(|one| *one == id("web-b")).unwrap();
    let bench = bench.restart();
    let refusal = bench
        .identity
        .instance(&info, Expired::MayRenew)
        .unwrap_err();
    assert_eq!(refusal.word(), "instance_unknown");
    assert_eq!(bench.identity.state().instances.len(), 1);
}

#[test]
fn after_a_rotation_both_cas_are_trusted_until_all_have_shown_a_new_certificate() {
    let bench = Bench::new();
    let info = peer(&bench.enrolled("web-a").certificate_pem);
    let waiting = bench.token("web-b");
    let rotated = bench.identity.rotate_ca("ann").unwrap();
    assert_eq!((rotated.trusted.len(), rotated.not_renewed), (2, 2));
    let server = bench.identity.state().server_authority();
    let oldest = bench.identity.state().authority.oldest().key_id.clone();
    assert_eq!(
        server, oldest,
        "a machine that was away trusts only the oldest"
    );

    let csr = signing_request(&new_key().unwrap()).unwrap();
    let renewed = bench.identity.renew(&info, &csr).unwrap();
    bench.identity.maintain().unwrap();
    // One machine has not enrolled yet, and knows only the old CA from its first-boot data.
    assert_eq!(bench.identity.ca().trusted.len(), 2);
    let bench = bench.restart();
    assert_eq!(bench.identity.ca().trusted.len(), 2);
    let enrolled = bench.enrol("web-b", &waiting, &new_key().unwrap()).unwrap();
    bench.identity.maintain().unwrap();
    // Both answers may still be lost on their way; then the old certificate, and the first-boot
    // data, are all that the machines have.
    let ca = bench.identity.ca();
    assert_eq!((ca.trusted.len(), ca.not_renewed), (2, 2));
    for (name, answer) in [("web-a", &renewed), ("web-b", &enrolled)] {
        assert_eq!(bench.identity.ca().trusted.len(), 2, "before {name}");
        let (instance, shown) = bench
            .identity
            .instance(&peer(&answer.certificate_pem), Expired::Refused)
            .unwrap();
        assert!(bench.identity.is_first_use(&instance, &shown));
        bench.identity.note_use(&instance, &shown).unwrap();
        assert!(!bench.identity.is_first_use(&instance, &shown));
    }
    let ca = bench.identity.ca();
    assert_eq!((ca.trusted.len(), ca.not_renewed), (1, 0));
    assert_eq!(ca.trusted[0], rotated.trusted[0]);
    let state = bench.identity.state();
    assert_eq!(state.server_authority(), state.authority.newest().key_id);
    drop(state);
    assert!(!bench.data.path().join("ca/ca-1.key").exists());
    assert_eq!(
        bench.identity.trust().borrow().ca_pem,
        bench.identity.ca_pem()
    );
    let words: Vec<_> = bench.audit().into_iter().map(|entry| entry.what).collect();
    assert_eq!(words, ["ca_rotated", "ca_dropped"]);
}

#[test]
fn a_retired_instance_and_a_revoked_operator_keep_no_old_ca() {
    let bench = Bench::new();
    bench.enrolled("web-a");
    bench.operator("ann", OperatorRole::Admin);
    let rotated = bench.identity.rotate_ca("local:0").unwrap();
    assert_eq!(rotated.operators, ["ann"]);
    bench.identity.revoke(&id("web-a")).unwrap();
    assert_eq!(bench.identity.ca().trusted.len(), 2);
    bench
        .identity
        .revoke_operator(&"ann".parse().unwrap(), "local:0")
        .unwrap();
    assert_eq!(bench.identity.ca().trusted.len(), 1);
}

#[test]
fn the_cas_that_may_be_trusted_at_once_are_bounded() {
    let bench = Bench::new();
    bench.enrolled("web-a");
    let mut rotations = 0;
    let error = loop {
        let ca = format!("web-{rotations}x");
        bench.enrolled(&format!("w{ca}"));
        match bench.identity.rotate_ca("ann") {
            Ok(_) => rotations += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(rotations, 7);
    assert!(error.to_string().contains("trusted already"), "{error}");
    assert!(bench.identity.ca_pem().len() <= calvin_proto::limits::CA_PEM_BYTES);
}

#[test]
fn every_refusal_of_the_operator_service_is_told_and_leaves_one_line() {
    let bench = Bench::new();
    let viewer = bench.operator("vic", OperatorRole::Viewer);
    let (caller, audit) = bench.call(&viewer, OperatorRole::Viewer);
    assert_eq!(caller.unwrap().name, "vic");
    assert!(audit.is_empty());

    let (told, audit) = bench.call(&viewer, OperatorRole::Admin);
    assert_eq!(
        told.unwrap_err(),
        "this needs the role admin; vic has viewer"
    );
    assert_eq!(audit, ["role_too_low"]);

    let instance = peer(&bench.enrolled("web-a").certificate_pem);
    let (told, audit) = bench.call(&instance, OperatorRole::Viewer);
    assert!(told.unwrap_err().contains("only operators"));
    assert_eq!(audit, ["not_an_operator"]);

    let nobody = PeerInfo {
        shown: Shown::Nothing,
        ..viewer.clone()
    };
    assert_eq!(
        bench.call(&nobody, OperatorRole::Viewer).1,
        ["certificate_missing"]
    );

    let foreign = Bench::new().operator("vic", OperatorRole::Viewer);
    // Of another CA it would not pass the handshake; with a serial that is not on record it is
    // refused all the same.
    assert_eq!(
        bench.call(&foreign, OperatorRole::Viewer).1,
        ["operator_revoked"]
    );

    let newer = bench.operator("vic", OperatorRole::Operator);
    assert_eq!(
        bench.call(&viewer, OperatorRole::Viewer).1,
        ["operator_revoked"]
    );
    assert!(bench.call(&newer, OperatorRole::Operator).0.is_ok());
    bench
        .identity
        .revoke_operator(&"vic".parse().unwrap(), "ann")
        .unwrap();
    assert_eq!(
        bench.call(&newer, OperatorRole::Viewer).1,
        ["operator_revoked"]
    );

    let eve = bench.operator("eve", OperatorRole::Admin);
    bench.pass(91 * 24 * HOUR);
    assert_eq!(
        bench.call(&eve, OperatorRole::Viewer).1,
        ["certificate_expired"]
    );
}

#[test]
fn a_request_that_carries_nothing_of_its_connection_is_refused() {
    let bench = Bench::new();
    let status = bench
        .identity
        .call(&tonic::Request::new(()), OperatorRole::Viewer)
        .judge()
        .unwrap_err();
    assert_eq!(
        status.metadata().get(REASON_HEADER).unwrap(),
        "peer_unknown"
    );
    assert_eq!(bench.audit().len(), 1);
}

#[test]
fn every_word_of_the_audit_is_documented() {
    // The words stand in one place, as string literals of `Refusal::word`.
    let source = include_str!("refusal.rs");
    let documented = include_str!("../../docs/identity.md");
    let words: Vec<&str> = source
        .split("=> \"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(words.len() > 20, "{words:?}");
    for word in words {
        assert!(documented.contains(&format!("`{word}`")), "{word}");
    }
}
