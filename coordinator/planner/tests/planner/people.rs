//! What persons do with a running rollout: approve, pause, resume, promote; and what it does while
//! it waits for them.

use std::time::Duration;

use calvin_model::{Health, InstanceId, fleet::Gate};
use calvin_planner::{Command, Phase, Refusal};

use crate::world::{World, web};

pub(crate) fn served(text: &str) -> World {
    let mut world = World::new();
    world.apply(text, "1.0");
    while world.phase() != Some(Phase::Done) {
        world.run_until(3_600, |world| {
            let phase = world.phase();
            phase == Some(Phase::Done) || phase == Some(Phase::AwaitingSwitch)
        });
        for who in ["yan", "zoe"] {
            drop(world.order_by(who, &approve(None)));
        }
        world.tick();
    }
    world
}

pub(crate) fn reason() -> String {
    "it is time".to_owned()
}

fn approve(gate: Option<Gate>) -> Command {
    Command::Approve {
        fleet: web(),
        gate,
        reason: reason(),
    }
}

pub(crate) fn pause() -> Command {
    Command::Pause {
        fleet: web(),
        reason: reason(),
    }
}

pub(crate) fn resume() -> Command {
    Command::Resume { fleet: web() }
}

fn greens(world: &World) -> Vec<InstanceId> {
    world.web().rollout.as_ref().unwrap().sets.green.clone()
}

/// What is asked for and refused: why, and what to do instead.
pub(crate) fn refused(refusal: Result<Vec<String>, Refusal>) -> (String, String) {
    match refusal.unwrap_err() {
        Refusal::NotNow {
            what, why, hint, ..
        } => {
            assert!(what.starts_with("could not"), "{what}");
            assert!(!hint.is_empty(), "{what}");
            (why, hint)
        }
        other @ (Refusal::NoFleet { .. }
        | Refusal::NoInstance { .. }
        | Refusal::PlanChanged { .. }) => panic!("{other}"),
    }
}

pub(crate) fn waits_for(world: &World, text: &str) -> bool {
    let report = world.report();
    let waits = report.waiting.iter().any(|one| one.what.contains(text));
    let blocked = &report.blocked;
    let mut held = blocked.iter();
    waits || held.any(|one| one.what.contains(text) || one.fact.contains(text))
}

#[test]
fn a_gate_waits_for_a_person_and_tells_whom_it_waits_for() {
    let mut world = served("count = 2\n[replace]\napprove = [\"switch\", \"retire\"]");
    world.start("2.0").unwrap();
    world.run_to(Phase::AwaitingSwitch);
    world.run_for(Duration::from_secs(3_000));
    assert_eq!(
        world.phase(),
        Some(Phase::AwaitingSwitch),
        "{}",
        world.story()
    );
    assert!(waits_for(&world, "1 of 1 persons to approve the switch"));
    assert_eq!(world.active("1.0").len(), 2);
    let lines = world.order(&approve(None)).unwrap();
    assert!(lines[0].contains("traffic is switched next"), "{lines:?}");
    world.run_to(Phase::AwaitingRetire);
    world.run_for(Duration::from_secs(3_000));
    assert_eq!(world.phase(), Some(Phase::AwaitingRetire));
    assert_eq!(world.machines_there(), 4, "blue stays, warm");
    world.order_by("bob", &approve(Some(Gate::Retire))).unwrap();
    world.run_to(Phase::Done);
    assert_eq!(world.active("2.0").len(), 2);
    let rollout = world.web().rollout.clone().unwrap();
    let who: Vec<(&str, Gate)> = rollout
        .approvals
        .iter()
        .map(|one| (one.by.as_str(), one.gate))
        .collect();
    assert_eq!(who, [("ann", Gate::Switch), ("bob", Gate::Retire)]);
    assert!(world.tells("the switch is approved by 1 of 1 (it is time)"));
    assert!(world.tells("awaiting_switch -> switching: approved by ann"));
}

#[test]
fn two_persons_of_which_none_started_it_must_approve_where_the_fleet_wants_that() {
    let text = "count = 1\n[replace]\napprove = [\"switch\"]\napprovals = 2\napprover = \"other\"";
    let mut world = served(text);
    world.start("2.0").unwrap();
    let (why, _) = refused(world.order_by("bob", &approve(Some(Gate::Switch))));
    assert!(why.contains("only what has proved itself"), "{why}");
    world.run_to(Phase::AwaitingSwitch);
    let (why, _) = refused(world.order(&approve(None)));
    assert!(why.contains("ann started it"), "{why}");
    let (why, _) = refused(world.order_by("bob", &approve(Some(Gate::Retire))));
    assert!(why.contains("no approval of the retire"), "{why}");
    let lines = world.order_by("bob", &approve(None)).unwrap();
    assert!(lines[0].contains("1 more must approve"), "{lines:?}");
    let (why, _) = refused(world.order_by("bob", &approve(None)));
    assert!(why.contains("bob approved the switch already"), "{why}");
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.phase(), Some(Phase::AwaitingSwitch));
    world.order_by("cid", &approve(None)).unwrap();
    world.run_to(Phase::Done);
}

