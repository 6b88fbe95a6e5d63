//! What is given while Consul is silent, after it has said all kinds of things.

use std::net::Ipv4Addr;

use hickory_proto::{
    op::{MessageType, OpCode},
    rr::{RData, rdata::A},
};
use proptest::prelude::*;

use super::*;

const SECOND: Moment = 1000;
const HOUR: Moment = 3600 * SECOND;

pub(super) fn query(name: &str) -> Query {
    Query::query(Name::from_ascii(name).unwrap(), RecordType::A)
}

/// An answer with these addresses, or with none; without any the name exists.
pub(super) fn answer(addresses: &[u8]) -> Message {
    let mut message = Message::new(1, MessageType::Response, OpCode::Query);
    for number in addresses {
        let data = RData::A(A(Ipv4Addr::new(127, 9, 0, *number)));
        let name = Name::from_ascii("web.service.example.").unwrap();
        message.answers.push(Record::from_rdata(name, 60, data));
    }
    message
}

fn no_such_name() -> Message {
    let mut message = answer(&[]);
    message.metadata.response_code = ResponseCode::NXDomain;
    message
}

/// One name, and what is said of it.
#[derive(Default)]
struct World {
    kept: Kept,
    now: Moment,
}

impl World {
    fn hear(&mut self, message: Message) -> News {
        self.kept
            .hear(&query("web.service.example."), Arc::new(message), self.now)
    }

    fn after(&mut self, pause: Moment) -> &mut Self {
        self.now += pause;
        self
    }

    /// How many addresses are known; `None` where nothing is.
    fn known(&self) -> Option<usize> {
        let known = self.kept.known(&query("WEB.service.example"), self.now);
        known.map(|known| known.message.answers.len())
    }

    /// Another agent, after this one, with what it left on disk.
    fn restarted(&mut self) -> Self {
        let mut kept = Kept::default();
        kept.restore(self.kept.for_disk(self.now), 0);
        Self { kept, now: 0 }
    }
}

#[test]
fn an_answer_without_records_costs_no_name_until_it_has_been_said_for_a_minute() {
    for empty in [no_such_name(), answer(&[])] {
        let mut world = World::default();
        world.hear(answer(&[1, 2]));
        world.after(SECOND).hear(empty.clone());
        assert_eq!(world.known(), Some(2));
        world.after(59 * SECOND).hear(empty.clone());
        assert_eq!(world.known(), Some(2));
        assert_eq!(world.after(SECOND).hear(empty.clone()), News::Write);
        assert_eq!(world.known(), Some(0));
        // It is back at once.
        world.hear(answer(&[3]));
        assert_eq!(world.known(), Some(1));
        world.hear(empty);
        assert_eq!(world.known(), Some(1));
    }
}

#[test]
fn a_minute_with_a_silence_or_another_answer_in_it_is_none() {
    let mut world = World::default();
    world.hear(answer(&[1]));
    world.hear(no_such_name());
    world.kept.silence(&query("web.service.example."));
    world.after(HOUR).hear(no_such_name());
    assert_eq!(world.known(), Some(1), "a silence");
    world.after(50 * SECOND).hear(answer(&[1]));
    world.after(50 * SECOND).hear(no_such_name());
    assert_eq!(world.known(), Some(1), "an answer with records");
    let mut world = world.restarted();
    world.after(50 * SECOND).hear(no_such_name());
    assert_eq!(world.known(), Some(1), "a restart");
    world.after(60 * SECOND).hear(no_such_name());
    assert_eq!(world.known(), Some(0));
}

#[test]
fn two_single_words_are_no_minute() {
    let mut world = World::default();
    world.hear(answer(&[1]));
    world.after(SECOND).hear(no_such_name());
    world.after(HOUR).hear(no_such_name());
    assert_eq!(world.known(), Some(1));
    world.after(60 * SECOND).hear(no_such_name());
    assert_eq!(world.known(), Some(0));
}

#[test]
fn what_is_too_large_takes_no_other_s_place() {
    let mut shelf = Shelf::new(1000);
    let small = |bytes| Answer {
        bytes,
        ..Answer::new(Arc::new(answer(&[1])), 0)
    };
    let key = |name: &str| key_of(&query(name));
    shelf.put(key("web.example."), small(600));
    shelf.put(key("big.example."), small(usize::MAX / 4));
    assert!(shelf.answers.contains_key(&key("web.example.")));
    shelf.put(key("db.example."), small(600));
    assert_eq!((shelf.answers.len(), shelf.bytes), (1, 600));
}

