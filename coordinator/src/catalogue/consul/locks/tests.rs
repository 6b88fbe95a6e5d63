//! Locks as they are read, one answer after the other.

use calvin_consul::exclusive::lock_key;
use proptest::prelude::*;

use super::*;

const SESSIONS: [&str; 2] = [
    "11111111-2222-4333-8444-555555555555",
    "21111111-2222-4333-8444-555555555555",
];

fn id(text: &str) -> InstanceId {
    text.parse().unwrap()
}

fn prefix() -> Prefix {
    calvin_consul::exclusive::locks_prefix(&"prod".parse().unwrap())
        .parse()
        .unwrap()
}

fn key() -> Key {
    lock_key(&"prod".parse().unwrap(), &"db".parse().unwrap()).unwrap()
}

fn entry(value: &str, lock_index: u64, session: Option<&str>) -> Entry {
    Entry {
        key: key().as_str().to_owned(),
        value: value.as_bytes().to_vec(),
        flags: 0,
        lock_index,
        session: session.map(|session| session.parse().unwrap()),
        create_index: 1,
        modify_index: 1,
    }
}

/// Both work with the lock.
fn both() -> BTreeMap<FleetName, BTreeSet<InstanceId>> {
    let members = ["db-a", "db-b"].map(id).into();
    BTreeMap::from([("db".parse().unwrap(), members)])
}

/// Answers that are all new when they are looked at.
struct Read {
    locks: Locks,
    now: Instant,
}

impl Read {
    fn new() -> Self {
        let mut locks = Locks::default();
        locks.concern(both());
        Self {
            locks,
            now: Instant::now(),
        }
    }

