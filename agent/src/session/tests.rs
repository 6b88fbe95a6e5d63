//! Sessions against a coordinator on the real wire: also one that errs or lies.

use calvin_model::{BootId, CatalogueRole, Health, WorkloadState};
use calvin_proto::{
    convert::join,
    wire::{self, to_agent::Message},
};
use tokio::{task::JoinSet, time::timeout};

use super::*;
use crate::{
    identity::Sealed,
    testing::{Coordinator, Reply, Validity, provision, wanted, welcome, wire_epoch},
};

const DEADLINE: Duration = Duration::from_secs(20);

struct Agent {
    events: mpsc::Receiver<SessionEvent>,
    reports: watch::Sender<Option<Report>>,
    refuse: watch::Sender<Option<String>>,
    identity: watch::Sender<Option<Arc<Identity>>>,
    names: watch::Receiver<Option<Arc<NamesSnapshot>>>,
    trust: watch::Receiver<Option<Trust>>,
    join: watch::Receiver<Option<Join>>,
    registration: watch::Receiver<Option<RegistrationOrder>>,
    status: watch::Receiver<SessionStatus>,
    seen: watch::Sender<Seen>,
    _task: JoinSet<()>,
}

fn identity(coordinator: &Coordinator) -> Arc<Identity> {
    let (key_pem, certificate_pem) = coordinator.ca.instance(Validity::Day);
    let sealed = Sealed {
        format: Sealed::format(),
        key_pem,
        certificate_pem,
        ca_pem: coordinator.ca.pem(),
        coordinators: vec![coordinator.address],
        renew_after_ms: 3_600_000,
        renew_at_ms: u64::MAX,
    };
    let provision = provision(&coordinator.ca, coordinator.address);
    Arc::new(Identity::new(sealed, &provision).unwrap())
}

fn agent(coordinator: &Coordinator) -> Agent {
    let identity = watch::Sender::new(Some(identity(coordinator)));
    let seen = watch::Sender::new(Seen {
        epoch: None,
        generation: Generation(41),
        ..Seen::default()
    });
    let reports = watch::Sender::new(None);
    let refuse = watch::Sender::new(None);
    let (events_in, events) = mpsc::channel(4);
    let session = Session {
        speaker: Speaker {
            provision: provision(&coordinator.ca, coordinator.address),
            boot: "b1".parse().unwrap(),
            build: Some("b-7".into()),
            manifest: Digest::from_sha256([7; 32]),
            capabilities: vec![join::CONSUL.to_owned()],
        },
        pauses: (Duration::from_millis(1), Duration::from_millis(10)),
        identity: identity.subscribe(),
        seen: seen.subscribe(),
        reports: reports.subscribe(),
        refuse: refuse.subscribe(),
        events: events_in,
        names: watch::Sender::new(None),
        trust: watch::Sender::new(None),
        join: watch::Sender::new(None),
        registration: watch::Sender::new(None),
        status: watch::Sender::new(SessionStatus::default()),
    };
    let (names, trust, status) = (
        session.names.subscribe(),
        session.trust.subscribe(),
        session.status.subscribe(),
    );
    let (join, registration) = (session.join.subscribe(), session.registration.subscribe());
    let mut task = JoinSet::new();
    task.spawn(session.run());
    Agent {
        events,
        reports,
        refuse,
        identity,
        names,
        trust,
        join,
        registration,
        status,
        seen,
        _task: task,
    }
}

impl Agent {
    async fn event(&mut self) -> SessionEvent {
        timeout(DEADLINE, self.events.recv())
            .await
            .unwrap()
            .unwrap()
    }

    async fn up(&mut self) {
        let event = self.event().await;
        self.accept(&event);
    }

    /// Does as the lifecycle does for a coordinator that it listens to.
    fn accept(&self, event: &SessionEvent) {
        let SessionEvent::Up { welcome, .. } = event else {
            panic!("not up: {event:?}");
        };
        let epoch = Some(welcome.epoch.clone());
        self.seen.send_modify(|seen| seen.epoch = epoch);
    }

    async fn down(&mut self) {
        assert_eq!(self.event().await, SessionEvent::Down);
    }
}

fn report(sequence: u64) -> Report {
    Report {
        boot: BootId::try_from("b1".to_owned()).unwrap(),
        sequence,
        generation_applied: Generation(0),
        role_applied: None,
        health: Health::Unknown,
        health_for: Duration::ZERO,
        flaps: 0,
        clock_offset_ms: None,
        workload: WorkloadState::NotWanted,
        names: None,
        drain: None,
        failing: Vec::new(),
        connections: None,
        refused: None,
        names_unsaved: None,
        quorum: None,
        consul: None,
    }
}

fn names() -> wire::Names {
    wire::Names {
        epoch: 1,
        number: 1,
        domain: "build.example".into(),
        ttl_ms: 1000,
        entries: Vec::new(),
    }
}

