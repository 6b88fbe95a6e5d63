//! Hides from clients what is freshly unhealthy or lost, until it is known to serve again; what fails
//! and is healthy in turns, until it has been healthy for longer each time. Never what nothing is known
//! of, and never most of a fleet: when more than half fail at once, or when nothing is known of all the
//! others, the catalogue keeps them all.

use std::collections::BTreeSet;

use calvin_model::{CatalogueRole, InstanceId, Mutant};

use crate::{invariant::InvariantId, pass::Pass, sums::hidden_limit};

pub(crate) fn step(pass: &mut Pass<'_>) {
    let mut active = 0;
    let mut serving = 0_usize;
    let mut failing_active: Vec<InstanceId> = Vec::new();
    let mut failing_others: Vec<InstanceId> = Vec::new();
    let mut flapping: Vec<InstanceId> = Vec::new();
    let mut failed: BTreeSet<InstanceId> = BTreeSet::new();
    for (id, instance) in &pass.state().instances {
        let backs_off = pass.backs_off(id).is_some();
        let failing = pass.fails(id);
        // One that backs off and stays visible does not fail: nothing may be known of it next.
        if failing || backs_off && instance.catalogue != CatalogueRole::Active {
            failed.insert(id.clone());
        }
        match instance.catalogue {
            CatalogueRole::Absent => {}
            CatalogueRole::Active => {
                active += 1;
                serving += usize::from(pass.judged(id).serves() && !backs_off);
                if failing {
                    failing_active.push(id.clone());
                } else if backs_off {
                    flapping.push(id.clone());
                }
            }
            CatalogueRole::Standby | CatalogueRole::Entered => {
                if failing || backs_off {
                    failing_others.push(id.clone());
                }
            }
        }
    }
    let limit = hidden_limit(active);
    // One that is healthy at this moment is better than none.
    if serving == 0 || failing_active.len() + flapping.len() > limit {
        serving += flapping.len();
        flapping.clear();
    }
    failed.extend(flapping.iter().cloned());
    if failed != pass.state().failed {
        pass.change().failed = failed;
    }
    if failing_active.len() > limit && !Mutant::HideMost.lives() {
        let what = format!("failing instances stay visible: more than {limit} of {active}");
        let fact = format!("{} of {active} active instances fail", failing_active.len());
        pass.hold(InvariantId::HealthNeverHidesMost, what, fact);
        failing_active.clear();
    } else if serving == 0 && !failing_active.is_empty() {
        let what = "failing instances stay visible: no other is known to serve".to_owned();
        let fact = format!("{} of {active} active instances fail", failing_active.len());
        pass.hold(InvariantId::HealthNeverHidesMost, what, fact);
        failing_active.clear();
    }
    pass.hidden.extend(failing_active);
    pass.hidden.extend(flapping);
    pass.hidden.extend(failing_others);
    pass.hidden.sort();
}