#[test]
fn a_gate_is_asked_for_once_and_later_waves_pass_it() {
    let text = "count = 3\n[replace]\nsurge = 1\nbake = \"3s\"\napprove = [\"switch\", \"retire\"]";
    let mut world = served(text);
    world.start("2.0").unwrap();
    for phase in [Phase::AwaitingSwitch, Phase::AwaitingRetire] {
        world.run_to(phase);
        world.order(&approve(None)).unwrap();
    }
    world.run_to(Phase::Done);
    assert_eq!(world.active("2.0").len(), 3);
    assert_eq!(world.web().rollout.as_ref().unwrap().wave, 2);
}

#[test]
fn who_changes_the_fleet_file_lifts_no_gate_of_a_rollout_that_runs() {
    let mut world = served("count = 1\n[replace]\napprove = [\"switch\"]");
    world.start("2.0").unwrap();
    world.apply("count = 1", "2.0");
    world.run_to(Phase::AwaitingSwitch);
    world.run_for(Duration::from_secs(100));
    assert_eq!(world.phase(), Some(Phase::AwaitingSwitch));
}

#[test]
fn a_person_who_does_not_come_leads_back() {
    let text =
        "count = 2\n[replace]\napprove = [\"switch\", \"retire\"]\napproval_timeout = \"200s\"";
    let mut world = served(text);
    world.start("2.0").unwrap();
    world.run_to(Phase::RolledBack);
    assert!(world.tells("approvals of the switch are missing after approval_timeout"));
    world.start("2.0").unwrap();
    world.run_to(Phase::AwaitingSwitch);
    world.order(&approve(None)).unwrap();
    world.run_to(Phase::AwaitingRetire);
    world.run_to(Phase::RolledBack);
    assert_eq!(world.active("1.0").len(), 2);
    assert!(world.is_quiet());
}

#[test]
fn a_first_rollout_that_nobody_approves_is_given_up() {
    let mut world = World::new();
    let text = "count = 1\n[replace]\napprove = [\"switch\"]\napproval_timeout = \"100s\"";
    world.apply(text, "1.0");
    world.run_to(Phase::AwaitingSwitch);
    world.run_to(Phase::Failed);
    assert!(world.active("1.0").is_empty());
}

#[test]
fn a_green_that_flaps_while_a_person_is_waited_for_soaks_again_and_the_wait_goes_on() {
    let text = "count = 1\n[replace]\napprove = [\"switch\"]\napproval_timeout = \"100s\"";
    let mut world = served(text);
    world.start("2.0").unwrap();
    world.run_to(Phase::AwaitingSwitch);
    let asked = world.web().rollout.as_ref().unwrap().asked;
    world.run_for(Duration::from_secs(20));
    let green = greens(&world)[0].clone();
    world.agent(&green).flap();
    world.run_to(Phase::Soaking);
    world.run_to(Phase::AwaitingSwitch);
    assert_eq!(world.web().rollout.as_ref().unwrap().asked, asked);
    world.kill_machine(&green);
    world.run_to(Phase::RollingBack);
    assert!(!world.tells("missing after approval_timeout"));
}

#[test]
fn a_green_that_breaks_while_blue_waits_for_a_person_leads_back_at_once() {
    let mut world = served("count = 1\n[replace]\napprove = [\"retire\"]");
    world.start("2.0").unwrap();
    world.run_to(Phase::AwaitingRetire);
    let green = greens(&world)[0].clone();
    world.agent(&green).forced = Some(Health::Unhealthy);
    world.run_until(3, |world| world.active("1.0").len() == 1);
    world.run_to(Phase::RolledBack);
}

