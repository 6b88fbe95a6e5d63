//! Who says what, and what that comes to.

use calvin_model::{
    BootId, CatalogueRole, Digest, Generation, Health, ImageRef, Report, Role, Wanted,
    WorkloadState, image::Work,
};

use super::*;
use crate::{
    moment::Moment,
    observed::{AgentObserved, GossipObserved, MachineObserved, ProbeObserved},
    state::{Build, Purpose},
};

/// Agents report each second here, so that a word is fresh for three.
const INTERVAL: Duration = Duration::from_secs(1);
/// An hour after every record was made.
const NOW: Moment = Moment { ms: 3_600_000 };
const SILENT_AFTER: Duration = Duration::from_secs(300);
const WITNESSES: Answering = Answering {
    all: 5,
    alive: 4,
    returning: 0,
    list: ListTrust::Believed,
    distrust: Distrust::None,
};
const NO_WITNESSES: Answering = Answering {
    alive: 2,
    ..WITNESSES
};
const DOUBTED: Answering = Answering {
    list: ListTrust::Doubted { lacks: 3, of: 5 },
    ..WITNESSES
};

fn instance(services: bool) -> Instance {
    Instance {
        zone: None,
        protected: None,
        build: Build {
            image: ImageRef {
                tag: "web@1.0".parse().unwrap(),
                digest: Digest::from_sha256([1; 32]),
            },
            work: Work::Boot,
            services,
            quorum: false,
        },
        purpose: Purpose::Scale,
        life: Life::Up,
        since: Moment::default(),
        created: Moment::default(),
        wanted: Wanted {
            generation: Generation(2),
            role: Role::Active,
            drain: None,
        },
        wanted_since: Moment::default(),
        catalogue: CatalogueRole::Active,
        proven: true,
        replace: None,
        at_work: false,
        ordered: None,
    }
}

