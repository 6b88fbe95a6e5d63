//! What is found under which name.

use proptest::prelude::*;

use super::*;

fn found(zone: &Zone, text: &str, kind: RecordType) -> Vec<String> {
    match zone.answer(&name(text), kind, 0) {
        Answer::Found { answers, .. } => data(&answers),
        Answer::Refused => vec!["refused".into()],
        Answer::NoSuchName { .. } => vec!["no such name".into()],
        Answer::NoData { .. } => vec!["no data".into()],
    }
}

#[test]
fn every_name_finds_what_its_table_says() {
    use RecordType::{A, AAAA, ANY, MX, SOA, SRV, TXT};
    let zone = Zone::of(mixed()).unwrap();
    let all_v4 = ["127.9.0.1", "127.9.0.2", "127.9.0.3"].as_slice();
    let none = ["no such name"].as_slice();
    let empty = ["no data"].as_slice();
    for (name, kind, expected) in [
        ("web.service", A, all_v4),
        ("WEB.Service", A, all_v4),
        ("web.service", AAAA, &["fd00::5"]),
        ("web.service", MX, empty),
        (
            "web.service",
            ANY,
            &["127.9.0.1", "127.9.0.2", "127.9.0.3", "fd00::5"],
        ),
        ("active.web.service", A, &["127.9.0.1", "127.9.0.2"]),
        ("web-standby.service", A, &["127.9.0.4"]),
        ("web-standby.service", AAAA, empty),
        ("_web._active.service", A, &["127.9.0.1", "127.9.0.2"]),
        ("_web._standby.service", A, &["127.9.0.4"]),
        ("_web._fast.service", A, &["127.9.0.1", "127.9.0.3"]),
        ("_web._tcp.service", A, all_v4),
        ("_web._slow.service", A, none),
        (
            "_web._active.service",
            SRV,
            &[
                "1 1 8080 web-a.node.prod.example.",
                "1 1 8080 web-b.node.prod.example.",
                "1 1 8080 web-e.node.prod.example.",
            ],
        ),
        ("web-d.node", A, &["127.9.0.4"]),
        ("web-d.node", SRV, empty),
        ("web-z.node", A, none),
        ("other.service", A, none),
        ("active.other.service", A, none),
        ("x.active.web.service", A, none),
        ("standby.web.service", A, none),
        ("service", A, empty),
        ("node", TXT, empty),
        ("_fast.service", A, empty),
        ("web", A, none),
    ] {
        let full = format!("{name}.{DOMAIN}");
        assert_eq!(found(&zone, &full, kind), expected, "{full} {kind}");
    }
    assert_eq!(found(&zone, DOMAIN, A), empty);
    assert_eq!(found(&zone, DOMAIN, SOA).len(), 1);
    for foreign in [
        "example",
        "prod.example.com",
        "xprod.example",
        "web.service.test.example",
    ] {
        assert_eq!(found(&zone, foreign, A), ["refused"], "{foreign}");
    }
}

#[test]
fn every_name_on_the_page_is_found_and_the_page_has_every_name() {
    let patterns = |text: &'static str| -> Vec<&'static str> {
        let first_cells = text.lines().filter_map(|line| {
            let row = line.trim_start_matches("//! ").strip_prefix("| `")?;
            row.split('`').next()
        });
        first_cells
            .filter(|cell| cell.ends_with("<domain>"))
            .collect()
    };
    let page = patterns(include_str!("../../../docs/names.md"));
    assert_eq!(page, patterns(include_str!("../zone.rs")));
    assert_eq!(page.len(), 5);
    let zone = Zone::of(mixed()).unwrap();
    for pattern in page {
        let name = pattern
            .replace("<service>", "web")
            .replace("<tag>", "fast")
            .replace("<instance>", "web-a")
            .replace("<domain>", DOMAIN);
        let found = found(&zone, &name, RecordType::A);
        assert!(
            found.iter().all(|it| it.starts_with("127.9.0.")),
            "{name}: {found:?}"
        );
    }
}