#[tokio::test]
async fn a_session_says_hello_and_brings_everything_to_its_place() {
    let mut coordinator = Coordinator::start(&[Reply::Lose]).await;
    let mut agent = agent(&coordinator);
    let mut line = coordinator.line().await;
    let hello = line.begin(5).await;
    assert_eq!(hello.instance, crate::testing::INSTANCE);
    assert_eq!(
        (hello.generation_seen, hello.build_id.as_str()),
        (41, "b-7")
    );
    let event = agent.event().await;
    agent.accept(&event);
    let SessionEvent::Up {
        welcome,
        clock_offset_ms,
    } = event
    else {
        panic!("not up");
    };
    assert_eq!(welcome.epoch.number, 5);
    assert!(clock_offset_ms.abs() < 10_000, "{clock_offset_ms}");
    line.say(wanted(5, 42, wire::Role::Active)).await;
    let SessionEvent::Wanted(order) = agent.event().await else {
        panic!("not wanted");
    };
    assert_eq!(order.wanted.generation, Generation(42));
    line.say(Message::Names(names())).await;
    let stored = agent.names.wait_for(Option::is_some);
    timeout(DEADLINE, stored).await.unwrap().unwrap();
    line.say(Message::Trust(wire::Trust {
        ca_pem: "x".into(),
        coordinators: vec!["127.0.0.1:1".into()],
    }))
    .await;
    let stored = agent.trust.wait_for(Option::is_some);
    timeout(DEADLINE, stored).await.unwrap().unwrap();
    agent.reports.send_replace(Some(report(1)));
    assert_eq!(line.hear_report(|_| true).await.sequence, 1);
    assert_eq!(agent.status.borrow().coordinator, Some(coordinator.address));
}

#[tokio::test]
async fn a_new_session_is_told_nothing_that_was_for_an_older() {
    let mut coordinator = Coordinator::start(&[Reply::Lose]).await;
    let mut agent = agent(&coordinator);
    agent.reports.send_replace(Some(report(1)));
    let mut line = coordinator.line().await;
    line.begin(5).await;
    agent.up().await;
    agent.reports.send_replace(Some(report(2)));
    assert_eq!(line.hear_report(|_| true).await.sequence, 2);
    line.to_agent
        .send(Err(tonic::Status::unavailable("restart")))
        .await
        .unwrap();
    agent.down().await;
    let mut line = coordinator.line().await;
    line.begin(6).await;
    agent.up().await;
    agent.reports.send_replace(Some(report(3)));
    assert_eq!(line.hear_report(|_| true).await.sequence, 3);
}

#[tokio::test]
async fn of_many_reports_the_newest_wins_and_they_stay_in_order() {
    let mut coordinator = Coordinator::start(&[Reply::Lose]).await;
    let mut agent = agent(&coordinator);
    let mut line = coordinator.line().await;
    line.begin(5).await;
    agent.up().await;
    for sequence in 1..=1000 {
        agent.reports.send_replace(Some(report(sequence)));
    }
    let mut last = 0;
    while last < 1000 {
        let sequence = line.hear_report(|_| true).await.sequence;
        assert!(sequence > last, "{sequence} after {last}");
        last = sequence;
    }
}

#[tokio::test]
async fn what_a_coordinator_must_not_say_ends_the_session_and_changes_nothing() {
    let mut coordinator = Coordinator::start(&[Reply::Lose]).await;
    let mut agent = agent(&coordinator);
    let odd_role = Message::Wanted(wire::Wanted {
        role: 77,
        ..as_wanted(wanted(5, 1, wire::Role::Active))
    });
    let no_epoch = Message::Wanted(wire::Wanted {
        epoch: None,
        ..as_wanted(wanted(5, 1, wire::Role::Active))
    });
    let endless = Message::Wanted(wire::Wanted {
        drain: Some(wire::DrainOrder {
            reason: 1,
            timeout_ms: u64::MAX,
        }),
        ..as_wanted(wanted(5, 1, wire::Role::Draining))
    });
    let bad_address = wire::NamesEntry {
        instance: "web-a".into(),
        fleet: "web".into(),
        address: "nowhere".into(),
        role: 1,
        services: Vec::new(),
    };
    for bad in [
        Some(Message::Welcome(welcome(6))),
        Some(wanted(5, 1, wire::Role::Unspecified)),
        Some(odd_role),
        Some(no_epoch),
        Some(endless),
        Some(Message::Names(wire::Names {
            entries: vec![bad_address],
            ..names()
        })),
        Some(Message::Names(wire::Names {
            domain: "x".repeat(9 * 1024 * 1024),
            ..names()
        })),
        Some(Message::Trust(wire::Trust::default())),
        None,
    ] {
        let shown = format!("{bad:?}").chars().take(80).collect::<String>();
        let mut line = coordinator.line().await;
        line.begin(5).await;
        agent.up().await;
        line.say_raw(wire::ToAgent { message: bad }).await;
        let event = agent.event().await;
        assert_eq!(event, SessionEvent::Down, "{shown}");
        assert!(agent.status.borrow().coordinator.is_none(), "{shown}");
    }
    assert!(agent.names.borrow().is_none() && agent.trust.borrow().is_none());
}

