//! The id of a plan: a hash of all that it rests on, in parts, so that an id that no longer holds
//! tells which part has changed.

use calvin_model::{FleetSpec, ImageRef};

use crate::{
    command::Refusal,
    fnv::Fnv,
    state::{Build, FleetState},
};

/// What a plan rests on, as hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanId {
    parts: [u64; 4],
}

/// What the parts of a plan's id stand for, in their order.
const PARTS: [&str; 4] = [
    "the image to roll out is another",
    "what serves is another image",
    "the fleet's spec was changed",
    "its instances are others",
];
/// Bits of each part that are shown: 1 in 10^6 changes would go unseen, and four parts are still
/// typed or pasted on one line.
const PART_MASK: u64 = 0x000f_ffff;

impl PlanId {
    /// Of the plan to replace what `state` runs by `build`.
    #[must_use]
    pub fn of(state: &FleetState, build: &Build) -> Self {
        let to = image(Fnv::new(), &build.image);
        let serving = state.serving.as_ref();
        let from = serving.map_or_else(Fnv::new, |serving| image(Fnv::new(), &serving.image));
        let from = match state.running() {
            Some(rollout) => from.text(rollout.id.as_str()).text(rollout.phase.as_str()),
            None => from,
        };
        let mut instances = Fnv::new();
        for (id, instance) in &state.instances {
            if !instance.leaving() {
                instances = image(instances.text(id.as_str()), &instance.build.image);
            }
        }
        let parts = [to, from, spec(state), instances];
        Self {
            parts: parts.map(|part| part.finish() & PART_MASK),
        }
    }
}

impl std::fmt::Display for PlanId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [to, from, spec, instances] = self.parts;
        write!(f, "{to:05x}-{from:05x}-{spec:05x}-{instances:05x}")
    }
}

fn image(hash: Fnv, image: &ImageRef) -> Fnv {
    hash.text(&image.tag.to_string())
        .text(image.digest.as_str())
}

/// Every key that a rollout rests on, as the code writes it for itself: a key that is added to one
/// of these is part of the id without a word here. The image of the file is none: the build stands
/// for it.
fn spec(state: &FleetState) -> Fnv {
    let FleetSpec {
        name: _,
        image: _,
        count,
        provider,
        kind,
        zones,
        after,
        uses,
        replace,
        drain,
        repair,
        budget,
    } = &state.spec;
    let kept = (count, provider, kind, zones, after, uses);
    let hash = Fnv::new().text(&format!("{kept:?}"));
    hash.text(&format!("{replace:?} {drain:?} {repair:?} {budget:?}"))
}

/// Refuses a plan that no longer holds, with what has changed.
pub(crate) fn same_plan(given: &str, now: &PlanId) -> Result<(), Refusal> {
    if given == now.to_string() {
        return Ok(());
    }
    let parts: Vec<&str> = given.split('-').collect();
    let mut changed: Vec<&str> = Vec::new();
    if parts.len() == now.parts.len() {
        for ((given, now), text) in parts.iter().zip(now.parts).zip(PARTS) {
            if u64::from_str_radix(given, 16) != Ok(now) {
                changed.push(text);
            }
        }
    }
    if changed.is_empty() {
        changed.push("it is no plan's id");
    }
    Err(Refusal::PlanChanged {
        plan: given.to_owned(),
        changed: changed.join("; "),
    })
}
