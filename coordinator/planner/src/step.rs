//! The steps of a plan, in the order in which they decide. One decision per file; what a later
//! step reads, an earlier one has settled.

mod admit;
mod arrive;
mod delete;
mod drain;
mod hide;
mod meltdown;
mod orders;
mod repair;
mod retire;
mod rollout;
mod scale;
mod start;
mod summary;
mod unhealthy;
mod unmanaged;
mod zone;

pub(crate) use meltdown::Guard;
pub use retire::RETIRE_GRACE;
pub(crate) use rollout::Size;
pub(crate) use start::{Start, begin};

use crate::{
    judge::Answering,
    observed::CatalogueObserved,
    pass::Pass,
    plan::{FleetPlan, Next, PlanInput},
    state::FleetState,
};
use calvin_model::FleetName;

/// Plans one fleet.
pub(crate) fn plan_fleet(
    input: &PlanInput<'_>,
    fleet: &FleetName,
    state: &FleetState,
    answering: Answering,
) -> FleetPlan {
    let nothing = CatalogueObserved::default();
    let catalogue = input.observed.catalogue.get(fleet).unwrap_or(&nothing);
    let mut pass = Pass::new(input, fleet, state, catalogue, answering);

    arrive::step(&mut pass);
    zone::step(&mut pass);
    delete::step(&mut pass);
    rollout::step(&mut pass);
    start::step(&mut pass);
    meltdown::step(&mut pass);
    unmanaged::step(&mut pass);
    unhealthy::step(&mut pass);
    repair::step(&mut pass);
    admit::step(&mut pass);
    scale::step(&mut pass);
    drain::step(&mut pass);
    retire::step(&mut pass);
    hide::step(&mut pass);
    orders::step(&mut pass);
    let names_wait = rollout::names_wait(&pass);
    let report = summary::step(&mut pass);

    let next = if pass.state().deleting && pass.state().instances.is_empty() {
        Next::Remove
    } else {
        pass.take_change().map_or(Next::Same, Next::Change)
    };
    FleetPlan {
        next,
        actions: pass.actions,
        events: pass.events,
        hidden: pass.hidden,
        names_wait,
        report,
    }
}
