//! The lock step by step, and two machines with one Consul in any order of what can happen.

mod world;

use super::*;

const S: Duration = Duration::from_secs(1);
const NOW: Duration = Duration::from_secs(1000);

fn id(number: u8) -> SessionId {
    format!("00000000-0000-0000-0000-0000000000{number:02x}")
        .parse()
        .unwrap()
}

fn facts(work: Work) -> Facts {
    Facts {
        gate: Gate::Locked,
        wanted: Some(WorkloadOrder::Start),
        work,
    }
}

fn stop(work: Work) -> Facts {
    Facts {
        wanted: Some(WorkloadOrder::Stop),
        ..facts(work)
    }
}

fn holds(session: u8, fence: u64) -> Holder {
    Holder {
        session: Some(id(session)),
        instance: Some("db-bbbbbbbb".parse().unwrap()),
        fence,
        index: fence * 10,
    }
}

/// Asks what is to be asked, which must be this, and hands in an answer at once.
fn answer(lock: &mut Lock, facts: &Facts, now: Duration, ask: &Ask, answer: Answer) {
    assert_eq!(lock.next(facts, now).ask.as_ref(), Some(ask));
    lock.answered(now, answer, now, 1.0);
}

/// One that has just taken the lock as session 1 with fence 7.
fn held() -> Lock {
    let mut lock = Lock::new(None, NOW);
    let gone = facts(Work::Gone);
    answer(&mut lock, &gone, NOW, &Ask::Create, Answer::Created(id(1)));
    let got = Answer::Holds(holds(1, 7));
    answer(&mut lock, &gone, NOW, &Ask::Acquire(id(1)), got);
    lock
}

fn start(fence: u64) -> Option<Command> {
    Some(Command::Start { fence: Some(fence) })
}

fn words(lock: &Lock, facts: &Facts, now: Duration) -> Option<String> {
    lock.words(facts, &"db".parse().unwrap(), None, now)
}

#[test]
fn the_work_starts_with_the_lock_and_its_lease_is_reckoned_from_what_was_sent() {
    let mut lock = Lock::new(None, NOW);
    let gone = facts(Work::Gone);
    let next = lock.next(&gone, NOW);
    assert_eq!((next.command, next.lease), (None, None));
    assert_eq!(next.ask, Some(Ask::Create));
    assert_eq!(lock.next(&gone, NOW).ask, None, "one at a time");
    lock.answered(NOW, Answer::Created(id(1)), NOW + S, 1.0);
    let next = lock.next(&gone, NOW + S);
    assert_eq!((next.command, next.ask), (None, Some(Ask::Acquire(id(1)))));
    lock.answered(NOW + S, Answer::Holds(holds(1, 7)), NOW + 2 * S, 1.0);
    let next = lock.next(&gone, NOW + 2 * S);
    assert_eq!((next.command, next.lease), (start(7), Some(NOW + LEASE)));
    assert_eq!((next.ask, next.due), (None, Some(NOW + RENEW_EVERY)));
    let now = NOW + RENEW_EVERY;
    let runs = facts(Work::Leased);
    assert_eq!(lock.next(&runs, now).ask, Some(Ask::Renew(id(1))));
    lock.answered(now, Answer::Renewed, now + S, 1.0);
    assert_eq!(lock.next(&runs, now + S).lease, Some(now + LEASE));
}

#[test]
fn while_consul_is_silent_nothing_is_ordered_and_the_same_lock_goes_on() {
    let mut lock = held();
    let runs = facts(Work::Leased);
    let mut now = NOW + RENEW_EVERY;
    while now < NOW + 20 * S {
        let next = lock.next(&runs, now);
        assert_eq!((next.command, next.lease), (start(7), Some(NOW + LEASE)));
        if next.ask.is_some() {
            lock.answered(now, Answer::Failed("silent".into()), now, 1.0);
        }
        let due = lock.next(&runs, now).due.unwrap();
        assert!(due > now && due <= now + 2 * S, "{due:?} at {now:?}");
        now = due;
    }
    let said = words(&lock, &runs, now).unwrap();
    assert!(said.contains("stopped when its lease was over"), "{said}");
    assert_eq!(lock.next(&runs, now).ask, Some(Ask::Renew(id(1))));
    lock.answered(now, Answer::Renewed, now, 1.0);
    let next = lock.next(&runs, now);
    assert_eq!((next.command, next.lease), (start(7), Some(now + LEASE)));
    assert_eq!(words(&lock, &runs, now), None);
}