fn said(health: Health, age_s: u64, generation: u64) -> AgentObserved {
    AgentObserved {
        age: Duration::from_secs(age_s),
        report: Report {
            boot: "b0".parse::<BootId>().unwrap(),
            sequence: 1,
            generation_applied: Generation(generation),
            role_applied: Some(Role::Active),
            health,
            health_for: Duration::from_secs(60),
            flaps: 0,
            clock_offset_ms: None,
            workload: WorkloadState::Running,
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

fn probed(passing: bool, age_s: u64) -> ProbeObserved {
    ProbeObserved {
        age: Duration::from_secs(age_s),
        passing,
        same_for: Duration::ZERO,
    }
}

fn listed(state: MachineState, age_s: u64) -> MachineObserved {
    MachineObserved {
        age: Duration::from_secs(age_s),
        state,
        address: None,
    }
}

/// An instance whose session ended this long ago, with its last word from then.
fn silent(seconds: u64) -> InstanceObserved {
    InstanceObserved {
        agent: Some(said(Health::Healthy, seconds, 2)),
        session: SessionObserved::Ended(Duration::from_secs(seconds)),
        ..InstanceObserved::default()
    }
}

fn judged_with(seen: &InstanceObserved, services: bool, answering: Answering) -> Judgement {
    let observed = Observed {
        report_interval: INTERVAL,
        watching_for: Duration::from_secs(3_600),
        ..Observed::default()
    };
    let one = instance(services);
    judge(&one, SILENT_AFTER, Some(seen), &observed, answering, NOW)
}

fn judged(seen: &InstanceObserved) -> Judgement {
    judged_with(seen, true, WITNESSES)
}

fn alive(agent: AgentObserved) -> InstanceObserved {
    InstanceObserved {
        agent: Some(agent),
        session: SessionObserved::Alive(Duration::from_secs(60)),
        ..InstanceObserved::default()
    }
}

#[test]
fn an_agents_word_counts_for_three_intervals_and_then_nothing_is_known() {
    for (health, age, class) in [
        (Health::Healthy, 3, InstanceClass::Healthy),
        (Health::Unhealthy, 3, InstanceClass::Unhealthy),
        (Health::Unknown, 0, InstanceClass::Unknown),
        (Health::Healthy, 4, InstanceClass::Unknown),
        (Health::Unhealthy, 4, InstanceClass::Unknown),
    ] {
        assert_eq!(
            judged(&alive(said(health, age, 2))).class,
            class,
            "{health} {age}"
        );
    }
}

#[test]
fn healthy_counts_by_the_agents_clock_and_only_in_the_newest_role() {
    let judgement = judged(&alive(said(Health::Healthy, 2, 2)));
    assert_eq!(judgement.healthy_for, Some(Duration::from_secs(62)));
    let stale = judged(&alive(said(Health::Healthy, 2, 1)));
    assert!(stale.healthy() && !stale.healthy_in_role());
}

#[test]
fn lost_needs_path_and_provider_and_a_passing_probe_forbids_it() {
    let (running, stopped, absent) = (
        MachineState::Running,
        MachineState::Stopped,
        MachineState::Absent,
    );
    // silent for, probe, machine and age of its list, lost
    let table = [
        (4, Some(false), Some((absent, 0)), true),
        (4, Some(false), Some((stopped, 0)), true),
        (4, None, Some((absent, 0)), true),
        (4, None, Some((stopped, 0)), false),
        (4, Some(true), Some((absent, 0)), false),
        (4, Some(false), Some((running, 0)), false),
        (4, Some(false), Some((absent, 31)), false),
        (4, Some(false), None, false),
        (3, Some(false), Some((absent, 0)), false),
    ];
    for (gone_for, probe, machine, lost) in table {
        let seen = InstanceObserved {
            probe: probe.map(|passing| probed(passing, 0)),
            machine: machine.map(|(state, age)| listed(state, age)),
            ..silent(gone_for)
        };
        let judgement = judged(&seen);
        assert_eq!(judgement.loss == Loss::TwoSources, lost, "{seen:?}");
        assert_eq!(judgement.class == InstanceClass::Lost, lost, "{seen:?}");
    }
}

#[test]
fn a_list_that_is_doubted_says_nothing_where_it_lacks_a_machine() {
    let table = [
        (MachineState::Absent, Loss::None, Loss::Silence),
        (MachineState::Stopped, Loss::TwoSources, Loss::TwoSources),
    ];
    for (state, soon, late) in table {
        for (gone_for, loss) in [(4, soon), (301, late)] {
            let seen = InstanceObserved {
                probe: Some(probed(false, 0)),
                machine: Some(listed(state, 0)),
                ..silent(gone_for)
            };
            assert_eq!(judged_with(&seen, true, DOUBTED).loss, loss, "{seen:?}");
        }
    }
}

#[test]
fn an_image_without_services_has_its_session_as_its_path() {
    let seen = InstanceObserved {
        machine: Some(listed(MachineState::Stopped, 0)),
        ..silent(4)
    };
    let judgement = judged_with(&seen, false, WITNESSES);
    assert_eq!(judgement.loss, Loss::TwoSources);
}

#[test]
fn silence_alone_counts_late_and_only_with_witnesses() {
    let seen = |seconds, passing| InstanceObserved {
        probe: Some(probed(passing, 0)),
        machine: Some(listed(MachineState::Running, 0)),
        ..silent(seconds)
    };
    assert_eq!(judged(&seen(300, false)).loss, Loss::None);
    assert_eq!(judged(&seen(301, false)).loss, Loss::Silence);
    assert_eq!(judged(&seen(301, true)).loss, Loss::None);
    let alone = judged_with(&seen(301, false), true, NO_WITNESSES);
    assert_eq!(alone.loss, Loss::SilenceWithoutWitnesses);
    let only_one = Answering {
        all: 1,
        alive: 0,
        ..WITNESSES
    };
    let alone = judged_with(&seen(301, false), true, only_one);
    assert_eq!(alone.loss, Loss::SilenceWithoutWitnesses);
    // Silence is no verdict by itself: what is known stays unknown.
    assert_eq!(alone.class, InstanceClass::Unknown);
}

#[test]
fn no_silence_is_older_than_the_coordinators_own_watch() {
    let observed = Observed {
        report_interval: INTERVAL,
        watching_for: Duration::from_secs(2),
        ..Observed::default()
    };
    let seen = InstanceObserved {
        machine: Some(listed(MachineState::Absent, 0)),
        ..InstanceObserved::default()
    };
    let one = instance(true);
    let judgement = judge(&one, SILENT_AFTER, Some(&seen), &observed, WITNESSES, NOW);
    assert_eq!(judgement.loss, Loss::None);
    assert_eq!(judgement.class, InstanceClass::Unknown);
    // Also of one that ended before the coordinator itself stood still for an hour.
    let seen = InstanceObserved {
        probe: Some(probed(false, 0)),
        machine: Some(listed(MachineState::Absent, 0)),
        ..silent(3_600)
    };
    let judgement = judge(&one, SILENT_AFTER, Some(&seen), &observed, WITNESSES, NOW);
    assert_eq!(judgement.silent_for, Duration::from_secs(2));
    assert_eq!(judgement.loss, Loss::None);
}

#[test]
fn a_list_from_before_the_record_does_not_say_that_its_machine_is_gone() {
    let observed = Observed {
        report_interval: INTERVAL,
        watching_for: Duration::from_secs(3_600),
        ..Observed::default()
    };
    let one = Instance {
        created: Moment {
            ms: NOW.ms - 20_000,
        },
        ..instance(true)
    };
    for (age, loss) in [(21, Loss::None), (20, Loss::None), (19, Loss::TwoSources)] {
        let seen = InstanceObserved {
            machine: Some(listed(MachineState::Absent, age)),
            ..silent(10)
        };
        let judgement = judge(&one, SILENT_AFTER, Some(&seen), &observed, WITNESSES, NOW);
        assert_eq!(judgement.loss, loss, "{age} s old");
    }
}

#[test]
fn a_workload_that_answers_without_its_agent_is_unmanaged_and_serves() {
    let seen = |age| InstanceObserved {
        probe: Some(probed(true, age)),
        ..silent(60)
    };
    let judgement = judged(&seen(6));
    assert_eq!(judgement.class, InstanceClass::Unmanaged);
    assert!(judgement.serves() && !judgement.failing());
    assert_eq!(judged(&seen(7)).class, InstanceClass::Unknown);
}

#[test]
fn what_was_never_up_is_starting_and_never_lost() {
    let mut one = instance(true);
    one.life = Life::Making;
    let observed = Observed {
        report_interval: INTERVAL,
        watching_for: Duration::from_secs(3_600),
        ..Observed::default()
    };
    let seen = InstanceObserved {
        machine: Some(listed(MachineState::Absent, 0)),
        ..InstanceObserved::default()
    };
    let judgement = judge(&one, SILENT_AFTER, Some(&seen), &observed, WITNESSES, NOW);
    assert_eq!(judgement.class, InstanceClass::Starting);
    assert_eq!(judgement.loss, Loss::None);
    let never = judge(&one, SILENT_AFTER, None, &observed, WITNESSES, NOW);
    assert_eq!(never.class, InstanceClass::Starting);
}

#[test]
fn an_order_is_a_second_source_only_in_the_silence_that_it_was_given_in() {
    let seen = InstanceObserved {
        machine: Some(listed(MachineState::Absent, 0)),
        ..silent(400)
    };
    let observed = Observed {
        report_interval: INTERVAL,
        watching_for: Duration::from_secs(3_600),
        ..Observed::default()
    };
    let ordered = |ago: u64, at_work| Instance {
        replace: Some(DeleteBasis::Ordered),
        ordered: Some(Moment {
            ms: NOW.ms - ago * 1_000,
        }),
        at_work,
        ..instance(true)
    };
    let loss = |one: &Instance| judge(one, SILENT_AFTER, Some(&seen), &observed, DOUBTED, NOW).loss;
    assert_eq!(loss(&ordered(100, false)), Loss::TwoSources);
    // Given while it still answered, or of the one whose work may go on.
    assert_ne!(loss(&ordered(500, false)), Loss::TwoSources);
    assert_ne!(loss(&ordered(100, true)), Loss::TwoSources);
}

#[test]
fn gossip_that_misses_a_machine_is_a_second_source_and_a_passing_probe_forbids_it() {
    let gossip = |alive, age_s| {
        Some(GossipObserved {
            age: Duration::from_secs(age_s),
            alive,
        })
    };
    let seen = |gossip, probe| InstanceObserved {
        gossip,
        probe: Some(probed(probe, 1)),
        machine: Some(listed(MachineState::Running, 1)),
        ..silent(20)
    };
    assert_eq!(
        judged(&seen(gossip(false, 1), false)).loss,
        Loss::TwoSources
    );
    // An old word of gossip, one that says that it lives, or a workload that answers: not lost.
    assert_eq!(judged(&seen(gossip(false, 31), false)).loss, Loss::None);
    assert_eq!(judged(&seen(gossip(true, 1), false)).loss, Loss::None);
    assert_eq!(judged(&seen(gossip(false, 1), true)).loss, Loss::None);
    // Nor is one whose agent speaks.
    let speaks = InstanceObserved {
        gossip: gossip(false, 1),
        ..alive(said(Health::Healthy, 1, 2))
    };
    assert_eq!(judged(&speaks).class, InstanceClass::Healthy);
}
