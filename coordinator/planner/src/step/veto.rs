//! Vetoes images whose instances fail one after the other, so that repairs are made from the last
//! good one and nobody starts the same again without a thought. A person takes a veto back.
//!
//! Only what the image can be blamed for counts: not a machine that died, not a provider that could
//! not make it, and not time in which something that the fleet comes after did not serve, in which
//! the coordinator distrusts its own eyes, or in which most of what served before fails too.

use calvin_model::{InstanceId, image::ImageTag};

use super::rollout::why_not_healthy;
use crate::{
    judge::{Distrust, Loss},
    observed::FaultKind,
    pass::Pass,
    plan::EventKind,
    state::Instance,
};

/// An image that is to be vetoed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageVeto {
    /// Which image.
    pub(crate) image: ImageTag,
    /// What failed, one sentence.
    pub(crate) reason: String,
}

/// Counts one instance that is given up against its image.
pub(crate) fn blame(pass: &mut Pass<'_>, id: &InstanceId) {
    let Some(image) = pass.instance(id).map(|one| one.build.image.tag.clone()) else {
        return;
    };
    if excused(pass, id) || pass.vetoed(&image).is_some() {
        return;
    }
    let why = why_not_healthy(pass, id);
    let allowed = pass.state().spec.repair.image_failures;
    let failures = &mut pass.change().repairs.image_failures;
    let failed = failures.entry(image.clone()).or_default();
    *failed = failed.saturating_add(1);
    let failed = *failed;
    let known = pass.vetoes.iter().any(|veto| veto.image == image);
    if failed < allowed || known {
        return;
    }
    let reason = format!("{failed} instances of it failed in a row, the last {id}: {why}");
    let text = format!("{image} is vetoed: {reason} (end it: calvin image unveto {image})");
    pass.event(None, EventKind::Hold, text);
    // What comes after a person's word is counted anew.
    pass.change().repairs.image_failures.remove(&image);
    pass.vetoes.push(ImageVeto { image, reason });
}

/// Notes that an image does what it should: what failed before it does not count any more.
pub(crate) fn clear(pass: &mut Pass<'_>, image: &ImageTag) {
    if pass.state().repairs.image_failures.contains_key(image) {
        pass.change().repairs.image_failures.remove(image);
    }
}

impl Pass<'_> {
    /// Counts the greens that had been healthy and are not any more, when their rollout goes back.
    /// One that never was is counted when it is given up.
    pub(crate) fn blame_greens(&mut self) {
        let greens = self.running().map(|rollout| rollout.sets.green.clone());
        for id in greens.unwrap_or_default() {
            let proven = self.instance(&id).is_some_and(|green| green.proven);
            if proven && self.judged(&id).failing() {
                blame(self, &id);
            }
        }
    }
}

/// Whether the failure of an instance says nothing of its image.
fn excused(pass: &Pass<'_>, id: &InstanceId) -> bool {
    let lost = pass.judged(id).loss != Loss::None;
    let fault = pass.seen(id).and_then(|seen| seen.fault.as_ref());
    let providers = fault.is_some_and(|fault| fault.kind != FaultKind::Image);
    let ours = pass.distrust != Distrust::None;
    let others = pass.ledger.waits_for(pass.state()).is_some();
    let ordered = pass.instance(id).is_none_or(Instance::leaving);
    ordered || lost || providers || ours || others || others_fail(pass, id)
}

/// Whether most instances of other images fail as well: then it is something that all of them need.
fn others_fail(pass: &Pass<'_>, id: &InstanceId) -> bool {
    let image = pass.instance(id).map(|one| &one.build.image);
    let counts = |one: &Instance| one.proven && !one.leaving() && Some(&one.build.image) != image;
    let others = pass.state().instances.iter().filter(|(_, one)| counts(one));
    let (all, failing) = others.fold((0_usize, 0_usize), |(all, failing), (id, _)| {
        (all + 1, failing + usize::from(pass.fails(id)))
    });
    failing > all / 2
}
