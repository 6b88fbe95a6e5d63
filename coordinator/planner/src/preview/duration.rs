//! How long a rollout takes: at the shortest, and when it has ended at the latest.

use std::time::Duration;

use calvin_model::fleet::{BudgetPolicy, OnDrainTimeout, OnSettleTimeout};

use super::WavePreview;
use crate::{
    state::{FleetState, WaveOrder},
    step::RETIRE_GRACE,
};

/// The shortest and the longest. The longest is `None` where a policy may wait for a person
/// without an end, or a window or a budget of the environment for who knows how long.
pub(super) fn of(
    state: &FleetState,
    environment: &BudgetPolicy,
    waves: &[WavePreview],
) -> (Duration, Option<Duration>) {
    let replace = &state.spec.replace;
    let drain = &state.spec.drain;
    let own = &state.spec.budget;
    let in_flight = least(own.in_flight, environment.in_flight);
    let mut min = Duration::ZERO;
    let mut max = Duration::ZERO;
    let mut deleted = 0_u32;
    for wave in waves {
        let soak = if wave.canary {
            replace.canary_soak.0.max(replace.min_healthy.0)
        } else {
            replace.min_healthy.0
        };
        min += soak;
        max += soak.saturating_sub(replace.min_healthy.0);
        // Each failed green may use its whole deadline; the soak after the last one and the switch
        // have the progress deadline each. Where not all are made at once, they follow each other.
        let turns = in_flight.map_or(1, |bound| wave.greens.div_ceil(bound.max(1)));
        let tries = replace.max_instance_failures.saturating_add(turns);
        max += replace.healthy_deadline.0.saturating_mul(tries);
        max += replace.progress_deadline.0 * 2;
        if wave.blues > 0 {
            deleted = deleted.saturating_add(wave.blues);
            min += replace.settle.0 + replace.bake.0;
            max += replace.settle.0 + replace.settle_max.0 + replace.bake.0;
            max += drain.timeout.0 + RETIRE_GRACE;
        }
        if wave.order == WaveOrder::RoomFirst {
            min += replace.settle.0;
            max += replace.settle.0 + replace.settle_max.0;
        }
    }
    for budget in [own, environment] {
        if let Some(bound) = budget.deletions {
            let windows = deleted.saturating_sub(1) / bound.max(1);
            let paced = budget.window.0.0.saturating_mul(windows);
            min = min.max(paced);
            max += budget.window.0.0.saturating_mul(windows.saturating_add(1));
        }
    }
    // Each gate is asked for once, and for so long at most.
    let gates = u32::try_from(replace.approve.len()).unwrap_or(u32::MAX);
    max += replace.approval_timeout.0.saturating_mul(gates);
    let holds = replace.on_settle_timeout == OnSettleTimeout::Hold
        || drain.on_timeout == OnDrainTimeout::Hold;
    // What all fleets share may be taken by the others for as long as those wait for something.
    let shared = environment.in_flight.is_some() || environment.deletions.is_some();
    // A rollout starts and switches only within a window: it waits for the next one.
    let windows = !replace.windows.is_empty();
    (min, (!holds && !shared && !windows).then_some(max))
}

fn least(one: Option<u32>, other: Option<u32>) -> Option<u32> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
