//! Retiring: the wave is complete when nothing is left of its blue.

use super::{greens::blue, wave};
use crate::pass::Pass;

pub(crate) fn step(pass: &mut Pass<'_>) {
    let left = blue(pass);
    if left.is_empty() {
        wave::finish(pass);
        return;
    }
    let since = pass
        .running()
        .map_or(pass.now, |rollout| rollout.phase_since);
    let what = format!("{} blue to be removed", left.len());
    pass.wait(what, pass.now.since(since), None);
}