#[test]
fn a_session_that_is_gone_kills_the_work_and_a_new_one_has_a_new_fence() {
    let mut lock = held();
    let now = NOW + RENEW_EVERY;
    answer(
        &mut lock,
        &facts(Work::Leased),
        now,
        &Ask::Renew(id(1)),
        Answer::Gone,
    );
    let next = lock.next(&facts(Work::Leased), now);
    assert_eq!((next.command, next.lease), (Some(Command::Kill), None));
    assert_eq!(next.ask, None, "not before it is gone");
    let gone = facts(Work::Gone);
    answer(&mut lock, &gone, now, &Ask::Create, Answer::Created(id(2)));
    let got = Answer::Holds(holds(2, 8));
    answer(&mut lock, &gone, now, &Ask::Acquire(id(2)), got);
    assert_eq!(lock.next(&gone, now).command, start(8));
}

#[test]
fn a_lock_that_was_taken_away_kills_the_work_but_an_old_word_of_it_does_not() {
    let mut lock = held();
    let runs = facts(Work::Leased);
    let free = |index| Holder {
        index,
        ..Holder::default()
    };
    lock.seen(free(69), NOW);
    assert_eq!(lock.next(&runs, NOW).command, start(7));
    lock.seen(free(71), NOW);
    let next = lock.next(&runs, NOW);
    assert_eq!((next.command, next.lease), (Some(Command::Kill), None));
    assert_eq!(next.ask, None);
    let gone = facts(Work::Gone);
    assert_eq!(lock.next(&gone, NOW).ask, Some(Ask::Acquire(id(1))));
}

#[test]
fn who_does_not_get_it_says_who_holds_it_and_asks_when_it_is_free() {
    let mut lock = Lock::new(None, NOW);
    let gone = facts(Work::Gone);
    answer(&mut lock, &gone, NOW, &Ask::Create, Answer::Created(id(1)));
    let busy = Answer::Holds(holds(2, 7));
    answer(&mut lock, &gone, NOW, &Ask::Acquire(id(1)), busy);
    assert!(lock.watches());
    let next = lock.next(&gone, NOW);
    assert_eq!((next.command, next.ask), (None, None));
    assert_eq!(
        words(&lock, &gone, NOW).unwrap(),
        "waits for the lock of fleet db, which db-bbbbbbbb holds"
    );
    lock.seen(holds(2, 7), NOW + S);
    assert_eq!(lock.next(&gone, NOW + S).ask, None);
    let free = Holder {
        session: None,
        index: 80,
        ..holds(2, 7)
    };
    lock.seen(free.clone(), NOW + S);
    assert_eq!(lock.next(&gone, NOW + S).ask, Some(Ask::Acquire(id(1))));
    // Somebody else was quicker, and gives it back: not busy.
    lock.answered(NOW + S, Answer::Holds(free), NOW + S, 1.0);
    let next = lock.next(&gone, NOW + S);
    assert_eq!((next.ask, next.due), (None, Some(NOW + S + PAUSES.0)));
}

#[test]
fn a_restarted_agent_goes_on_with_its_session_and_disturbs_nothing() {
    let mut lock = Lock::new(Some(id(1)), NOW);
    let unsaid = Facts {
        wanted: None,
        ..facts(Work::Unknown)
    };
    let next = lock.next(&unsaid, NOW);
    assert_eq!((next.command, next.lease), (None, None));
    assert_eq!(next.ask, Some(Ask::Renew(id(1))));
    let runs = facts(Work::Leased);
    assert_eq!(lock.next(&runs, NOW).command, None);
    lock.answered(NOW, Answer::Renewed, NOW, 1.0);
    // Not acquired: that could give it a fence that what runs does not have.
    let same = Answer::Holds(holds(1, 7));
    answer(&mut lock, &runs, NOW, &Ask::Look, same);
    let next = lock.next(&runs, NOW);
    assert_eq!((next.command, next.lease), (start(7), Some(NOW + LEASE)));

    let mut lock = Lock::new(Some(id(1)), NOW);
    answer(&mut lock, &runs, NOW, &Ask::Renew(id(1)), Answer::Renewed);
    answer(
        &mut lock,
        &runs,
        NOW,
        &Ask::Look,
        Answer::Holds(holds(2, 8)),
    );
    assert_eq!(lock.next(&runs, NOW).command, Some(Command::Kill));
}

