//! How large each wave of a rollout is: one computation for the planner, the preview and whoever
//! counts waves for people.

use calvin_model::{FleetSpec, InstanceId, fleet::FleetKind};

use crate::{
    ledger::Shortage,
    plan::DeleteBasis,
    state::{Build, FleetState, Instance, Rollout, WaveOrder},
};

/// What the size of every wave of a rollout rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizing {
    /// How many are to serve in the end.
    count: u32,
    /// How many may be there on top.
    surge: u32,
    /// How many may be missing, where there can be none on top.
    room: u32,
    /// How many greens go first, alone, over all zones.
    canary: u32,
    /// How many may leave in one wave: of a quorum one. What it has above its count leaves after the
    /// rollout, one at a time too.
    leaving: u32,
}

/// How many greens a wave makes, how many blues it replaces, and in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Greens to be made.
    pub(crate) greens: u32,
    /// Blues to be replaced.
    pub(crate) blues: u32,
    /// What comes first.
    pub(crate) order: WaveOrder,
    /// Whether it goes first, alone, and soaks for longer.
    pub(crate) canary: bool,
}

impl Sizing {
    /// Of a rollout that ends with `count`.
    pub(crate) fn of(spec: &FleetSpec, count: u32) -> Self {
        let zones = amount(spec.zones.len()).max(1);
        let may_miss = spec.replace.unavailable.of_at_most(count);
        let least = spec.repair.min_serving.unwrap_or(0).min(count);
        Self {
            count,
            surge: match spec.kind {
                FleetKind::Service => spec.replace.surge.of(count),
                FleetKind::Exclusive | FleetKind::Quorum => 1,
            },
            room: may_miss.min(count - least),
            canary: spec.replace.canary.saturating_mul(zones).min(count),
            leaving: match spec.kind {
                FleetKind::Service | FleetKind::Exclusive => u32::MAX,
                FleetKind::Quorum => 1,
            },
        }
    }

    /// Of a rollout, without those that are protected. One that cannot wait is one wave, but for
    /// the kinds of which one is replaced at a time whatever the hurry.
    pub(crate) fn of_rollout(state: &FleetState, rollout: &Rollout) -> Self {
        let count = rollout.count.saturating_sub(left_out(state, &rollout.to));
        let sizing = Self::of(&state.spec, count);
        match rollout.emergency {
            None => sizing,
            Some(_) => Self {
                surge: match state.spec.kind {
                    FleetKind::Service => count,
                    FleetKind::Exclusive | FleetKind::Quorum => sizing.surge,
                },
                canary: 0,
                ..sizing
            },
        }
    }

    /// The next wave of a fleet of which `new` run the new image already and `old` another one,
    /// while `fits` more machines can be made. `None` while it can neither make one nor room for
    /// one.
    ///
    /// A first rollout has nothing to protect and nothing on top: it is one wave. The last wave
    /// takes all that is old, also what a fleet has above its count. Every wave makes at least one:
    /// what proves the image is a green.
    pub(crate) fn next(&self, new: u32, old: u32, fits: u32) -> Option<Size> {
        let missing = self.count.saturating_sub(new).max(1);
        if old == 0 && new == 0 {
            return (fits > 0).then(|| Size {
                greens: missing.min(fits),
                blues: 0,
                order: WaveOrder::GreenFirst,
                canary: false,
            });
        }
        let canary = old > 0 && new < self.canary;
        let most = if canary { self.canary - new } else { u32::MAX };
        // What the fleet lacks is not on top.
        let lacks = self.count.saturating_sub(new.saturating_add(old)).min(fits);
        let on_top = self.surge.min(fits);
        let (greens, order) = if on_top > 0 {
            (missing.min(on_top), WaveOrder::GreenFirst)
        } else if lacks >= self.room {
            (missing.min(lacks), WaveOrder::GreenFirst)
        } else {
            (missing.min(self.room), WaveOrder::RoomFirst)
        };
        let greens = greens.min(most);
        let last = greens == missing;
        let blues = match order {
            WaveOrder::GreenFirst if on_top == 0 && !last => 0,
            WaveOrder::GreenFirst | WaveOrder::RoomFirst if last => old,
            WaveOrder::GreenFirst | WaveOrder::RoomFirst => old.min(greens),
        };
        let blues = blues.min(self.leaving);
        let order = if blues == 0 {
            WaveOrder::GreenFirst
        } else {
            order
        };
        (greens > 0).then_some(Size {
            greens,
            blues,
            order,
            canary,
        })
    }

