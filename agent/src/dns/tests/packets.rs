//! From bytes to bytes: codes, flags, sizes, and what strangers send.

use hickory_proto::op::ResponseCode;
use proptest::prelude::*;

use super::{
    reply::{Heard, hear},
    *,
};

fn ask(zone: Option<&Zone>, packet: &[u8], transport: Transport) -> Option<Message> {
    let bytes = reply(&name(DOMAIN), zone, packet, transport, 0)?;
    if transport == Transport::Udp {
        assert!(bytes.len() <= 1232, "{} bytes", bytes.len());
    }
    Some(Message::from_vec(&bytes).unwrap())
}

#[test]
fn codes_and_flags_are_those_of_an_authority() {
    let zone = Zone::of(mixed()).unwrap();
    for (asked, code, authoritative) in [
        ("web.service.prod.example", ResponseCode::NoError, true),
        ("x.service.prod.example", ResponseCode::NXDomain, true),
        ("www.example.com", ResponseCode::Refused, false),
    ] {
        let packet = query(asked, RecordType::A, None);
        let reply = ask(Some(&zone), &packet, Transport::Udp).unwrap();
        assert_eq!(reply.metadata.response_code, code, "{asked}");
        assert_eq!(reply.metadata.authoritative, authoritative, "{asked}");
        assert_eq!(reply.metadata.id, 77);
        assert!(reply.metadata.recursion_desired && !reply.metadata.recursion_available);
        assert_eq!(reply.queries.len(), 1);
        assert_eq!(reply.edns, None, "none was asked for");
    }
}

#[test]
fn an_answer_has_the_spelling_of_the_question_and_the_snapshots_ttl() {
    let zone = Zone::of(mixed()).unwrap();
    let packet = query("wEb-A.NODE.prod.Example", RecordType::A, None);
    let reply = ask(Some(&zone), &packet, Transport::Udp).unwrap();
    assert_eq!(reply.answers[0].name.to_ascii(), "wEb-A.NODE.prod.Example.");
    assert_eq!(reply.answers[0].ttl, 5);
}

#[test]
fn services_come_with_the_addresses_of_their_targets() {
    let zone = Zone::of(mixed()).unwrap();
    let packet = query(
        "_web._active.service.prod.example",
        RecordType::SRV,
        Some(4096),
    );
    let reply = ask(Some(&zone), &packet, Transport::Udp).unwrap();
    assert_eq!(reply.answers.len(), 3);
    assert_eq!(
        data(&reply.additionals),
        ["127.9.0.1", "127.9.0.2", "fd00::5"]
    );
    assert_eq!(reply.additionals[0].name, name("web-a.node.prod.example"));
}

#[test]
fn before_the_first_snapshot_nothing_is_denied() {
    let packet = query("web.service.prod.example", RecordType::A, None);
    let reply = ask(None, &packet, Transport::Udp).unwrap();
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    let packet = query("example.com", RecordType::A, None);
    let reply = ask(None, &packet, Transport::Udp).unwrap();
    assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
}

#[test]
fn an_alias_stays_before_what_it_stands_for_at_every_turn() {
    use hickory_proto::rr::{
        RData, Record,
        rdata::{A, CNAME},
    };
    let (asked, target) = (name("web.service.prod.example"), name("lb.example"));
    let alias = RData::CNAME(CNAME(target.clone()));
    let mut answer = Message::new(0, MessageType::Response, OpCode::Query);
    answer.answers = vec![
        Record::from_rdata(asked, 0, alias),
        Record::from_rdata(target, 0, RData::A(A::new(10, 0, 0, 1))),
    ];
    let packet = query("web.service.prod.example", RecordType::A, None);
    for turn in 0..4 {
        let Heard::Question(question) = hear(&name(DOMAIN), &packet, Transport::Udp) else {
            panic!("it is a question");
        };
        let bytes = question.answer_as(&answer, turn).unwrap();
        let found = data(&Message::from_vec(&bytes).unwrap().answers);
        assert_eq!(found, ["lb.example.", "10.0.0.1"]);
    }
}

#[test]
fn a_long_answer_is_cut_over_udp_and_whole_over_tcp() {
    let zone = Zone::of(crowd(300)).unwrap();
    let asked = "active.web.service.prod.example";
    for (edns, limit) in [
        (None, 512),
        (Some(100), 512),
        (Some(600), 600),
        (Some(9000), 1232),
    ] {
        let packet = query(asked, RecordType::A, edns);
        let bytes = reply(&name(DOMAIN), Some(&zone), &packet, Transport::Udp, 0).unwrap();
        assert!(
            bytes.len() <= limit && bytes.len() > limit / 2,
            "{edns:?}: {}",
            bytes.len()
        );
        let cut = Message::from_vec(&bytes).unwrap();
        assert!(cut.metadata.truncation);
        assert!(cut.answers.len() > limit / 25, "{}", cut.answers.len());
        assert_eq!(
            cut.edns.is_some(),
            edns.is_some(),
            "it is part of every reply to one"
        );
    }
    let packet = query(asked, RecordType::A, None);
    let whole = ask(Some(&zone), &packet, Transport::Tcp).unwrap();
    assert_eq!(
        (whole.answers.len(), whole.metadata.truncation),
        (300, false)
    );
}