/// That this session of ours holds it.
fn found(session: u8, fence: u64) -> Answer {
    Answer::Found(Some(Held {
        session: id(session),
        fence,
        index: fence * 10,
    }))
}

#[test]
fn an_agent_that_knows_no_session_looks_for_that_of_what_runs_before_it_kills_it() {
    let runs = facts(Work::Leased);
    // Nothing is on disk, or a session of before.
    for kept in [None, Some(id(1))] {
        let mut lock = Lock::new(kept.clone(), NOW);
        assert_eq!(lock.next(&facts(Work::Unknown), NOW).command, None);
        if kept.is_some() {
            lock.answered(NOW, Answer::Gone, NOW, 1.0);
        }
        let next = lock.next(&runs, NOW);
        assert_eq!((next.command, next.lease), (None, None));
        assert_eq!(next.ask, Some(Ask::Find));
        // Consul is silent: the lease ends the work, and nobody else.
        lock.answered(NOW, Answer::Failed("silent".into()), NOW, 1.0);
        let next = lock.next(&runs, NOW);
        assert_eq!((next.command, next.ask), (None, None));
        let now = next.due.unwrap();
        answer(&mut lock, &runs, now, &Ask::Find, found(2, 7));
        assert_eq!(lock.session(), Some(&id(2)));
        let next = lock.next(&runs, now);
        assert_eq!((next.command, next.lease), (start(7), None));
        assert_eq!(next.ask, Some(Ask::Renew(id(2))));
        lock.answered(now, Answer::Renewed, now, 1.0);
        let next = lock.next(&runs, now);
        assert_eq!((next.command, next.lease), (start(7), Some(now + LEASE)));
        // What is lost from now on is lost.
        let later = now + RENEW_EVERY;
        answer(&mut lock, &runs, later, &Ask::Renew(id(2)), Answer::Gone);
        let next = lock.next(&runs, later);
        assert_eq!((next.command, next.ask), (Some(Command::Kill), None));
    }
}

#[test]
fn a_session_that_is_not_on_disk_is_told_unless_something_is_worse() {
    let lock = held();
    let runs = facts(Work::Leased);
    let fleet = "db".parse().unwrap();
    let said = |lock: &Lock, now| lock.words(&runs, &fleet, Some("no space left"), now);
    let told = said(&lock, NOW).unwrap();
    assert!(told.contains("is not on disk"), "{told}");
    assert!(told.ends_with("no space left"), "{told}");
    let mut lock = held();
    let now = NOW + RENEW_EVERY;
    let silent = || Answer::Failed("silent".into());
    answer(&mut lock, &runs, now, &Ask::Renew(id(1)), silent());
    let told = said(&lock, NOW + 3 * RENEW_EVERY).unwrap();
    assert!(told.contains("could not be renewed"), "{told}");
}

#[test]
fn what_runs_without_a_session_of_this_machine_is_killed() {
    let mut lock = Lock::new(None, NOW);
    let runs = facts(Work::Leased);
    answer(&mut lock, &runs, NOW, &Ask::Find, Answer::Found(None));
    let next = lock.next(&runs, NOW);
    assert_eq!((next.command, next.ask), (Some(Command::Kill), None));
    let gone = facts(Work::Gone);
    assert_eq!(lock.next(&gone, NOW).ask, Some(Ask::Create));
}

