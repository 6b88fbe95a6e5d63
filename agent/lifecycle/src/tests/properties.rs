//! What holds whatever happens, in any order.

use calvin_model::Health;
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Session(u64, bool),
    SessionDown,
    Want(Speaker, u64, Role),
    Check(usize, bool),
    Workload(WorkloadState),
    HookEnds(bool),
    Wait(u64),
    Disk(bool),
    RestartAgent,
    RestartMachine,
}

/// Whose word a wanted state is.
#[derive(Debug, Clone, Copy)]
enum Speaker {
    /// The live session's coordinator; without a session the one before.
    Session,
    /// The coordinator of this epoch, over whichever session.
    Epoch(u64),
}

/// Around the epoch of [`Machine::joined`]: most are newer than it, so that sessions and orders
/// come about; one is older.
const EPOCHS: std::ops::Range<u64> = 4..9;

fn speaker() -> impl Strategy<Value = Speaker> {
    prop_oneof![
        9 => Just(Speaker::Session),
        1 => EPOCHS.prop_map(Speaker::Epoch),
    ]
}

fn role() -> impl Strategy<Value = Role> {
    prop::sample::select(vec![
        Role::Standby,
        Role::Active,
        Role::Draining,
        Role::Retired,
    ])
}

fn step() -> impl Strategy<Value = Step> {
    let states = vec![
        WorkloadState::Running,
        WorkloadState::Backoff,
        WorkloadState::Starting,
    ];
    prop_oneof![
        2 => (EPOCHS, any::<bool>()).prop_map(|(number, ours)| Step::Session(number, ours)),
        1 => Just(Step::SessionDown),
        6 => (speaker(), 0..24u64, role()).prop_map(|(s, g, r)| Step::Want(s, g, r)),
        6 => (0..2usize, any::<bool>()).prop_map(|(i, p)| Step::Check(i, p)),
        1 => prop::sample::select(states).prop_map(Step::Workload),
        4 => any::<bool>().prop_map(Step::HookEnds),
        4 => (0..8u64).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Disk),
        1 => Just(Step::RestartAgent),
        1 => Just(Step::RestartMachine),
    ]
}

fn images() -> impl Strategy<Value = Arc<Spec>> {
    let work = prop::sample::select(vec!["", BOOT_WORK, PULLED_WORK]);
    (work, any::<bool>()).prop_map(|(work, hooks)| {
        let active = CHECK.replace("\"up\"", "\"works\"") + "when = \"active\"\n";
        spec(&[work, CHECK, &active, if hooks { HOOKS } else { "" }])
    })
}

impl Machine {
    fn step(&mut self, spec: &Arc<Spec>, step: &Step, boots: &mut u64) {
        match step {
            Step::Session(number, ours) => {
                let run = if *ours { "aa" } else { "bb" };
                self.put(Input::SessionUp {
                    epoch: epoch(*number, run),
                    report_interval: Duration::from_secs(5),
                    clock_offset_ms: 0,
                });
            }
            Step::SessionDown => {
                self.put(Input::SessionDown);
            }
            Step::Want(speaker, generation, role) => {
                let known = || self.lifecycle.seen().0.cloned();
                let session = self.lifecycle.session.as_ref();
                let spoken = match speaker {
                    Speaker::Session => session.map(|session| session.epoch.clone()).or_else(known),
                    Speaker::Epoch(number) => Some(epoch(*number, "aa")),
                };
                self.put(Input::Wanted {
                    epoch: spoken.unwrap_or_else(|| epoch(5, "aa")),
                    wanted: wanted(*generation, *role),
                });
            }
            Step::Check(index, passes) => self.check(*index, if *passes { "+" } else { "-" }),
            Step::Workload(state) => {
                if self.runs {
                    self.put(Input::Workload(*state));
                }
            }
            Step::HookEnds(well) => {
                if !self.hooks.is_empty() {
                    self.end_hook(if *well {
                        HookOutcome::Done
                    } else {
                        HookOutcome::Failed("no".into())
                    });
                }
            }
            Step::Wait(seconds) => {
                self.wait(*seconds);
            }
            Step::Disk(works) => self.disk_works = *works,
            Step::RestartAgent => {
                self.now += Duration::from_millis(1);
                let boot = self.lifecycle.record().boot.to_string();
                self.restart(spec, &boot);
            }
            Step::RestartMachine => {
                *boots += 1;
                self.restart(spec, &format!("{boots}"));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512.max(ProptestConfig::default().cases)))]

