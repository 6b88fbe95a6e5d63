//! Soaking: every green stays healthy for `min_healthy`, by its own agent's clock. A flap starts
//! that clock again by itself; silence stops the count and does not reset it.

use std::time::Duration;

use calvin_model::{HumanDuration, Mutant};

use super::{
    gate,
    greens::{Progress, give_up_failed, green, why_not_healthy},
    provision::past_progress,
};
use crate::{environment::Order, pass::Pass};

pub(crate) fn step(pass: &mut Pass<'_>) {
    if give_up_failed(pass) == Progress::Ended || past_progress(pass) == Progress::Ended {
        return;
    }
    let Some(rollout) = pass.running() else {
        return;
    };
    let (by, since) = (rollout.progress_by, pass.now.since(rollout.phase_since));
    let enough = enough(pass);
    let mut shortest: Option<Duration> = None;
    let mut soaked = true;
    for id in green(pass) {
        match pass.judged(&id).healthy_for {
            Some(healthy_for) if healthy_for >= enough || Mutant::SkipSoak.lives() => {}
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
        let what = format!("every green to be healthy for {}", HumanDuration(enough));
        let at = pass.now.after(enough.saturating_sub(shortest));
        pass.wait(what, since, Some((at, "traffic is switched")));
    }
    if soaked {
        let why = match skipped(pass) {
            None => format!(
                "every green was healthy for {} without a break",
                HumanDuration(enough)
            ),
            Some(order) => format!(
                "every green is healthy; {} skips the soak: {}",
                order.by, order.reason
            ),
        };
        gate::soaked(pass, &why);
    }
}

/// How long every green of the wave must be healthy without a break.
pub(super) fn enough(pass: &Pass<'_>) -> Duration {
    match skipped(pass) {
        None => {
            let policy = &pass.state().spec.replace;
            let canary = pass.running().is_some_and(|rollout| rollout.sets.canary);
            // What a canary is for takes longer, never shorter.
            if canary {
                policy.canary_soak.max(policy.min_healthy).0
            } else {
                policy.min_healthy.0
            }
        }
        Some(_) => Duration::ZERO,
    }
}

/// Who skips the soak of this wave, if somebody does. Every green must be healthy all the same.
fn skipped<'a>(pass: &'a Pass<'_>) -> Option<&'a Order> {
    let rollout = pass.running()?;
    let promoted = rollout
        .promoted
        .as_ref()
        .filter(|promoted| promoted.wave == rollout.wave);
    let promoted = promoted.map(|promoted| &promoted.order);
    rollout.emergency.as_ref().or(promoted)
}