fn as_wanted(message: Message) -> wire::Wanted {
    match message {
        Message::Wanted(wanted) => wanted,
        Message::Welcome(_)
        | Message::Names(_)
        | Message::Trust(_)
        | Message::Join(_)
        | Message::Registration(_) => panic!("another"),
    }
}

#[tokio::test]
async fn a_session_that_does_not_begin_with_a_fitting_welcome_never_comes_about() {
    let mut coordinator = Coordinator::start(&[Reply::Lose]).await;
    let mut agent = agent(&coordinator);
    let newer = wire::Welcome {
        protocol: 99,
        ..welcome(5)
    };
    let hasty = wire::Welcome {
        report_interval_ms: 0,
        ..welcome(5)
    };
    for first in [
        wanted(5, 1, wire::Role::Active),
        Message::Names(names()),
        Message::Welcome(newer),
        Message::Welcome(hasty),
    ] {
        let mut line = coordinator.line().await;
        line.hear_hello().await;
        line.say(first).await;
        agent.down().await;
        line.closed().await;
    }
}

#[tokio::test]
async fn a_refused_coordinator_loses_its_session() {
    let mut coordinator = Coordinator::start(&[Reply::Lose]).await;
    let mut agent = agent(&coordinator);
    let mut line = coordinator.line().await;
    line.begin(5).await;
    agent.up().await;
    agent
        .refuse
        .send_replace(Some("epoch 5 is older than epoch 6".into()));
    agent.down().await;
    line.closed().await;
    let told = agent.status.wait_for(|status| status.fault.is_some());
    let status = timeout(DEADLINE, told).await.unwrap().unwrap().clone();
    assert!(status.fault.unwrap().contains("older than epoch 6"));
}

#[tokio::test]
async fn nothing_is_taken_from_a_coordinator_before_the_lifecycle_listens_to_it() {
    let mut coordinator = Coordinator::start(&[Reply::Lose]).await;
    let mut agent = agent(&coordinator);
    let mut line = coordinator.line().await;
    line.begin(5).await;
    let trust = wire::Trust {
        ca_pem: "x".into(),
        coordinators: vec!["127.0.0.1:1".into()],
    };
    line.say(Message::Names(names())).await;
    line.say(Message::Trust(trust)).await;
    let up = agent.event().await;
    assert!(matches!(up, SessionEvent::Up { .. }), "{up:?}");
    // Time for what came to be taken, if it were.
    let taken = timeout(Duration::from_millis(300), agent.trust.changed()).await;
    assert!(taken.is_err(), "the lifecycle has not judged its epoch");
    agent
        .refuse
        .send_replace(Some("epoch 5 is older than epoch 6".into()));
    agent.down().await;
    line.closed().await;
    assert!(agent.names.borrow().is_none() && agent.trust.borrow().is_none());
    let status = agent.status.borrow().clone();
    assert!(status.coordinator.is_none(), "{status:?}");
}

#[tokio::test]
async fn a_new_identity_begins_a_new_session_at_once() {
    let mut coordinator = Coordinator::start(&[Reply::Lose]).await;
    let mut agent = agent(&coordinator);
    let mut line = coordinator.line().await;
    line.begin(5).await;
    agent.up().await;
    agent.identity.send_replace(Some(identity(&coordinator)));
    agent.down().await;
    coordinator.line().await.begin(5).await;
    agent.up().await;
}

fn registration(epoch: u64, role: wire::CatalogueRole) -> Message {
    Message::Registration(wire::Registration {
        epoch: Some(wire_epoch(epoch)),
        role: role.into(),
        exclusive: true,
    })
}

#[tokio::test]
async fn how_to_join_and_to_be_registered_is_taken_from_who_has_the_session_and_from_nobody_else() {
    let mut coordinator = Coordinator::start(&[Reply::Lose]).await;
    let mut agent = agent(&coordinator);
    let mut line = coordinator.line().await;
    let hello = line.begin(5).await;
    assert_eq!(hello.capabilities, [join::CONSUL]);
    agent.up().await;
    line.say(Message::Join(wire::Join {
        consul: Some(wire::ConsulJoin {
            datacenter: "build".into(),
            domain: "build.example".into(),
            servers: vec!["127.0.0.1:8301".into()],
            node: "web-abcdefgh".into(),
            token: "secret".into(),
            ..wire::ConsulJoin::default()
        }),
    }))
    .await;
    line.say(registration(4, wire::CatalogueRole::Active)).await;
    line.say(registration(5, wire::CatalogueRole::Standby))
        .await;
    let changed = timeout(DEADLINE, agent.registration.changed()).await;
    changed.unwrap().unwrap();
    let order = agent.registration.borrow().clone().unwrap();
    assert_eq!(
        (order.epoch.number, order.registration.exclusive),
        (5, true)
    );
    assert_eq!(order.registration.role, CatalogueRole::Standby);
    let join = agent.join.borrow().clone().unwrap().consul.unwrap();
    assert_eq!(join.node, "web-abcdefgh");
    assert!(!format!("{join:?}").contains("secret"));
}