    fn take(&mut self, entries: &[Entry]) -> bool {
        self.locks.take(&prefix(), entries, self.now)
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// What is seen of this one, in an answer of this age.
    fn seen_at(&self, name: &str, age: u64) -> LockSeen {
        let page = self.locks.pages.as_ref().unwrap();
        let page = &page[&"db".parse().unwrap()];
        seen(&id(name), page, Duration::from_secs(age), self.now)
    }

    fn ended(&self, name: &str) -> Option<u64> {
        Some(self.seen_at(name, 0).ended_for?.as_secs())
    }

    fn needs(&self, name: &str) -> Needs {
        self.locks.needs(key(), &"db".parse().unwrap(), &id(name))
    }

    fn lacks(&self, name: &str) -> String {
        match self.needs(name) {
            Needs::Lacks(text) => text,
            other @ (Needs::Nothing | Needs::Holds(_)) => panic!("{other:?}"),
        }
    }
}

#[test]
fn who_holds_it_may_become_active_and_others_wait_for_it_by_name() {
    let mut read = Read::new();
    assert_eq!(
        read.lacks("db-a"),
        "db-a to take the lock calvin/prod/locks/db, of which nothing was read yet"
    );
    assert!(read.take(&[]));
    assert!(read.lacks("db-a").ends_with("which nobody holds"));
    let held = [entry("db-a", 1, Some(SESSIONS[0]))];
    assert!(read.take(&held) && !read.take(&held));
    let session = SESSIONS[0].parse().unwrap();
    let check = Op::CheckSession {
        key: key(),
        session,
    };
    assert_eq!(read.needs("db-a"), Needs::Holds(check));
    assert!(read.lacks("db-b").ends_with("which db-a holds"));
    // A person's.
    read.take(&[entry("by hand", 2, Some(SESSIONS[1]))]);
    assert!(read.lacks("db-b").contains("which session 2111"));
    assert!(read.lacks("db-a").contains("which session 2111"));
}

#[test]
fn a_lock_that_was_lost_is_a_word_after_a_lease_and_no_sooner() {
    let mut read = Read::new();
    read.take(&[entry("db-a", 1, Some(SESSIONS[0]))]);
    read.pass(100);
    assert_eq!(read.ended("db-a"), None);
    assert_eq!(read.seen_at("db-a", 0).holder, LockHolder::Itself);
    read.take(&[entry("db-a", 1, None)]);
    read.pass(LEASE.as_secs() - 1);
    assert_eq!(read.ended("db-a"), None);
    read.pass(3);
    assert_eq!(read.ended("db-a"), Some(2));
    assert_eq!(read.seen_at("db-a", 0).holder, LockHolder::Nobody);
    // As of when it was read.
    assert!(read.seen_at("db-a", 2).ended_for.is_some());
    assert_eq!(read.seen_at("db-a", 3).ended_for, None);
    // Who was never seen with it may work without it, for all that is known.
    assert_eq!(read.ended("db-b"), None);
    read.take(&[entry("db-b", 2, Some(SESSIONS[1]))]);
    assert_eq!(read.ended("db-a"), Some(2));
    let another = LockHolder::Another("db-b".to_owned());
    assert_eq!(read.seen_at("db-a", 0).holder, another);
}

#[test]
fn one_that_had_it_again_for_a_moment_begins_anew() {
    let mut read = Read::new();
    read.take(&[entry("db-a", 1, None)]);
    read.pass(20);
    assert!(read.ended("db-a").is_some(), "the value names it");
    read.take(&[entry("db-a", 2, None)]);
    assert_eq!(read.ended("db-a"), None);
    read.pass(20);
    // Two got it, and only the last is known.
    read.take(&[entry("db-b", 4, Some(SESSIONS[1]))]);
    assert_eq!(read.ended("db-a"), None);
    read.pass(20);
    assert!(read.ended("db-a").is_some());
    // The key was deleted, and made anew.
    read.take(&[entry("db-b", 1, Some(SESSIONS[1]))]);
    assert_eq!(read.ended("db-a"), None);
}

#[test]
fn what_is_written_over_by_hand_proves_nothing() {
    let mut read = Read::new();
    read.take(&[entry("db-a", 1, Some(SESSIONS[0]))]);
    read.take(&[entry("db-b", 1, Some(SESSIONS[0]))]);
    read.pass(60);
    assert_eq!(read.seen_at("db-a", 0).holder, LockHolder::Itself);
    assert_eq!(read.ended("db-a"), None);
    let mut read = Read::new();
    read.take(&[entry("db-a", 1, None)]);
    read.take(&[entry("by hand", 2, Some(SESSIONS[0]))]);
    read.pass(60);
    assert_eq!(read.ended("db-a"), None);
}

#[test]
fn other_keys_and_instances_without_a_record_are_left_out() {
    let mut read = Read::new();
    let mut odd = entry("db-a", 1, None);
    odd.key = "calvin/prod/locks/no/fleet".to_owned();
    read.take(&[odd, entry("db-gone", 1, None)]);
    let pages = read.locks.pages.as_ref().unwrap();
    assert_eq!(pages.len(), 1);
    // Nobody is on record before the engine has begun, and who had it last is remembered over that.
    read.locks.concern(BTreeMap::new());
    read.pass(60);
    assert!(read.ended("db-gone").is_some());
    // Of which no answer tells how old it is.
    assert_eq!(read.locks.seen(read.now), BTreeMap::new());
}

#[test]
fn what_was_seen_before_one_worked_without_the_lock_proves_nothing_any_more() {
    let mut read = Read::new();
    read.take(&[entry("db-a", 1, None)]);
    read.take(&[entry("db-b", 2, Some(SESSIONS[1]))]);
    read.pass(60);
    read.locks.concern(both());
    assert!(read.ended("db-a").is_some());
    for members in [BTreeMap::new(), both()] {
        read.locks.concern(members);
        assert_eq!(read.ended("db-a"), None);
    }
}

proptest! {
    /// Whatever comes to be read, in which order and however late: nobody who holds the lock, or held it less
    /// than a lease ago, is said to have ended his work.
    #[test]
    fn nobody_is_said_to_have_ended_within_a_lease(
        turns in proptest::collection::vec((0_u64..15, 0_u8..4, any::<bool>()), 1..40),
    ) {
        let mut read = Read::new();
        let (mut index, mut holder, mut last) = (0, None, None);
        let mut had: BTreeMap<&str, Instant> = BTreeMap::new();
        for (seconds, turn, is_read) in turns {
            if let Some(holder) = holder {
                had.insert(holder, read.now + Duration::from_secs(seconds));
            }
            read.pass(seconds);
            match (turn, holder) {
                (0 | 1, None) => {
                    let name = ["db-a", "db-b"][usize::from(turn)];
                    (holder, last) = (Some(name), Some(name));
                    index += 1;
                    had.insert(name, read.now);
                }
                (2, Some(_)) => holder = None,
                (_, _) => {}
            }
            if is_read && let Some(last) = last {
                let session = holder.map(|name| SESSIONS[usize::from(name == "db-b")]);
                read.take(&[entry(last, index, session)]);
            }
            for name in ["db-a", "db-b"] {
                let age = 0;
                let known = read.locks.pages.as_ref().is_some_and(|pages| !pages.is_empty());
                if !is_read || !known || read.seen_at(name, age).ended_for.is_none() {
                    continue;
                }
                prop_assert!(holder != Some(name));
                prop_assert!(read.now.duration_since(had[name]) >= LEASE);
            }
        }
    }
}
