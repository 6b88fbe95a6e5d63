//! The steps of a plan, in the order in which they decide. One decision per file; what a later
//! step reads, an earlier one has settled.

mod admit;
mod arrive;
mod budget;
mod delete;
mod drain;
pub(crate) mod exclusive;
mod flap;
mod freeze;
mod hide;
mod make;
mod meltdown;
mod orders;
mod protect;
mod repair;
mod retire;
mod rollout;
mod scale;
mod start;
mod summary;
mod tell;
mod unhealthy;
mod unmanaged;
mod veto;
mod waits;
mod zone;

pub(crate) use meltdown::Guard;
pub use retire::RETIRE_GRACE;
pub(crate) use start::{Start, begin};
pub(crate) use veto::ImageVeto;

pub(crate) use tell::untold;

use crate::{
    pass::Pass,
    plan::{FleetPlan, Next},
};

/// Plans one fleet. It takes from the ledger, and leaves in it what is left for the others.
pub(crate) fn plan_fleet(pass: &mut Pass<'_>) -> FleetPlan {
    freeze::step(pass);
    arrive::step(pass);
    exclusive::note(pass);
    zone::step(pass);
    delete::step(pass);
    rollout::step(pass);
    start::step(pass);
    meltdown::step(pass);
    unmanaged::step(pass);
    unhealthy::step(pass);
    repair::step(pass);
    admit::step(pass);
    exclusive::step(pass);
    scale::step(pass);
    make::step(pass);
    drain::step(pass);
    retire::step(pass);
    flap::step(pass);
    hide::step(pass);
    orders::step(pass);
    budget::step(pass);
    protect::step(pass);
    tell::step(pass);
    let names_wait = rollout::names_wait(pass);
    let report = summary::step(pass);

    let next = if pass.state().deleting && pass.state().instances.is_empty() {
        Next::Remove
    } else {
        pass.take_change().map_or(Next::Same, Next::Change)
    };
    let actions = std::mem::take(&mut pass.actions);
    let actions = match next {
        // Nothing rests on a record that is gone; entries that are left are those of ghosts.
        Next::Remove => Vec::new(),
        Next::Same | Next::Change(_) => actions,
    };
    FleetPlan {
        next,
        actions,
        events: std::mem::take(&mut pass.events),
        hidden: std::mem::take(&mut pass.hidden),
        names_wait,
        report,
    }
}