    #[test]
    fn nothing_older_ever_changes_anything(
        spec in images(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut machine = Machine::joined(&spec);
        let mut boots = 1;
        let (mut epoch_seen, mut generation_seen) = (0, 0);
        for step in &steps {
            machine.step(&spec, step, &mut boots);
            // On disk is what counts: what a crash would leave.
            let disk = machine.disk.as_ref();
            let epoch = disk.and_then(|record| record.epoch.as_ref()).map_or(0, |e| e.number);
            let generation = disk.and_then(|record| record.wanted).map_or(0, |w| w.generation.0);
            prop_assert!(epoch >= epoch_seen, "{step:?}");
            prop_assert!(generation >= generation_seen, "{step:?}");
            (epoch_seen, generation_seen) = (epoch, generation);
            // What is applied or reported was committed before.
            prop_assert!(machine.applied() <= generation, "{step:?}");
            if let Some(report) = machine.reports.last() {
                prop_assert!(report.generation_applied.0 <= generation, "{step:?}");
            }
        }
    }

    #[test]
    fn pulled_work_never_runs_unless_active_or_draining(
        hooks in any::<bool>(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let spec = spec(&[PULLED_WORK, CHECK, if hooks { HOOKS } else { "" }]);
        let mut machine = Machine::joined(&spec);
        let mut boots = 1;
        for step in &steps {
            let before = machine.runs;
            machine.step(&spec, step, &mut boots);
            let role = machine.lifecycle.role();
            let may = matches!(role, Some(Role::Active | Role::Draining));
            // A retire hook may still need the work of before; nothing starts it, though.
            prop_assert!(!machine.runs || may, "{step:?}: {role:?}");
            if machine.runs && !before {
                prop_assert_eq!(role, Some(Role::Active));
            }
        }
    }

    #[test]
    fn health_for_never_spans_a_break_and_flaps_never_fall(
        spec in images(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut machine = Machine::joined(&spec);
        let mut boots = 1;
        let mut before = (machine.report(), machine.now);
        for step in &steps {
            machine.step(&spec, step, &mut boots);
            let report = machine.report();
            let passed = machine.now - before.1;
            let same_boot = report.boot == before.0.boot;
            if same_boot && report.health == before.0.health {
                prop_assert!(report.health_for <= before.0.health_for + passed, "{step:?}");
            } else {
                prop_assert!(report.health_for <= passed, "{step:?}");
            }
            let restarted = matches!(step, Step::RestartAgent | Step::RestartMachine);
            let broke = before.0.health == Health::Healthy && report.health == Health::Unhealthy;
            if same_boot && !restarted {
                prop_assert!(report.flaps >= before.0.flaps + u64::from(broke), "{step:?}");
            }
            before = (report, machine.now);
        }
    }

    #[test]
    fn sequences_grow_and_every_deadline_is_in_the_future(
        spec in images(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut machine = Machine::joined(&spec);
        let mut boots = 1;
        for step in &steps {
            machine.step(&spec, step, &mut boots);
            if let Some(deadline) = machine.lifecycle.deadline() {
                prop_assert!(deadline > machine.now, "{step:?}: the agent would spin");
            }
            // What is waited for can always be told.
            let _ = machine.lifecycle.waiting();
        }
        for pair in machine.reports.windows(2) {
            if pair[0].boot == pair[1].boot {
                prop_assert!(pair[0].sequence < pair[1].sequence);
            }
        }
    }

    #[test]
    fn told_again_in_a_live_session_it_always_arrives(
        spec in images(),
        steps in prop::collection::vec(step(), 1..40),
        role in role(),
    ) {
        let mut machine = Machine::joined(&spec);
        let mut boots = 1;
        for step in &steps {
            machine.step(&spec, step, &mut boots);
        }
        machine.disk_works = true;
        machine.session(9);
        machine.put(Input::Wanted { epoch: epoch(9, "aa"), wanted: wanted(100, role) });
        for _ in 0..8 {
            machine.wait(31);
            while !machine.hooks.is_empty() {
                machine.end_hook(HookOutcome::Done);
            }
        }
        prop_assert_eq!(machine.applied(), 100);
        prop_assert_eq!(machine.report().role_applied, Some(role));
    }
}

/// What a run of steps came through.
#[derive(Debug, Default)]
struct Seen {
    applied: u32,
    hooks_failed: u32,
    drains: u32,
    commits_pending: u32,
    pulled_work_ran: u32,
    sessions_refused: u32,
}

impl Seen {
    fn note(&mut self, machine: &Machine, spec: &Spec) {
        let lifecycle = &machine.lifecycle;
        let transition = lifecycle.transition.as_ref();
        self.applied += u32::from(machine.applied() > 0);
        self.hooks_failed += u32::from(transition.is_some_and(|under_way| under_way.failures > 0));
        self.drains += u32::from(lifecycle.drain.is_some());
        self.commits_pending += u32::from(lifecycle.pending.is_some());
        let pulls = spec.work == Some(calvin_model::image::Work::OnActive);
        self.pulled_work_ran += u32::from(pulls && machine.runs);
        let refused = lifecycle.refused.as_deref().unwrap_or_default();
        self.sessions_refused += u32::from(refused.contains("older than epoch"));
    }
}

/// Properties of steps that change nothing say nothing: this is what the steps must reach.
#[test]
fn the_steps_reach_what_the_properties_are_about() {
    let steps = (images(), prop::collection::vec(step(), 1..80));
    let mut seen = Seen::default();
    for seed in 0..64 {
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
        let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
        let (spec, steps) = steps.new_tree(&mut runner).unwrap().current();
        let mut machine = Machine::joined(&spec);
        let mut boots = 1;
        for step in &steps {
            machine.step(&spec, step, &mut boots);
            seen.note(&machine, &spec);
        }
    }
    let Seen {
        applied,
        hooks_failed,
        drains,
        commits_pending,
        pulled_work_ran,
        sessions_refused,
    } = seen;
    let reached = [
        applied,
        hooks_failed,
        drains,
        commits_pending,
        pulled_work_ran,
        sessions_refused,
    ];
    assert!(reached.iter().all(|steps| *steps >= 20), "{seen:?}");
}
