//! The keeper against a coordinator on the real wire.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use calvin_proto::convert::Trust;
use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::*;
use crate::testing::{Ca, Coordinator, Reply, Validity, provision};

const DEADLINE: Duration = Duration::from_secs(20);

struct Running {
    identity: watch::Receiver<Option<Arc<Identity>>>,
    status: watch::Receiver<KeeperStatus>,
    trust: watch::Sender<Option<Trust>>,
    _task: JoinSet<()>,
}

/// A keeper as an agent runs it; dropping it is the agent's end.
fn keep(coordinator: &Coordinator, state: &Path) -> Running {
    let trust = watch::Sender::new(None);
    let provision = provision(&coordinator.ca, coordinator.address);
    let keeper = Keeper::open(provision, state, trust.subscribe()).unwrap();
    let (identity, status) = (keeper.identity(), keeper.status());
    let mut task = JoinSet::new();
    task.spawn(keeper.run());
    Running {
        identity,
        status,
        trust,
        _task: task,
    }
}

impl Running {
    async fn identity(&mut self) -> Arc<Identity> {
        let granted = self.identity.wait_for(Option::is_some);
        let granted = timeout(DEADLINE, granted).await.unwrap().unwrap();
        granted.clone().unwrap()
    }

    async fn another_than(&mut self, old: &Arc<Identity>) -> Arc<Identity> {
        let granted = self.identity.wait_for(|newest| {
            newest
                .as_ref()
                .is_some_and(|newest| newest.sealed.key_pem != old.sealed.key_pem)
        });
        let granted = timeout(DEADLINE, granted).await.unwrap().unwrap();
        granted.clone().unwrap()
    }
}

/// An identity on disk, that is to be renewed in `renew_in_ms`.
fn seal(coordinator: &Coordinator, state: &Path, validity: Validity, renew_in_ms: u64) {
    let (key_pem, certificate_pem) = coordinator.ca.instance(validity);
    let sealed = Sealed {
        format: Sealed::format(),
        key_pem,
        certificate_pem,
        ca_pem: coordinator.ca.pem(),
        coordinators: vec![coordinator.address],
        renew_after_ms: 3_600_000,
        renew_at_ms: crate::clock::wall_ms() + renew_in_ms,
    };
    SealedStore::new(state).seal(&sealed).unwrap();
}

