//! Moves the running rollout on: one file for each phase.
//!
//! A phase that ends at once (a soak of no length, say) hands over to the next in the same pass;
//! all of them rest on observations only, so none can be passed twice without new ones.

mod bake;
mod drain;
mod fail;
mod gate;
mod greens;
mod held;
mod provision;
mod retire;
mod roll_back;
mod room;
mod settle;
mod soak;
mod stop;
mod switch;
mod wave;

pub(crate) use greens::why_not_healthy;
pub(crate) use held::stands;
pub(crate) use switch::names_wait;

use crate::{pass::Pass, phase::Phase};

pub(crate) fn step(pass: &mut Pass<'_>) {
    if pass.state().deleting {
        return;
    }
    held::vetoed(pass);
    held::expire(pass);
    for _ in Phase::ALL {
        let Some(before) = pass.state().rollout.as_ref().map(|rollout| rollout.phase) else {
            return;
        };
        match before {
            phase if held::stands(pass, phase) => held::step(pass, phase),
            Phase::Provisioning => provision::step(pass),
            Phase::MakingRoom => room::step(pass),
            Phase::Soaking => soak::step(pass),
            Phase::AwaitingSwitch => gate::await_switch(pass),
            Phase::Switching => switch::step(pass),
            Phase::Settling => settle::step(pass),
            Phase::Baking => bake::step(pass),
            Phase::AwaitingRetire => gate::await_retire(pass),
            Phase::Draining => drain::step(pass),
            Phase::Retiring => retire::step(pass),
            Phase::RollingBack => roll_back::step(pass),
            Phase::Failed => fail::step(pass),
            Phase::Stopping => stop::step(pass),
            Phase::Done | Phase::RolledBack => {}
        }
        if pass.state().rollout.as_ref().map(|rollout| rollout.phase) == Some(before) {
            return;
        }
    }
}
