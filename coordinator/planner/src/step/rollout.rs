//! Moves the running rollout on: one file for each phase.
//!
//! A phase that ends at once (a soak of no length, say) hands over to the next in the same pass;
//! all of them rest on observations only, so none can be passed twice without new ones.

mod bake;
mod drain;
mod fail;
mod greens;
mod provision;
mod retire;
mod roll_back;
mod room;
mod settle;
mod soak;
mod switch;
mod wave;

pub(crate) use greens::why_not_healthy;
pub(crate) use switch::names_wait;

use crate::{pass::Pass, phase::Phase};

pub(crate) fn step(pass: &mut Pass<'_>) {
    if pass.state().deleting {
        return;
    }
    for _ in Phase::ALL {
        let Some(before) = pass.state().rollout.as_ref().map(|rollout| rollout.phase) else {
            return;
        };
        match before {
            Phase::Provisioning => provision::step(pass),
            Phase::MakingRoom => room::step(pass),
            Phase::Soaking => soak::step(pass),
            Phase::Switching => switch::step(pass),
            Phase::Settling => settle::step(pass),
            Phase::Baking => bake::step(pass),
            Phase::Draining => drain::step(pass),
            Phase::Retiring => retire::step(pass),
            Phase::RollingBack => roll_back::step(pass),
            Phase::Failed => fail::step(pass),
            Phase::AwaitingSwitch
            | Phase::Stopping
            | Phase::AwaitingRetire
            | Phase::Done
            | Phase::RolledBack => {}
        }
        if pass.state().rollout.as_ref().map(|rollout| rollout.phase) == Some(before) {
            return;
        }
    }
}