#[test]
fn additional_records_are_left_out_before_anything_is_cut() {
    let zone = Zone::of(crowd(12)).unwrap();
    let asked = |size| query("web.service.prod.example", RecordType::SRV, Some(size));
    let whole = reply(&name(DOMAIN), Some(&zone), &asked(1232), Transport::Udp, 0).unwrap();
    let packet = asked(u16::try_from(whole.len() - 1).unwrap());
    let reply = ask(Some(&zone), &packet, Transport::Udp).unwrap();
    assert_eq!((reply.answers.len(), reply.additionals.len()), (12, 0));
    assert!(!reply.metadata.truncation);
}

#[test]
fn more_than_a_stream_can_carry_is_cut_without_saying_so() {
    let zone = Zone::of(crowd(5000)).unwrap();
    let packet = query("web.service.prod.example", RecordType::A, None);
    let cut = ask(Some(&zone), &packet, Transport::Tcp).unwrap();
    assert!(
        cut.answers.len() > 1500 && cut.answers.len() < 5000,
        "{}",
        cut.answers.len()
    );
    assert!(
        !cut.metadata.truncation,
        "systemd-resolved fails a look-up that is cut over a stream"
    );
}

#[test]
fn what_is_no_plain_query_gets_its_code_or_silence() {
    let zone = Zone::of(mixed()).unwrap();
    let code = |packet: &[u8]| {
        ask(Some(&zone), packet, Transport::Udp).map(|reply| reply.metadata.response_code)
    };
    let good = query("web.service.prod.example", RecordType::A, Some(1232));
    let with = |at: usize, value: u8| {
        let mut packet = good.clone();
        packet[at] = value;
        packet
    };
    assert_eq!(code(&good), Some(ResponseCode::NoError));
    assert_eq!(
        code(&with(2, 0x80)),
        None,
        "a response: no loop between two servers"
    );
    assert_eq!(
        code(&with(2, 0x28)),
        Some(ResponseCode::NotImp),
        "an update"
    );
    assert_eq!(
        code(&with(5, 0)),
        Some(ResponseCode::FormErr),
        "no question"
    );
    assert_eq!(
        code(&with(4, 0xff)),
        Some(ResponseCode::FormErr),
        "65281 questions"
    );
    assert_eq!(
        code(&with(7, 1)),
        Some(ResponseCode::FormErr),
        "an answer in a query"
    );
    assert_eq!(code(&with(10, 0xff)), Some(ResponseCode::FormErr));
    assert_eq!(code(&good[..20]), Some(ResponseCode::FormErr), "cut");
    assert_eq!(code(&good[..11]), None, "not even a header");
    let chaos = query("web.service.prod.example", RecordType::A, None);
    let mut chaos_class = chaos.clone();
    let end = chaos_class.len();
    chaos_class[end - 1] = 3;
    assert_eq!(
        code(&chaos_class),
        Some(ResponseCode::Refused),
        "class CHAOS"
    );
    let mut newer = good.clone();
    let version_at = good.len() - 5;
    newer[version_at] = 1;
    // 16 means BADVERS in EDNS and BADSIG in a signature (RFC 6895 section 2.3).
    assert_eq!(code(&newer).map(u16::from), Some(16), "EDNS version 1");
    // A name that points at itself.
    let mut pointer = chaos[..12].to_vec();
    pointer.extend([0xc0, 0x0c, 0, 1, 0, 1]);
    assert_eq!(code(&pointer), Some(ResponseCode::FormErr));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000.max(ProptestConfig::default().cases)))]

    #[test]
    fn no_bytes_make_it_panic_or_answer_too_long(packet in prop::collection::vec(any::<u8>(), 0..600)) {
        let zone = Zone::of(mixed()).unwrap();
        let _ = ask(Some(&zone), &packet, Transport::Udp);
    }

    #[test]
    fn no_slip_in_a_query_makes_it_panic(at in 0..48usize, value in any::<u8>(), size in any::<u16>()) {
        let zone = Zone::of(crowd(100)).unwrap();
        let mut packet = query("web.service.prod.example", RecordType::SRV, Some(size));
        if let Some(byte) = packet.get_mut(at) {
            *byte = value;
        }
        let _ = ask(Some(&zone), &packet, Transport::Udp);
    }
}
