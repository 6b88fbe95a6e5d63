//! Every message of the wire, to the model and back, and what is refused on the way.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use calvin_model::{
    BootId, CatalogueEntry, CatalogueRole, CatalogueService, Connections, ConsulJoin, ConsulReport,
    Digest, DrainOrder, DrainProgress, DrainReason, EnvironmentName, Epoch, FleetName, Generation,
    Health, InstanceId, Join, NamesSnapshot, NamesVersion, QuorumReport, Registration, Report,
    Role, RunId, Secret, ServiceName, Wanted, WorkloadState,
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use prost::Message as _;

use super::*;
use crate::wire;

fn parsed<T>(pattern: &'static str) -> impl Strategy<Value = T>
where
    T: FromStr + std::fmt::Debug,
    T::Err: std::fmt::Debug,
{
    pattern.prop_map(|text: String| text.parse().unwrap())
}

fn durations() -> impl Strategy<Value = Duration> {
    (0..=limits::DURATION_MS).prop_map(Duration::from_millis)
}

fn epochs() -> impl Strategy<Value = Epoch> {
    (any::<u64>(), parsed::<RunId>("[0-9a-f]{1,36}"))
        .prop_map(|(number, run)| Epoch { number, run })
}

fn reasons() -> impl Strategy<Value = DrainReason> {
    select(vec![
        DrainReason::Replaced,
        DrainReason::RolledBack,
        DrainReason::ScaledDown,
        DrainReason::FleetDeleted,
        DrainReason::Repaired,
    ])
}

fn roles() -> impl Strategy<Value = Role> {
    select(vec![
        Role::Standby,
        Role::Active,
        Role::Draining,
        Role::Retired,
    ])
}

fn orders() -> impl Strategy<Value = Order> {
    (epochs(), any::<u64>(), roles(), reasons(), durations()).prop_map(
        |(epoch, generation, role, reason, timeout)| Order {
            epoch,
            wanted: Wanted {
                generation: Generation(generation),
                role,
                drain: (role == Role::Draining).then_some(DrainOrder { reason, timeout }),
            },
        },
    )
}

fn hellos() -> impl Strategy<Value = Hello> {
    let numbers = (any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>());
    let texts = (
        "[ -~]{0,64}",
        vec("[a-z]{1,64}", 0..=limits::CAPABILITIES),
        option::of("[a-z0-9-]{1,128}"),
        any::<[u8; 32]>(),
    );
    let ids = (
        parsed::<BootId>("[0-9a-f]{1,36}"),
        option::of(epochs()),
        parsed("[a-z][a-z0-9]{0,39}"),
        parsed("[a-z][a-z0-9]{0,62}"),
    );
    let works = (
        option::of(roles()),
        select(vec![Health::Unknown, Health::Healthy, Health::Unhealthy]),
    );
    (numbers, texts, ids, works).prop_map(|((a, b, generation, wall_ms), texts, ids, works)| {
        Hello {
            version: texts.0,
            protocol: a.min(b)..=a.max(b),
            capabilities: texts.1,
            boot: ids.0,
            build: texts.2,
            manifest: Digest::from_sha256(texts.3),
            epoch_seen: ids.1,
            generation_seen: Generation(generation),
            environment: ids.2,
            instance: ids.3,
            wall_ms,
            role_applied: works.0,
            health: works.1,
        }
    })
}

fn quorums() -> impl Strategy<Value = QuorumReport> {
    let numbers = (any::<u32>(), any::<u32>());
    let words = (any::<bool>(), any::<bool>());
    (numbers, words, durations()).prop_map(|((voters, needed), (leader, caught_up), age)| {
        QuorumReport {
            voters,
            needed,
            leader,
            caught_up,
            age,
        }
    })
}

fn reports() -> impl Strategy<Value = Report> {
    let states = (
        select(vec![Health::Unknown, Health::Healthy, Health::Unhealthy]),
        select(vec![
            WorkloadState::NotWanted,
            WorkloadState::Starting,
            WorkloadState::Running,
            WorkloadState::Backoff,
            WorkloadState::Stopping,
            WorkloadState::Stopped,
        ]),
        option::of((1..=u64::MAX, roles())),
        option::of((1..=u64::MAX, any::<u64>())),
        option::of((any::<bool>(), option::of(any::<u32>()), durations())),
        option::of(quorums()),
    );
    let rest = (
        parsed::<BootId>("[0-9a-f]{1,36}"),
        any::<u64>(),
        durations(),
        any::<u64>(),
        option::of(any::<i64>()),
        vec("[ -~]{0,256}", 0..=limits::FAILING),
        option::of((any::<u32>(), vec(socket_addresses(), 0..=limits::PEERS))),
        option::of("[ -~]{1,256}"),
        option::of("[ -~]{1,256}"),
        option::of(consul_reports()),
    );
    (states, rest).prop_map(
        |((health, workload, applied, names, drain, quorum), rest)| Report {
            quorum,
            boot: rest.0,
            sequence: rest.1,
            generation_applied: Generation(applied.map_or(0, |(generation, _)| generation)),
            role_applied: applied.map(|(_, role)| role),
            health,
            health_for: rest.2,
            flaps: rest.3,
            clock_offset_ms: rest.4,
            workload,
            names: names.map(|(epoch, number)| NamesVersion { epoch, number }),
            drain: drain.map(|(done, connections, time_left)| DrainProgress {
                done,
                connections,
                time_left,
            }),
            failing: rest.5,
            connections: rest.6.map(|(count, peers)| Connections { count, peers }),
            refused: rest.7,
            names_unsaved: rest.8,
            consul: rest.9,
        },
    )
}

fn catalogue_roles() -> impl Strategy<Value = CatalogueRole> {
    select(vec![
        CatalogueRole::Absent,
        CatalogueRole::Standby,
        CatalogueRole::Entered,
        CatalogueRole::Active,
    ])
}

fn consul_reports() -> impl Strategy<Value = ConsulReport> {
    let fault = option::of("[ -~]{1,256}");
    (option::of(catalogue_roles()), fault)
        .prop_map(|(registered, fault)| ConsulReport { registered, fault })
}

fn joins() -> impl Strategy<Value = Join> {
    let secret =
        |pattern| option::of(pattern).prop_map(|text: Option<String>| text.map(Secret::new));
    let consul = (
        parsed::<EnvironmentName>("[a-z][a-z0-9]{0,30}"),
        "[a-z]{1,20}",
        vec("[a-z0-9.:]{1,260}", 1..=limits::CONSUL_SERVERS),
        secret("[A-Za-z0-9+/]{43}="),
        "[ -~]{0,2000}",
        "[a-z0-9]{1,63}",
        secret("[0-9a-f-]{36}"),
        "[a-z0-9.-]{0,60}",
    );
    let consul = consul.prop_map(|it| ConsulJoin {
        datacenter: it.0,
        domain: it.1,
        servers: it.2,
        gossip_key: it.3,
        ca_pem: it.4,
        node: it.5,
        token: it.6,
        trust_domain: it.7,
    });
    option::of(consul).prop_map(|consul| Join { consul })
}

fn registrations() -> impl Strategy<Value = RegistrationOrder> {
    (epochs(), catalogue_roles(), any::<bool>()).prop_map(|(epoch, role, exclusive)| {
        RegistrationOrder {
            epoch,
            registration: Registration { role, exclusive },
        }
    })
}

fn services() -> impl Strategy<Value = CatalogueService> {
    (
        parsed::<ServiceName>("[a-z][a-z0-9]{0,54}"),
        any::<u16>(),
        vec("[a-z][a-z0-9]{0,54}", 0..4),
    )
        .prop_map(|(name, port, tags)| CatalogueService { name, port, tags })
}

fn snapshots() -> impl Strategy<Value = NamesSnapshot> {
    let role = select(vec![
        CatalogueRole::Standby,
        CatalogueRole::Entered,
        CatalogueRole::Active,
    ]);
    let entry = (
        parsed::<FleetName>("[a-z]{1,40}"),
        any::<IpAddr>(),
        role,
        vec(services(), 0..4),
    );
    let head = (1..=u64::MAX, any::<u64>(), durations());
    (head, "[a-z]{1,20}(\\.[a-z]{1,20}){0,3}", vec(entry, 0..20)).prop_map(
        |((epoch, number, ttl), domain, entries)| NamesSnapshot {
            version: NamesVersion { epoch, number },
            domain,
            ttl,
            entries: entries
                .into_iter()
                .zip(0..)
                .map(
                    |((fleet, address, role, services), random)| CatalogueEntry {
                        instance: InstanceId::new(&fleet, random),
                        fleet,
                        address,
                        role,
                        services,
                    },
                )
                .collect(),
        },
    )
}

fn welcomes() -> impl Strategy<Value = Welcome> {
    let interval = (1..=limits::DURATION_MS).prop_map(Duration::from_millis);
    (
        any::<u32>(),
        vec("[a-z]{1,64}", 0..4),
        epochs(),
        interval,
        any::<u64>(),
    )
        .prop_map(
            |(protocol, capabilities, epoch, report_interval, wall_ms)| Welcome {
                protocol,
                capabilities,
                epoch,
                report_interval,
                wall_ms,
            },
        )
}

fn socket_addresses() -> impl Strategy<Value = SocketAddr> {
    any::<(IpAddr, u16)>().prop_map(SocketAddr::from)
}

fn trusts() -> impl Strategy<Value = Trust> {
    (
        "[ -~]{0,512}",
        vec(socket_addresses(), 1..=limits::COORDINATORS),
    )
        .prop_map(|(ca_pem, coordinators)| Trust {
            ca_pem,
            coordinators,
        })
}

fn from_agent() -> impl Strategy<Value = FromAgent> {
    prop_oneof![
        hellos().prop_map(FromAgent::Hello),
        reports().prop_map(FromAgent::Report),
    ]
}

fn to_agent() -> impl Strategy<Value = ToAgent> {
    prop_oneof![
        welcomes().prop_map(ToAgent::Welcome),
        orders().prop_map(ToAgent::Wanted),
        snapshots().prop_map(ToAgent::Names),
        trusts().prop_map(ToAgent::Trust),
        joins().prop_map(ToAgent::Join),
        registrations().prop_map(ToAgent::Registration),
    ]
}

proptest! {
    #[test]
    fn what_an_agent_says_arrives_as_it_was_said_and_fits(message in from_agent()) {
        let bytes = wire::FromAgent::from(&message).encode_to_vec();
        prop_assert!(bytes.len() <= limits::FROM_AGENT_BYTES);
        let back = wire::FromAgent::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(FromAgent::try_from(back).unwrap(), message);
    }

    #[test]
    fn what_an_agent_is_told_arrives_as_it_was_told(message in to_agent()) {
        let bytes = wire::ToAgent::try_from(&message).unwrap().encode_to_vec();
        prop_assert!(bytes.len() <= limits::TO_AGENT_BYTES);
        let back = wire::ToAgent::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(ToAgent::try_from(back).unwrap(), message);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in vec(any::<u8>(), 0..2048)) {
        if let Ok(message) = wire::FromAgent::decode(bytes.as_slice()) {
            let _ = FromAgent::try_from(message);
        }
        if let Ok(message) = wire::ToAgent::decode(bytes.as_slice()) {
            let _ = ToAgent::try_from(message);
        }
    }

    #[test]
    fn a_good_message_with_some_bytes_changed_is_read_or_refused(
        message in from_agent(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = wire::FromAgent::from(&message).encode_to_vec();
        for (at, value) in changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
        }
        if let Ok(message) = wire::FromAgent::decode(bytes.as_slice())
            && let Ok(message) = FromAgent::try_from(message)
        {
            // What is accepted can be said again.
            let again = wire::FromAgent::from(&message).encode_to_vec();
            prop_assert!(again.len() <= limits::FROM_AGENT_BYTES);
        }
    }
}

fn report() -> wire::Report {
    wire::Report {
        boot_id: "ab".into(),
        health: wire::Health::Healthy.into(),
        workload: wire::WorkloadState::Running.into(),
        ..wire::Report::default()
    }
}

#[test]
fn a_value_that_is_not_known_is_refused_with_its_field_and_number() {
    let refusal = |change: fn(&mut wire::Report)| {
        let mut report = report();
        change(&mut report);
        Report::try_from(report).unwrap_err().in_words()
    };
    assert!(Report::try_from(report()).is_ok());
    assert_eq!(
        refusal(|report| report.health = 99),
        "report.health has the value 99, which this version does not know"
    );
    assert_eq!(
        refusal(|report| report.health = 0),
        "report.health is not specified"
    );
    assert_eq!(
        refusal(|report| report.workload = 77),
        "report.workload has the value 77, which this version does not know"
    );
    assert_eq!(
        refusal(|report| report.role_applied = -1),
        "report.role_applied has the value -1, which this version does not know"
    );
    assert!(refusal(|report| report.generation_applied = 1).contains("together or not at all"));
    assert!(refusal(|report| report.boot_id = "x".repeat(40)).contains("boot id"));
    assert!(refusal(|report| report.health_for_ms = u64::MAX).contains("milliseconds"));
    assert!(refusal(|report| report.failing = vec![String::new(); 17]).contains("at most 16"));
    assert!(refusal(|report| report.failing = vec!["x".repeat(257)]).contains("at most 256"));
}

#[test]
fn an_unspecified_value_of_every_other_enum_is_refused() {
    let wanted = |role: i32, drain| wire::Wanted {
        generation: 1,
        epoch: Some(wire::Epoch {
            number: 1,
            run: "ab".into(),
        }),
        role,
        drain,
    };
    let order = |reason| {
        Some(wire::DrainOrder {
            reason,
            timeout_ms: 1,
        })
    };
    let words = |wanted: wire::Wanted| Order::try_from(wanted).unwrap_err().in_words();
    assert_eq!(words(wanted(0, None)), "wanted.role is not specified");
    assert!(words(wanted(9, None)).contains("the value 9"));
    let draining = wire::Role::Draining.into();
    assert_eq!(words(wanted(draining, None)), "wanted.drain is missing");
    assert!(words(wanted(draining, order(0))).contains("drain.reason is not specified"));
    assert!(words(wanted(draining, order(42))).contains("the value 42"));
    let active = wire::Role::Active.into();
    assert!(words(wanted(active, order(1))).contains("not to drain"));

    let names = |role| wire::Names {
        epoch: 1,
        domain: "example.org".into(),
        entries: vec![wire::NamesEntry {
            instance: "web-a".into(),
            fleet: "web".into(),
            address: "127.0.0.1".into(),
            role,
            services: vec![],
        }],
        ..wire::Names::default()
    };
    let words = |names: wire::Names| NamesSnapshot::try_from(names).unwrap_err().in_words();
    assert_eq!(words(names(0)), "names.entry.role is not specified");
    // Nobody is absent in a snapshot.
    assert_eq!(words(names(4)), "names.entry.role is not specified");
    assert!(words(names(5)).contains("the value 5"));
    let mut twice = names(1);
    twice.entries.push(twice.entries[0].clone());
    assert!(words(twice).contains("twice"));
}

#[test]
fn a_snapshot_of_ten_thousand_entries_fits_and_a_larger_one_is_refused_where_it_is_made() {
    let fleet: FleetName = "a".repeat(40).parse().unwrap();
    let service = |number: u16| CatalogueService {
        name: format!("service-of-a-name-{number:02}").parse().unwrap(),
        port: number + 8000,
        tags: vec!["tag-of-sixteen-a".into(), "tag-of-sixteen-b".into()],
    };
    let entry = |number: u64| CatalogueEntry {
        instance: InstanceId::new(&fleet, number),
        fleet: fleet.clone(),
        address: "2001:db8:1111:2222:3333:4444:5555:6666".parse().unwrap(),
        role: CatalogueRole::Active,
        services: (0..3).map(service).collect(),
    };
    let mut names = NamesSnapshot {
        version: NamesVersion {
            epoch: u64::MAX,
            number: u64::MAX,
        },
        domain: "prod.example.org".into(),
        ttl: Duration::from_secs(1),
        entries: (0..10_000).map(entry).collect(),
    };
    let size = wire::Names::try_from(&names).unwrap().encoded_len();
    // The arithmetic of `limits::TO_AGENT_BYTES`.
    assert!((3_000_000..3_400_000).contains(&size), "{size}");
    names.entries.push(entry(10_000));
    let error = wire::Names::try_from(&names).unwrap_err();
    assert!(error.to_string().contains("at most 10000"), "{error}");
}

#[test]
fn a_sentence_that_is_too_long_is_cut_between_characters_when_it_is_sent() {
    let mut report = Report::try_from(report()).unwrap();
    report.failing = vec!["ä".repeat(200)];
    let sent = wire::Report::from(&report);
    assert_eq!(sent.failing[0], "ä".repeat(128));
    assert!(Report::try_from(sent).is_ok());
}
