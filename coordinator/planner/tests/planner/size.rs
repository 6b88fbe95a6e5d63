//! How long one pass takes, and that a large environment at rest is left alone.

use std::time::Duration;

use calvin_model::{FleetName, InstanceId};
use calvin_planner::{CatalogueObserved, Next, Phase, PlanInput, plan};

use crate::world::World;

const FLEETS: u64 = 100;
const EACH: usize = 100;

/// A pass has 250 ms; this leaves more than half of it to everything else.
const LIMIT: Duration = Duration::from_millis(100);

#[test]
#[expect(clippy::disallowed_methods, reason = "this test measures time")]
fn a_pass_over_ten_thousand_instances_fits_into_its_time() {
    let mut world = World::new();
    world.apply(&format!("count = {EACH}"), "1.0");
    world.run_to(Phase::Done);
    world.run_for(Duration::from_secs(5));
    let one = world.web().clone();
    let seen = world.observed();
    let mut fleets = std::collections::BTreeMap::new();
    let mut observed = seen.clone();
    for number in 0..FLEETS {
        let name: FleetName = format!("web{number}").parse().unwrap();
        let mut state = one.clone();
        state.spec.name = name.clone();
        state.instances.clear();
        let mut catalogue = CatalogueObserved::default();
        for (index, (id, instance)) in (0_u64..).zip(&one.instances) {
            let new = InstanceId::new(&name, index);
            observed
                .instances
                .insert(new.clone(), seen.instances[id].clone());
            catalogue.roles.insert(new.clone(), instance.catalogue);
            catalogue.visible.push(new.clone());
            state.instances.insert(new, instance.clone());
        }
        observed.catalogue.insert(name.clone(), catalogue);
        fleets.insert(name, state);
    }
    let input = PlanInput {
        now: world.now(),
        seed: 1,
        wall_ms: world.ms,
        environment: &world.environment,
        rules: &world.rules,
        fleets: &fleets,
        observed: &observed,
    };
    let mut times = Vec::new();
    for _ in 0..9 {
        let begin = std::time::Instant::now();
        let made = plan(&input);
        times.push(begin.elapsed());
        for fleet in made.fleets.values() {
            assert_eq!(fleet.next, Next::Same);
            assert_eq!(fleet.actions, []);
            assert_eq!(fleet.report.serving, 100);
        }
    }
    times.sort();
    println!(
        "10,000 instances in 100 fleets: {:?} (median of 9)",
        times[4]
    );
    if !cfg!(debug_assertions) {
        assert!(times[4] < LIMIT, "{times:?}");
    }
}
