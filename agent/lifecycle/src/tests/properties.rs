//! What holds whatever happens, in any order.

use calvin_model::Health;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Session(u64, bool),
    SessionDown,
    Want(u64, u64, Role),
    Check(usize, bool),
    Workload(WorkloadState),
    HookEnds(bool),
    Wait(u64),
    Disk(bool),
    RestartAgent,
    RestartMachine,
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
        2 => (1..4u64, any::<bool>()).prop_map(|(number, ours)| Step::Session(number, ours)),
        1 => Just(Step::SessionDown),
        6 => (1..4u64, 0..12u64, role()).prop_map(|(e, g, r)| Step::Want(e, g, r)),
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
            Step::Want(number, generation, role) => {
                self.put(Input::Wanted {
                    epoch: epoch(*number, "aa"),
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