    /// How many a wave could make if there were room for all: for who says that fewer fit.
    pub(crate) fn wished(&self, new: u32, old: u32) -> u32 {
        self.next(new, old, u32::MAX).map_or(0, |size| size.greens)
    }

    /// All waves from here, while `fits` more machines can be made: what a wave replaces makes
    /// room for the next.
    pub(crate) fn all(&self, mut new: u32, mut old: u32, mut fits: u32) -> Vec<Size> {
        let mut waves = Vec::new();
        loop {
            let Some(size) = self.next(new, old, fits) else {
                return waves;
            };
            waves.push(size);
            let first = old == 0 && new == 0;
            new = new.saturating_add(size.greens);
            old -= size.blues;
            fits = fits.saturating_sub(size.greens).saturating_add(size.blues);
            if new >= self.count || first {
                return waves;
            }
        }
    }
}

/// How many are protected and run another image: they stay as they are, and count. What a failed
/// first rollout left never served, and does not.
pub(crate) fn left_out(state: &FleetState, build: &Build) -> u32 {
    if state.serving.is_none() {
        return 0;
    }
    let left_out = |one: &&Instance| {
        !one.leaving()
            && one.protected.is_some()
            && one.build.image != build.image
            && !state.set_aside(one)
    };
    amount(state.instances.values().filter(left_out).count())
}

/// Why a wave is smaller than it was to be, or makes room first, where that is so.
pub(crate) fn smaller(size: Size, wished: Option<Size>, bound: Option<Shortage>) -> Option<String> {
    let (wished, bound) = (wished?, bound?);
    if size == wished {
        return None;
    }
    let on_top = wished.greens;
    Some(match (size.order, wished.order) {
        (WaveOrder::RoomFirst, WaveOrder::GreenFirst) => format!(
            "none of surge {on_top} fits, so {} make room first: {bound}",
            size.blues
        ),
        (WaveOrder::GreenFirst | WaveOrder::RoomFirst, _) => {
            format!("surge {} of {on_top} fits: {bound}", size.greens)
        }
    })
}

/// Instances that stay and can be part of a wave, by whether they run `build`: those that do, then the
/// others. One that was lost with its zone counts as neither, nor does what a failed first rollout left,
/// which makes room for the next attempt.
pub(crate) fn new_and_old(state: &FleetState, build: &Build) -> (u32, u32) {
    if state.serving.is_none() {
        return (0, 0);
    }
    let mut counts = (0, 0);
    for (_, instance) in staying(state) {
        if instance.build.image == build.image {
            counts.0 += 1;
        } else if instance.protected.is_none() {
            counts.1 += 1;
        }
    }
    counts
}

/// How many waves the fleet's running rollout, or the newest that ended, has in all, as far as can
/// be said now: those that are over, the one under way, and those that follow.
#[must_use]
pub fn waves_in_all(state: &FleetState) -> u32 {
    let Some(rollout) = &state.rollout else {
        return 0;
    };
    let begun = rollout.wave.saturating_add(1);
    if rollout.phase.ended() || rollout.from.is_none() {
        return begun;
    }
    let (mut new, mut old) = (0_u32, 0_u32);
    for (id, instance) in staying(state) {
        if rollout.sets.green.contains(id) || rollout.sets.blue.contains(id) {
            continue;
        }
        if instance.build.image == rollout.to.image {
            new += 1;
        } else if instance.protected.is_none() {
            old += 1;
        }
    }
    let sizing = Sizing::of_rollout(state, rollout);
    if !rollout.sets.begun() {
        let left = sizing.all(new, old, u32::MAX);
        return rollout.wave.saturating_add(amount(left.len())).max(begun);
    }
    new = new.saturating_add(rollout.sets.size());
    if new >= sizing.count {
        return begun;
    }
    begun.saturating_add(amount(sizing.all(new, old, u32::MAX).len()))
}

/// Those that stay, but for those that were lost with their zone: they are no part of a wave.
pub(crate) fn staying(state: &FleetState) -> impl Iterator<Item = (&InstanceId, &Instance)> {
    let staying = |one: &Instance| {
        let lost_zone = one.replace == Some(DeleteBasis::ZoneLost);
        !one.leaving() && !lost_zone
    };
    state.instances.iter().filter(move |(_, one)| staying(one))
}

fn amount(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
