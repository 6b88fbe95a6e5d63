//! The rule of quorum fleets: one member leaves at a time, and only while the others can vote.

use calvin_model::InstanceId;

use super::{
    InvariantId,
    view::{Found, View},
};
use crate::{
    judge::Judgement,
    moment::Moment,
    observed::InstanceObserved,
    quorum::{Members, When, keeps, votes},
    state::Life,
};

impl Members for View<'_> {
    fn judged(&self, id: &InstanceId) -> Judgement {
        View::judged(self, id)
    }

    fn seen(&self, id: &InstanceId) -> Option<&InstanceObserved> {
        View::seen(self, id)
    }

    fn now(&self) -> Moment {
        self.input.now
    }
}

pub(super) fn check(view: &View<'_>, found: &mut Found) {
    if !votes(view.before) || view.after.is_none_or(|after| after.deleting) {
        return;
    }
    let mut leave = 0;
    for (id, old, new) in view.changed() {
        if old.leaving() || !new.leaving() || old.life != Life::Up {
            continue;
        }
        if let Some(fact) = keeps(view.before, id, When::Now, view) {
            let text = format!("{id} leaves: {fact}");
            found.push((InvariantId::QuorumOneAtATime, text));
        }
        leave += 1;
        if leave > 1 {
            let text = format!("{id} leaves, and is not the only one");
            found.push((InvariantId::QuorumOneAtATime, text));
        }
    }
}