#[test]
fn what_is_older_than_three_days_is_not_given_and_the_rest_for_some_seconds() {
    let mut world = World::default();
    world.hear(answer(&[1]));
    world.after(2 * 24 * HOUR);
    let known = world.kept.known(&query("web.service.example."), world.now);
    let known = known.unwrap();
    assert_eq!(known.message.answers[0].ttl, STALE_TTL);
    assert_eq!(known.age, Duration::from_secs(2 * 24 * 3600));
    let mut restarted = world.restarted();
    for world in [&mut world, &mut restarted] {
        world.after(24 * HOUR);
        assert_eq!(world.known(), Some(1));
        world.after(SECOND);
        assert_eq!(world.known(), None);
        assert!(world.kept.for_disk(world.now).is_empty());
    }
}

#[test]
fn only_what_says_something_else_is_worth_a_write_and_once_an_hour_that_it_still_holds() {
    let mut world = World::default();
    assert_eq!(world.hear(answer(&[1, 2])), News::Write);
    assert_eq!(world.hear(answer(&[1, 2])), News::Write, "nobody wrote it");
    let _ = world.kept.for_disk(world.now);
    let mut other = answer(&[2, 1]);
    other.answers[0].ttl = 7;
    assert_eq!(world.hear(other), News::Nothing);
    assert_eq!(world.hear(answer(&[1, 2, 3])), News::Write);
    let _ = world.kept.for_disk(world.now);
    assert_eq!(
        world.after(HOUR - 1).hear(answer(&[1, 2, 3])),
        News::Nothing
    );
    assert_eq!(world.after(1).hear(answer(&[1, 2, 3])), News::Write);
    let _ = world.kept.for_disk(world.now);
    let mut world = world.restarted();
    assert_eq!(world.hear(answer(&[3, 2, 1])), News::Nothing);
    // A name that does not exist is nothing for the disk; that it has no such record is.
    assert_eq!(world.hear(no_such_name()), News::Nothing);
    assert_eq!(world.hear(answer(&[])), News::Write);
}

#[test]
fn names_that_do_not_exist_cost_no_room_of_those_that_do() {
    let mut kept = Kept::default();
    let name = |number: usize| query(&format!("n{number}.example."));
    for number in 0..ANSWERS_MAX + 10 {
        kept.hear(&name(0), Arc::new(answer(&[1])), 0);
        kept.hear(&name(number + 1), Arc::new(no_such_name()), 0);
    }
    assert_eq!((kept.len(), kept.empty.answers.len()), (1, ANSWERS_MAX));
    for number in 0..ANSWERS_MAX + 10 {
        kept.hear(&name(0), Arc::new(answer(&[1])), 0);
        kept.hear(&name(number), Arc::new(answer(&[1])), 0);
    }
    assert_eq!(
        (kept.len(), kept.found.order.len()),
        (ANSWERS_MAX, ANSWERS_MAX)
    );
    assert!(kept.known(&name(0), 0).is_some(), "asked for last");
    assert_eq!(
        kept.found.bytes,
        ANSWERS_MAX * answer(&[1]).to_vec().unwrap().len()
    );
    let large: Vec<u8> = (0..=255).cycle().take(2000).collect();
    for number in 0..1000 {
        kept.hear(&name(number), Arc::new(answer(&large)), 0);
        assert!(kept.found.bytes <= FOUND_BYTES_MAX);
    }
    assert!(kept.len() > 50 && kept.known(&name(999), 0).is_some());
}

proptest! {
    /// Whatever came before: an answer with records that is young enough is given, unless Consul has
    /// denied it for a minute.
    #[test]
    fn no_name_is_lost_but_by_a_minute_of_denial(
        acts in proptest::collection::vec((0u8..5, 0i64..50), 1..60)
    ) {
        let mut world = World::default();
        let (mut found, mut denied) = (None, None);
        for (act, pause) in acts {
            world.after(pause * SECOND);
            match act {
                0 => {
                    world.hear(answer(&[1]));
                    (found, denied) = (Some(world.now), None);
                }
                1 | 2 => {
                    world.hear(no_such_name());
                    let begun = *denied.get_or_insert(world.now);
                    if world.now - begun >= 60 * SECOND {
                        found = None;
                    }
                }
                3 => {
                    world.kept.silence(&query("web.service.example."));
                    denied = None;
                }
                _ => {
                    let now = world.now;
                    world = world.restarted();
                    found = found.map(|heard| heard - now);
                    denied = None;
                }
            }
            prop_assert_eq!(world.known() == Some(1), found.is_some());
        }
    }
}