#[test]
fn a_paused_rollout_goes_no_further_in_any_phase_and_has_its_time_left_afterwards() {
    let text = "count = 2\n[replace]\nprogress_deadline = \"60s\"\nhealthy_deadline = \"30s\"";
    for phase in [
        Phase::Provisioning,
        Phase::Soaking,
        Phase::Switching,
        Phase::Settling,
        Phase::Baking,
        Phase::Draining,
    ] {
        let mut world = served(text);
        if phase == Phase::Draining {
            for machine in world.machines.values_mut() {
                machine.agent.drain_takes = Some(Duration::from_secs(5));
            }
        }
        world.start("2.0").unwrap();
        world.run_to(phase);
        world.tick();
        world.order(&pause()).unwrap();
        let created = world.created.len();
        world.run_for(Duration::from_secs(3_600));
        assert_eq!(world.phase(), Some(phase), "{}", world.story());
        assert_eq!(world.created.len(), created, "{phase}");
        assert!(waits_for(&world, "is paused by ann: it is time"), "{phase}");
        assert_eq!(world.report().serving, 2, "{phase}");
        let lines = world.order(&resume()).unwrap();
        assert!(lines[0].contains("as much time left"), "{lines:?}");
        world.run_to(Phase::Done);
        assert_eq!(world.active("2.0").len(), 2, "{phase}");
        assert!(world.is_quiet(), "{phase}");
    }
}

#[test]
fn greens_that_were_not_begun_are_not_made_while_paused() {
    let mut world = served("count = 2");
    world.start("2.0").unwrap();
    world.order(&pause()).unwrap();
    world.run_for(Duration::from_secs(100));
    assert_eq!(world.created.len(), 2, "{}", world.story());
    world.order(&resume()).unwrap();
    world.run_to(Phase::Done);
}

#[test]
fn a_bake_that_was_paused_bakes_for_the_rest_of_its_time() {
    let mut world = served("count = 1\n[replace]\nbake = \"100s\"");
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    world.run_for(Duration::from_secs(40));
    world.order(&pause()).unwrap();
    world.run_for(Duration::from_secs(500));
    world.order(&resume()).unwrap();
    world.run_for(Duration::from_secs(55));
    assert_eq!(world.phase(), Some(Phase::Baking), "{}", world.story());
    world.run_for(Duration::from_secs(10));
    assert_ne!(world.phase(), Some(Phase::Baking));
}

#[test]
fn a_paused_rollout_whose_green_breaks_after_the_switch_goes_back_at_once() {
    let mut world = served("count = 2");
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    world.order(&pause()).unwrap();
    world.tick();
    let green = greens(&world)[0].clone();
    world.agent(&green).forced = Some(Health::Unhealthy);
    world.run_until(3, |world| world.active("1.0").len() == 2);
    assert!(world.web().rollout.as_ref().unwrap().paused.is_none());
    world.run_to(Phase::RolledBack);
}

#[test]
fn a_pause_makes_no_green_again_and_what_fails_too_often_leads_back() {
    let mut world = served("count = 2\n[replace]\nmax_instance_failures = 1");
    world.start("2.0").unwrap();
    world.run_to(Phase::Soaking);
    world.order(&pause()).unwrap();
    let greens = greens(&world);
    world.kill_machine(&greens[0]);
    world.run_for(Duration::from_secs(100));
    assert_eq!(world.phase(), Some(Phase::Soaking), "{}", world.story());
    assert_eq!(world.created.len(), 4);
    world.kill_machine(&greens[1]);
    world.run_to(Phase::RolledBack);
    assert_eq!(world.active("1.0").len(), 2);
}

#[test]
fn what_serves_is_repaired_while_a_rollout_is_paused() {
    let mut world = served("count = 2");
    world.start("2.0").unwrap();
    world.run_to(Phase::Soaking);
    world.order(&pause()).unwrap();
    let lost = world.active("1.0")[0].clone();
    world.kill_machine(&lost);
    world.run_for(Duration::from_secs(100));
    assert_eq!(world.active("1.0").len(), 2, "{}", world.story());
    assert_eq!(world.phase(), Some(Phase::Soaking));
}

#[test]
fn a_pause_that_nobody_ends_leads_back_before_and_after_the_switch() {
    for phase in [Phase::Provisioning, Phase::Soaking, Phase::Baking] {
        let mut world = served("count = 2\n[replace]\napproval_timeout = \"100s\"");
        world.start("2.0").unwrap();
        world.run_to(phase);
        world.order(&pause()).unwrap();
        world.run_to(Phase::RolledBack);
        assert!(
            world.tells("not resumed within approval_timeout 1m40s"),
            "{}",
            world.story()
        );
        assert_eq!(world.active("1.0").len(), 2, "{phase}");
    }
}

#[test]
fn a_pause_between_two_waves_that_nobody_ends_takes_the_earlier_wave_back() {
    let text = "count = 2\n[replace]\nsurge = 1\nbake = \"3s\"\napproval_timeout = \"100s\"";
    let mut world = served(text);
    world.start("2.0").unwrap();
    world.run_to(Phase::Retiring);
    world.order(&pause()).unwrap();
    world.run_for(Duration::from_secs(90));
    assert_eq!(world.phase(), Some(Phase::Retiring));
    assert_eq!(
        world.machines_there(),
        2,
        "what had begun to be removed is gone"
    );
    world.run_until(1_000, |world| world.web().rollouts == 3);
    world.run_to(Phase::Done);
    assert_eq!(world.active("1.0").len(), 2, "{}", world.story());
}