#[test]
fn a_dot_within_a_label_is_no_separator() {
    let zone = Zone::of(mixed()).unwrap();
    for labels in [
        vec![b"active.web".as_slice(), b"service"],
        vec![b"web\xff".as_slice(), b"service"],
    ] {
        let asked = Name::from_labels(labels)
            .unwrap()
            .append_domain(&name(DOMAIN))
            .unwrap();
        let answer = zone.answer(&asked, RecordType::A, 0);
        assert!(matches!(answer, Answer::NoSuchName { .. }), "{answer:?}");
    }
}

#[test]
fn what_is_not_there_may_not_be_kept() {
    let zone = Zone::of(mixed()).unwrap();
    let (Answer::NoSuchName { soa } | Answer::NoData { soa }) =
        zone.answer(&name("x.service.prod.example"), RecordType::A, 0)
    else {
        panic!("found");
    };
    assert_eq!(soa.ttl, 0);
    assert!(soa.data.to_string().ends_with(" 0"), "{}", soa.data);
}

#[test]
fn a_domain_without_room_for_names_is_refused() {
    let mut long = NamesSnapshot::clone(&mixed());
    long.domain = [
        "d".repeat(60),
        "e".repeat(60),
        "f".repeat(60),
        "g".repeat(60),
    ]
    .join(".");
    assert!(matches!(
        Zone::of(Arc::new(long.clone())),
        Err(ZoneError::DomainTooLong { .. })
    ));
    long.domain = "a..b".into();
    assert!(matches!(
        Zone::of(Arc::new(long)),
        Err(ZoneError::Domain { .. })
    ));
}

fn role() -> impl Strategy<Value = CatalogueRole> {
    prop::sample::select(vec![
        CatalogueRole::Standby,
        CatalogueRole::Entered,
        CatalogueRole::Active,
    ])
}

proptest! {
    #[test]
    fn an_instance_is_found_as_its_role_says_and_every_answer_comes_first_at_some_turn(
        roles in prop::collection::vec(role(), 1..20),
    ) {
        let entries: Vec<_> = roles
            .iter()
            .enumerate()
            .map(|(at, role)| entry(&format!("web-i{at}"), *role, &format!("127.9.0.{at}"), &[]))
            .collect();
        let zone = Zone::of(snapshot(1, entries.clone())).unwrap();
        let addresses = |wanted: &[CatalogueRole]| -> Vec<String> {
            let entries = entries.iter().filter(|entry| wanted.contains(&entry.role));
            entries.map(|entry| entry.address.to_string()).collect()
        };
        use CatalogueRole::{Active, Entered, Standby};
        for (asked, wanted) in [
            ("web.service", [Entered, Active].as_slice()),
            ("active.web.service", &[Active]),
            ("web-standby.service", &[Standby]),
            ("_web._active.service", &[Active]),
            ("_web._standby.service", &[Standby]),
        ] {
            let asked = name(&format!("{asked}.{DOMAIN}"));
            let expected = addresses(wanted);
            let mut firsts = Vec::new();
            for turn in 0..expected.len().max(1) {
                let Answer::Found { answers, .. } = zone.answer(&asked, RecordType::A, turn) else {
                    prop_assert!(expected.is_empty(), "{}", asked);
                    continue;
                };
                let mut found = data(&answers);
                firsts.push(found[0].clone());
                found.sort_unstable();
                let mut sorted = expected.clone();
                sorted.sort_unstable();
                prop_assert_eq!(found, sorted, "{}", asked);
            }
            prop_assert_eq!(firsts, expected);
        }
    }

    #[test]
    fn no_name_makes_it_panic(
        labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..63), 0..3),
        turn in any::<usize>(),
    ) {
        let zone = Zone::of(mixed()).unwrap();
        let asked = Name::from_labels(labels).and_then(|n| n.append_domain(&name(DOMAIN)));
        if let Ok(asked) = asked {
            for kind in [RecordType::A, RecordType::SRV, RecordType::ANY] {
                let _ = zone.answer(&asked, kind, turn);
            }
        }
    }
}