#[tokio::test]
async fn a_token_is_traded_once_and_what_is_sealed_is_used_at_the_next_start() {
    let mut coordinator = Coordinator::start(&[Reply::Grant(Validity::Day)]).await;
    let dir = tempfile::tempdir().unwrap();
    let mut first = keep(&coordinator, dir.path());
    let identity = first.identity().await;
    let asked = coordinator.asked().await;
    assert_eq!((asked.renewal, asked.token.as_str()), (false, "token"));
    let file = dir.path().join("identity.json");
    let mode = std::fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(first);
    let mut second = keep(&coordinator, dir.path());
    let again = second.identity().await;
    assert_eq!(again.sealed, identity.sealed);
    assert!(coordinator.asked.try_recv().is_err(), "nothing was asked");
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_key_also_after_a_restart() {
    let replies = [Reply::Lose, Reply::Lose, Reply::Grant(Validity::Day)];
    let mut coordinator = Coordinator::start(&replies).await;
    let dir = tempfile::tempdir().unwrap();
    let first = keep(&coordinator, dir.path());
    let asked = coordinator.asked().await;
    drop(first);
    let mut second = keep(&coordinator, dir.path());
    second.identity().await;
    let key_of = |csr: &[u8]| {
        let der = rustls_pki_types::CertificateSigningRequestDer::from(csr.to_vec());
        let request = rcgen::CertificateSigningRequestParams::from_der(&der).unwrap();
        rcgen::PublicKeyData::der_bytes(&request.public_key).to_vec()
    };
    let mut repeated = 0;
    while let Ok(again) = coordinator.asked.try_recv() {
        assert_eq!(key_of(&again.csr_der), key_of(&asked.csr_der));
        repeated += 1;
    }
    assert!(repeated >= 2, "{repeated}");
}

#[tokio::test]
async fn a_disk_that_hangs_holds_up_nothing_else() {
    let coordinator = Coordinator::start(&[Reply::Grant(Validity::Day)]).await;
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("pending-key.pem");
    // Opening it for reading waits until somebody opens it for writing.
    nix::unistd::mkfifo(&key, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut running = keep(&coordinator, dir.path());
    // On another thread, so that a keeper that waits on this one fails and does not hang.
    let (waiting, released) = std::sync::mpsc::channel();
    let release = std::thread::spawn(move || {
        let in_time = released.recv_timeout(Duration::from_secs(2)).is_ok();
        std::fs::write(key, "").unwrap();
        in_time
    });
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(running.identity.borrow().is_none());
    waiting.send(()).unwrap();
    running.identity().await;
    assert!(release.join().unwrap(), "the keeper held everything up");
}

#[tokio::test]
async fn a_refused_identity_says_why_and_does_not_flood() {
    let mut coordinator = Coordinator::start(&[Reply::Refuse("the token was used")]).await;
    let dir = tempfile::tempdir().unwrap();
    let mut running = keep(&coordinator, dir.path());
    let refused = running.status.wait_for(|status| status.refused);
    let fault = timeout(DEADLINE, refused)
        .await
        .unwrap()
        .unwrap()
        .fault
        .clone()
        .unwrap();
    assert!(fault.contains("the token was used"), "{fault}");
    coordinator.asked().await;
    // The shortest pause after a refusal is half of five seconds.
    let second = timeout(Duration::from_secs(2), coordinator.asked.recv()).await;
    assert!(second.is_err(), "asked again at once");
}

#[tokio::test]
async fn a_certificate_of_another_instance_is_not_taken() {
    let replies = [Reply::Other, Reply::Grant(Validity::Day)];
    let coordinator = Coordinator::start(&replies).await;
    let dir = tempfile::tempdir().unwrap();
    let mut running = keep(&coordinator, dir.path());
    let seen = running.status.wait_for(|status| status.fault.is_some());
    let fault = timeout(DEADLINE, seen)
        .await
        .unwrap()
        .unwrap()
        .fault
        .clone()
        .unwrap();
    assert!(fault.contains("web-zzzzzzzz"), "{fault}");
    running.identity().await;
}

#[tokio::test]
async fn a_coordinator_of_another_environment_is_not_believed() {
    let coordinator = Coordinator::start(&[Reply::Grant(Validity::Day)]).await;
    let dir = tempfile::tempdir().unwrap();
    let foreign = provision(&Ca::new(), coordinator.address);
    let trust = watch::Sender::new(None);
    let keeper = Keeper::open(foreign, dir.path(), trust.subscribe()).unwrap();
    let mut status = keeper.status();
    let mut task = JoinSet::new();
    task.spawn(keeper.run());
    let seen = status.wait_for(|status| status.fault.is_some());
    let fault = timeout(DEADLINE, seen)
        .await
        .unwrap()
        .unwrap()
        .fault
        .clone()
        .unwrap();
    assert!(fault.contains("not of this environment's CA"), "{fault}");
}

#[tokio::test]
async fn an_expired_and_a_due_identity_are_renewed_with_a_new_key() {
    for (validity, renew_in_ms) in [(Validity::Over, 3_600_000), (Validity::Day, 0)] {
        let mut coordinator = Coordinator::start(&[Reply::Lose, Reply::Grant(Validity::Day)]).await;
        let dir = tempfile::tempdir().unwrap();
        seal(&coordinator, dir.path(), validity, renew_in_ms);
        let mut running = keep(&coordinator, dir.path());
        let old = running.identity().await;
        let new = running.another_than(&old).await;
        assert!(new.not_after() > SystemTime::now());
        assert!(coordinator.asked().await.renewal);
    }
}

#[tokio::test]
async fn a_clock_that_is_far_ahead_does_not_ask_without_a_pause() {
    // Whatever it is given has ended, as its clock sees it.
    let mut coordinator = Coordinator::start(&[Reply::Grant(Validity::Over)]).await;
    let dir = tempfile::tempdir().unwrap();
    let mut running = keep(&coordinator, dir.path());
    running.identity().await;
    coordinator.asked().await;
    let second = timeout(Duration::from_secs(2), coordinator.asked.recv()).await;
    assert!(second.is_err(), "asked again at once");
}

#[tokio::test]
async fn an_identity_on_disk_without_coordinators_is_renewed_where_the_first_boot_says() {
    let mut coordinator = Coordinator::start(&[Reply::Grant(Validity::Day)]).await;
    let dir = tempfile::tempdir().unwrap();
    seal(&coordinator, dir.path(), Validity::Day, 0);
    let store = SealedStore::new(dir.path());
    let mut sealed = store.load().unwrap().unwrap();
    sealed.coordinators.clear();
    store.seal(&sealed).unwrap();
    let mut running = keep(&coordinator, dir.path());
    let old = running.identity().await;
    running.another_than(&old).await;
    assert!(coordinator.asked().await.renewal);
}

#[tokio::test]
async fn a_clock_that_was_set_back_does_not_put_renewal_off_for_ever() {
    let coordinator = Coordinator::start(&[Reply::Grant(Validity::Day)]).await;
    let dir = tempfile::tempdir().unwrap();
    seal(&coordinator, dir.path(), Validity::Day, 1_000_000_000_000);
    let mut running = keep(&coordinator, dir.path());
    let identity = running.identity().await;
    assert!(identity.renew_in(crate::clock::wall_ms()) <= Duration::from_secs(3600));
}

#[tokio::test]
async fn other_coordinators_are_kept_and_broken_certificates_are_not() {
    let mut coordinator = Coordinator::start(&[Reply::Grant(Validity::Day)]).await;
    let dir = tempfile::tempdir().unwrap();
    seal(&coordinator, dir.path(), Validity::Day, 3_600_000);
    let mut running = keep(&coordinator, dir.path());
    running.identity().await;
    let more: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let trust = |ca_pem: &str| {
        Some(Trust {
            ca_pem: ca_pem.to_owned(),
            coordinators: vec![coordinator.address, more],
        })
    };
    running.trust.send_replace(trust("no certificate"));
    running.trust.send_replace(trust(&coordinator.ca.pem()));
    let kept = running.identity.wait_for(|identity| {
        identity
            .as_ref()
            .is_some_and(|identity| identity.coordinators().len() == 2)
    });
    timeout(DEADLINE, kept).await.unwrap().unwrap();
    let on_disk = SealedStore::new(dir.path()).load().unwrap().unwrap();
    assert_eq!(on_disk.coordinators.len(), 2);
    assert!(
        coordinator.asked.try_recv().is_err(),
        "the same CA needs no renewal"
    );
}

#[tokio::test]
async fn a_changed_ca_is_trusted_at_once_and_means_a_new_certificate_soon() {
    let coordinator = Coordinator::start(&[Reply::Grant(Validity::Day)]).await;
    let dir = tempfile::tempdir().unwrap();
    seal(&coordinator, dir.path(), Validity::Day, 3_600_000);
    let mut running = keep(&coordinator, dir.path());
    running.identity().await;
    let both = coordinator.ca.pem() + &Ca::new().pem();
    running.trust.send_replace(Some(Trust {
        ca_pem: both.clone(),
        coordinators: vec![coordinator.address],
    }));
    let kept = running.identity.wait_for(|identity| {
        identity
            .as_ref()
            .is_some_and(|identity| identity.sealed.ca_pem == both)
    });
    let kept = timeout(DEADLINE, kept)
        .await
        .unwrap()
        .unwrap()
        .clone()
        .unwrap();
    let due = kept.renew_in(crate::clock::wall_ms());
    assert!(due <= Duration::from_secs(20), "{due:?}");
}

#[tokio::test]
async fn a_renewal_that_is_refused_asks_where_a_session_says_coordinators_are_now() {
    let old = Coordinator::start(&[Reply::Refuse("not here any more")]).await;
    let mut new = Coordinator::with(old.ca.clone(), &[Reply::Grant(Validity::Day)]).await;
    let dir = tempfile::tempdir().unwrap();
    seal(&old, dir.path(), Validity::Day, 0);
    let mut running = keep(&old, dir.path());
    let identity = running.identity().await;
    let refused = running.status.wait_for(|status| status.refused);
    timeout(DEADLINE, refused).await.unwrap().unwrap();
    running.trust.send_replace(Some(Trust {
        ca_pem: old.ca.pem(),
        coordinators: vec![new.address],
    }));
    // At once: the shortest pause after a refusal is half of five seconds.
    let asked = timeout(Duration::from_secs(2), new.asked.recv()).await;
    assert!(asked.unwrap().unwrap().renewal);
    let renewed = running.another_than(&identity).await;
    assert_eq!(renewed.coordinators(), [new.address]);
}

#[tokio::test]
async fn a_renewal_that_finds_a_strange_coordinator_believes_it_once_its_ca_is_trusted() {
    let old = Coordinator::start(&[Reply::Grant(Validity::Day)]).await;
    // It shows a certificate of the new CA, and would take one of the old.
    let rotated = Coordinator::start(&[Reply::Grant(Validity::Day)]).await;
    let dir = tempfile::tempdir().unwrap();
    seal(&old, dir.path(), Validity::Day, 0);
    let trust = watch::Sender::new(None);
    let provision = provision(&old.ca, rotated.address);
    let sealed = SealedStore::new(dir.path());
    let mut identity = sealed.load().unwrap().unwrap();
    identity.coordinators = vec![rotated.address];
    sealed.seal(&identity).unwrap();
    let keeper = Keeper::open(provision, dir.path(), trust.subscribe()).unwrap();
    let (mut status, mut newest) = (keeper.status(), keeper.identity());
    let mut task = JoinSet::new();
    task.spawn(keeper.run());
    let failed = status.wait_for(|status| status.fault.is_some());
    timeout(DEADLINE, failed).await.unwrap().unwrap();
    let both = old.ca.pem() + &rotated.ca.pem();
    trust.send_replace(Some(Trust {
        ca_pem: both.clone(),
        coordinators: vec![rotated.address],
    }));
    let kept = newest.wait_for(|identity| {
        identity
            .as_ref()
            .is_some_and(|identity| identity.sealed.ca_pem == both)
    });
    timeout(DEADLINE, kept).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_identity_that_cannot_be_read_is_not_replaced() {
    let coordinator = Coordinator::start(&[Reply::Grant(Validity::Day)]).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("identity.json"), "{").unwrap();
    let trust = watch::Sender::new(None);
    let provision = provision(&coordinator.ca, coordinator.address);
    let error = Keeper::open(provision, dir.path(), trust.subscribe()).unwrap_err();
    assert!(matches!(error, KeeperError::Sealed(_)), "{error}");
}
