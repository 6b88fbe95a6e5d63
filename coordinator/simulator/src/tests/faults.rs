//! Everything else that goes wrong. A rollout may then end either way, but it ends, and rightly.

use super::*;

fn long_life(version: u32) -> Scenario {
    Scenario::small(3)
        .then_rollout(version)
        .then(Step::KillMachine)
        .then(Step::Scale(4))
        .then(Step::AgentsAway(Duration::from_secs(20)))
        .then(Step::Scale(2))
        .then(Step::Delete)
}

fn run(version: u32, faults: &[Fault], seed: u64) {
    let scenario = long_life(version).with_faults(faults.iter().copied());
    let outcome = Simulation::run(&scenario, seed);
    assert_well(&outcome, &format!("web@{version}, seed {seed}, {faults:?}"));
    assert_eq!(outcome.ended.machines, 0);
}

#[test]
fn each_fault_alone_breaks_no_rule() {
    for (place, fault) in Fault::ALL.into_iter().enumerate() {
        let seed = u64::try_from(place).unwrap();
        run(2 + u32::try_from(seed % 3).unwrap(), &[fault], seed);
    }
}

#[test]
fn every_fault_has_a_name_that_is_read_back() {
    for fault in Fault::ALL {
        assert_eq!(fault.as_str().parse(), Ok(fault));
    }
    let all = Fault::parse_list("all").unwrap();
    assert_eq!(Fault::list(&all), "all");
    let two = Fault::parse_list("cut, loss").unwrap();
    assert_eq!(Fault::parse_list(&Fault::list(&two)), Ok(two));
    let error = Fault::parse_list("cut,los").unwrap_err().to_string();
    assert!(
        error.contains("\"los\"") && error.contains("loss"),
        "{error}"
    );
}

#[test]
fn what_happens_by_chance_can_be_left_out() {
    let mut scenario = long_life(2).with_faults([Fault::CoordinatorCrash]);
    let seed = (0..50).find(|seed| Simulation::run(&scenario, *seed).ended.happened > 2);
    let seed = seed.expect("a coordinator crashes more than twice in one of fifty runs");
    assert!(Simulation::run(&scenario, seed).ended.runs > 2);
    scenario.only = Some([2].into());
    let one = Simulation::run(&scenario, seed).ended;
    assert_eq!(one.runs, 2, "{one:?}");
}