#[test]
fn what_is_found_after_its_work_has_ended_is_nothing_to_go_on_with() {
    let mut lock = Lock::new(None, NOW);
    assert_eq!(lock.next(&facts(Work::Leased), NOW).ask, Some(Ask::Find));
    let gone = facts(Work::Gone);
    assert_eq!(lock.next(&gone, NOW).ask, None);
    lock.answered(NOW, found(1, 7), NOW, 1.0);
    let next = lock.next(&gone, NOW);
    assert_eq!((next.command, next.ask), (None, Some(Ask::Create)));
    // Nor is one looked for where nothing runs, as after the machine was started again.
    let mut lock = Lock::new(None, NOW);
    assert_eq!(lock.next(&gone, NOW).ask, Some(Ask::Create));
}

#[test]
fn the_lock_is_given_back_when_nothing_runs_and_then_the_session_ends() {
    let mut lock = held();
    let next = lock.next(&stop(Work::Leased), NOW);
    assert_eq!((next.command, next.ask), (Some(Command::Stop), None));
    assert_eq!(next.lease, Some(NOW + LEASE), "it may take its time");
    let gone = stop(Work::Gone);
    answer(
        &mut lock,
        &gone,
        NOW,
        &Ask::Release(id(1)),
        Answer::Released,
    );
    // Wanted again meanwhile: all the same.
    let again = facts(Work::Gone);
    assert_eq!(lock.next(&again, NOW).command, None);
    let end = lock.next(&again, NOW).ask;
    assert_eq!(end, None, "it is under way");
    lock.answered(NOW, Answer::Destroyed, NOW, 1.0);
    assert_eq!(lock.next(&again, NOW).ask, Some(Ask::Create));
}

#[test]
fn work_that_ran_without_a_lock_is_stopped_in_order_and_started_with_it() {
    let mut lock = Lock::new(None, NOW);
    let next = lock.next(&facts(Work::Free), NOW);
    assert_eq!((next.command, next.ask), (Some(Command::Stop), None));
    assert_eq!(lock.next(&facts(Work::Gone), NOW).ask, Some(Ask::Create));
}

#[test]
fn without_a_lock_everything_is_ordered_as_it_is_wanted() {
    let mut lock = Lock::new(None, NOW);
    for work in [Work::Unknown, Work::Gone, Work::Free] {
        for (wanted, command) in [
            (None, None),
            (Some(WorkloadOrder::Stop), Some(Command::Stop)),
            (
                Some(WorkloadOrder::Start),
                Some(Command::Start { fence: None }),
            ),
        ] {
            let gate = Gate::Free;
            let facts = Facts { gate, wanted, work };
            let next = lock.next(&facts, NOW);
            assert_eq!((next.command, next.lease, next.ask), (command, None, None));
            assert_eq!((next.due, words(&lock, &facts, NOW)), (None, None));
        }
    }
}

#[test]
fn what_is_not_known_to_need_no_lock_is_not_started_and_is_stopped() {
    let mut lock = Lock::new(None, NOW);
    let gate = Gate::Unknown;
    let unknown = Facts {
        gate,
        ..facts(Work::Gone)
    };
    let next = lock.next(&unknown, NOW);
    assert_eq!((next.command, next.ask), (None, None));
    let said = words(&lock, &unknown, NOW).unwrap();
    assert!(said.contains("whether fleet db is exclusive"), "{said}");
    let unwanted = Facts {
        gate,
        ..stop(Work::Free)
    };
    assert_eq!(lock.next(&unwanted, NOW).command, Some(Command::Stop));
}

#[test]
fn a_session_that_can_be_given_back_nowhere_is_forgotten_when_it_is_over() {
    let mut lock = held();
    let left = Facts {
        gate: Gate::Free,
        ..facts(Work::Gone)
    };
    let mut now = NOW;
    while lock.session().is_some() {
        let next = lock.next(&left, now);
        assert_eq!(next.command, Some(Command::Start { fence: None }));
        if next.ask.is_some() {
            lock.answered(now, Answer::Failed("no Consul".into()), now, 1.0);
        }
        now += S;
        assert!(now < NOW + TTL * 3);
    }
    assert!(now > NOW + TTL * 2);
}
