//! What a fleet comes after. What fails while that does not serve is not the fleet's own fault.

use calvin_model::{CatalogueRole, FleetName, FleetSpec};

use crate::{
    judge::{Answering, judge},
    plan::PlanInput,
    state::FleetState,
};

/// The first fleet that `spec` comes after and that does not serve, as a clause for people.
pub(crate) fn away(input: &PlanInput<'_>, spec: &FleetSpec) -> Option<String> {
    spec.after.iter().find_map(|name| missing(input, name))
}

fn missing(input: &PlanInput<'_>, name: &FleetName) -> Option<String> {
    let Some(fleet) = input.fleets.get(name) else {
        return Some(format!("fleet {name} to be there, which it comes after"));
    };
    let (serve, least) = (serving(input, fleet), fleet.spec.min_serving().max(1));
    let enough = serve >= usize::try_from(least).unwrap_or(usize::MAX);
    (!enough).then(|| {
        format!("fleet {name} to serve, which it comes after ({serve} of {least} are known to)")
    })
}

/// How many of a fleet are found as active and answer, as far as can be seen.
fn serving(input: &PlanInput<'_>, fleet: &FleetState) -> usize {
    let silent_after = fleet.spec.repair.silent_after.0;
    let instances = fleet.instances.iter();
    instances
        .filter(|(id, one)| {
            // Whether it is lost makes no difference to whether it serves.
            let seen = input.observed.instances.get(*id);
            !one.leaving()
                && one.catalogue == CatalogueRole::Active
                && judge(
                    one,
                    silent_after,
                    seen,
                    input.observed,
                    Answering::default(),
                )
                .serves()
        })
        .count()
}
