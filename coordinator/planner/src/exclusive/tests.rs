//! What a lock says of one instance.

use calvin_model::{
    BootId, CatalogueRole, Digest, Generation, Health, ImageRef, Report, Wanted, image::Work,
};
use proptest::prelude::*;

use super::*;
use crate::{
    AgentObserved, Build, GossipObserved, InstanceClass, Life, LockHolder, ProbeObserved, Purpose,
};

const NOW: Moment = Moment { ms: 1_000_000 };

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// One that got its newest order, not to be active, so long ago.
fn told(role: Role, ago: u64) -> Instance {
    Instance {
        zone: None,
        protected: None,
        build: Build {
            image: ImageRef {
                tag: "db@1.0".parse().unwrap(),
                digest: Digest::from_sha256([1; 32]),
            },
            work: Work::OnActive,
            services: true,
            quorum: false,
        },
        purpose: Purpose::Scale,
        life: Life::Up,
        since: Moment::default(),
        created: Moment::default(),
        wanted: Wanted {
            generation: Generation(2),
            role,
            drain: None,
        },
        wanted_since: Moment {
            ms: NOW.ms - ago * 1_000,
        },
        catalogue: CatalogueRole::Active,
        proven: true,
        replace: None,
        at_work: true,
        ordered: None,
    }
}

fn lost(age: u64, ended_for: Option<u64>) -> InstanceObserved {
    InstanceObserved {
        lock: Some(LockSeen {
            age: seconds(age),
            holder: LockHolder::Nobody,
            ended_for: ended_for.map(seconds),
        }),
        ..InstanceObserved::default()
    }
}

fn reported(workload: WorkloadState, age: u64) -> AgentObserved {
    AgentObserved {
        age: seconds(age),
        report: Report {
            boot: "b0".parse::<BootId>().unwrap(),
            sequence: 1,
            generation_applied: Generation(1),
            role_applied: Some(Role::Active),
            health: Health::Healthy,
            health_for: seconds(60),
            flaps: 0,
            clock_offset_ms: None,
            workload,
            names: None,
            drain: None,
            failing: Vec::new(),
            connections: None,
            refused: None,
            names_unsaved: None,
            quorum: None,
            consul: None,
        },
    }
}

fn says(instance: &Instance, seen: &InstanceObserved) -> Option<Stopped> {
    stopped(instance, Some(seen), Judgement::NOTHING, NOW)
}

#[test]
fn a_lock_that_was_lost_says_so_of_who_is_not_to_be_active() {
    let word = Some(Stopped::SaysTheLock(seconds(7)));
    for role in [Role::Standby, Role::Draining, Role::Retired] {
        assert_eq!(says(&told(role, 5), &lost(1, Some(7))), word);
    }
    assert_eq!(says(&told(Role::Active, 5), &lost(1, Some(7))), None);
    // It holds it, or may still have a lease, or never held it.
    assert_eq!(says(&told(Role::Standby, 5), &lost(1, None)), None);
}

#[test]
fn what_was_read_before_the_order_or_long_ago_says_nothing() {
    let word = |age, ordered| says(&told(Role::Standby, ordered), &lost(age, Some(40)));
    assert!(word(4, 5).is_some());
    assert_eq!(word(5, 5), None);
    assert!(word(30, 100).is_some());
    assert_eq!(word(31, 100), None);
}

#[test]
fn a_newer_word_that_it_works_counts_for_more() {
    let one = told(Role::Standby, 60);
    let mut seen = lost(1, Some(7));
    for (workload, age, counts) in [
        (WorkloadState::Running, 6, false),
        (WorkloadState::Stopping, 0, false),
        (WorkloadState::Running, 7, true),
        (WorkloadState::Stopped, 0, true),
    ] {
        seen.agent = Some(reported(workload, age));
        assert_eq!(says(&one, &seen).is_some(), counts, "{workload:?} {age}");
    }
    for (passing, age, counts) in [(true, 6, false), (true, 7, true), (false, 0, true)] {
        seen.probe = Some(ProbeObserved {
            age: seconds(age),
            passing,
            same_for: seconds(1),
        });
        assert_eq!(says(&one, &seen).is_some(), counts, "{passing} {age}");
    }
}

proptest! {
    /// Neither gossip nor an order of a person nor silence is a proof, and no lock is one that says nothing of
    /// the work.
    #[test]
    fn only_a_lock_that_says_when_the_work_was_over_is_a_proof(
        age in 0_u64..60,
        ended_for in proptest::option::of(0_u64..60),
        ordered in 0_u64..60,
        active in any::<bool>(),
        alive in proptest::option::of(any::<bool>()),
        by_a_person in any::<bool>(),
    ) {
        let mut one = told(if active { Role::Active } else { Role::Standby }, ordered);
        one.replace = by_a_person.then_some(crate::DeleteBasis::Ordered);
        one.ordered = by_a_person.then_some(NOW);
        let mut seen = lost(age, ended_for);
        seen.gossip = alive.map(|alive| GossipObserved { age: Duration::ZERO, alive });
        let judgement = Judgement {
            class: InstanceClass::Lost,
            loss: Loss::TwoSources,
            ..Judgement::NOTHING
        };
        let word = stopped(&one, Some(&seen), judgement, NOW);
        let counts = !active && age < ordered && age <= LOCK_FRESH.as_secs();
        let expected = ended_for.filter(|_| counts);
        prop_assert_eq!(word, expected.map(|ended| Stopped::SaysTheLock(seconds(ended))));
    }
}