#[test]
fn pausing_twice_and_resuming_what_is_not_paused_are_answered_clearly() {
    let mut world = served("count = 1");
    let (why, _) = refused(world.order(&pause()));
    assert!(why.contains("no rollout runs"), "{why}");
    world.start("2.0").unwrap();
    let (why, hint) = refused(world.order(&resume()));
    assert!(why.contains("it is not paused"), "{why}");
    assert!(hint.contains("explain"), "{hint}");
    world.order(&pause()).unwrap();
    let lines = world.order_by("bob", &pause()).unwrap();
    assert!(
        lines[0].contains("paused already, by ann since"),
        "{lines:?}"
    );
    let abort = Command::Abort {
        fleet: web(),
        reason: reason(),
    };
    world.order(&abort).unwrap();
    let (why, _) = refused(world.order(&pause()));
    assert!(why.contains("it goes back"), "{why}");
    world.run_to(Phase::RolledBack);
}

#[test]
fn a_fleet_whose_rollout_is_paused_can_be_deleted() {
    let mut world = served("count = 1");
    world.start("2.0").unwrap();
    world.run_to(Phase::Baking);
    world.order(&pause()).unwrap();
    world.order(&Command::DeleteFleet { fleet: web() }).unwrap();
    world.run_until(300, |world| world.fleets.is_empty());
    assert_eq!(world.machines_there(), 0);
}

fn promote(reason: &str) -> Command {
    Command::Promote {
        fleet: web(),
        reason: reason.to_owned(),
    }
}

#[test]
fn promoting_skips_the_soak_and_nothing_else() {
    let text = "count = 2\n[replace]\nmin_healthy = \"250s\"\napprove = [\"switch\"]";
    let mut world = served(text);
    let slow = |world: &World| world.phase();
    let undo = Command::Undo { fleet: web() };
    assert!(
        world.order(&undo).is_err(),
        "the first has nothing before it"
    );
    world.start("2.0").unwrap();
    world.run_to(Phase::Soaking);
    world.run_for(Duration::from_secs(60));
    assert_eq!(slow(&world), Some(Phase::Soaking));
    let (why, _) = refused(world.order(&promote(" ")));
    assert!(why.contains("it needs a reason"), "{why}");
    let green = greens(&world)[0].clone();
    world.agent(&green).forced = Some(Health::Unhealthy);
    world.tick();
    world.order(&promote("it is known to be good")).unwrap();
    world.run_for(Duration::from_secs(20));
    assert_eq!(slow(&world), Some(Phase::Soaking), "one is not healthy");
    world.agent(&green).forced = None;
    world.run_until(3, |world| world.phase() == Some(Phase::AwaitingSwitch));
    let (why, _) = refused(world.order(&promote("again")));
    assert!(why.contains("only a soak can be skipped"), "{why}");
    world.order(&approve(None)).unwrap();
    world.run_to(Phase::Done);
    assert!(world.tells("ann skips the soak: it is known to be good"));
}

#[test]
fn a_promotion_counts_for_one_wave() {
    let text = "count = 2\n[replace]\nsurge = 1\nmin_healthy = \"100s\"\nbake = \"3s\"";
    let mut world = served(text);
    world.start("2.0").unwrap();
    world.order(&promote("it is known to be good")).unwrap();
    world.run_until(60, |world| world.phase() == Some(Phase::Settling));
    world.run_until(200, |world| {
        let rollout = world.web().rollout.as_ref().unwrap();
        rollout.wave == 1 && rollout.phase == Phase::Soaking
    });
    world.run_for(Duration::from_secs(80));
    assert_eq!(world.phase(), Some(Phase::Soaking));
    world.run_to(Phase::Done);
}

#[test]
fn undo_goes_back_to_what_served_and_never_to_a_vetoed_image() {
    let mut world = served("count = 1");
    world.start("2.0").unwrap();
    world.run_to(Phase::Done);
    let image = "web@1.0".parse().unwrap();
    let veto = Command::Veto {
        image,
        reason: reason(),
    };
    world.order(&veto).unwrap();
    let (why, hint) = refused(world.order(&Command::Undo { fleet: web() }));
    assert!(why.contains("vetoed by ann: it is time"), "{why}");
    assert!(hint.contains("roll another one out"), "{hint}");
}
