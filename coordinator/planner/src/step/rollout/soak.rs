//! Soaking: every green stays healthy for `min_healthy`, by its own agent's clock. A flap starts
//! that clock again by itself; silence stops the count and does not reset it.

use std::time::Duration;

use calvin_model::Mutant;

use super::{
    greens::{Progress, give_up_failed, green, why_not_healthy},
    provision::past_progress,
};
use crate::{pass::Pass, transition::Cause};

pub(crate) fn step(pass: &mut Pass<'_>) {
    if give_up_failed(pass) == Progress::Ended || past_progress(pass) == Progress::Ended {
        return;
    }
    let Some(rollout) = pass.running() else {
        return;
    };
    let (by, since) = (rollout.progress_by, pass.now.since(rollout.phase_since));
    let enough = pass.state().spec.replace.min_healthy;
    let mut shortest: Option<Duration> = None;
    let mut soaked = true;
    for id in green(pass) {
        match pass.judged(&id).healthy_for {
            Some(healthy_for) if healthy_for >= enough.0 || Mutant::SkipSoak.lives() => {}
            Some(healthy_for) => {
                soaked = false;
                shortest = Some(shortest.map_or(healthy_for, |least| least.min(healthy_for)));
            }
            None => {
                soaked = false;
                let what = format!("{id} does not soak: {}", why_not_healthy(pass, &id));
                pass.wait(what, since, Some((by, "the rollout goes back")));
            }
        }
    }
    if let Some(shortest) = shortest {
        let what = format!("every green to be healthy for {enough}");
        let at = pass.now.after(enough.0.saturating_sub(shortest));
        pass.wait(what, since, Some((at, "traffic is switched")));
    }
    if soaked {
        let why = format!("every green was healthy for {enough} without a break");
        let progress_by = pass
            .now
            .after(pass.state().spec.replace.progress_deadline.0);
        if let Some(rollout) = &mut pass.change().rollout {
            rollout.progress_by = progress_by;
        }
        pass.go(Cause::Soaked, &why);
    }
}
