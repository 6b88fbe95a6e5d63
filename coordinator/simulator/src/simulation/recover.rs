//! What a person does while the coordinator recovers: waits until every agent was heard, looks at the
//! plan, and approves it; as `calvin recover show` and `calvin recover approve`.

use std::{sync::Arc, time::Duration};

use calvin_engine::{
    Decide, View,
    recover::{Approval, RecoveryView, Verdict, WhatBlocks},
};
use calvin_planner::Command;

use super::operator::{Console, Operator, WHO};
use crate::scenario::Step;

/// How long agents that were not heard are waited for: longer than anything that goes wrong by chance
/// keeps one away.
const PATIENCE: Duration = Duration::from_secs(120);

impl Operator<'_> {
    pub(super) fn recover<D: Decide>(
        &mut self,
        console: &mut Console<'_, D>,
        recovery: &RecoveryView,
        view: &Arc<View>,
    ) {
        let now = console.now();
        let since = *self.recovering_since.get_or_insert(now);
        let difference = &recovery.difference;
        let patient = now < since + PATIENCE;
        if difference.id.is_empty() || !difference.waits.is_empty() {
            return;
        }
        if patient && !console.has_heard_all() {
            return;
        }
        if self.bring_fleets_back(console, recovery, view) {
            return;
        }
        let blocked = if difference.blocked().next().is_none() {
            WhatBlocks::Refuses
        } else if patient {
            return;
        } else {
            WhatBlocks::IsLeftAlone
        };
        let approval = Approval {
            plan: difference.id.clone(),
            reason: "every agent was heard".to_owned(),
            blocked,
        };
        if console.approve(&approval, WHO) {
            self.recovering_since = None;
            self.order_again();
        }
    }

    /// A fleet that serves and has no record gets one from its file. Says whether there was any.
    fn bring_fleets_back<D: Decide>(
        &self,
        console: &mut Console<'_, D>,
        recovery: &RecoveryView,
        view: &Arc<View>,
    ) -> bool {
        let findings = recovery.difference.findings.iter();
        let unknown = findings.filter(|finding| finding.verdict == Verdict::UnknownFleet);
        let mut any = false;
        for finding in unknown {
            let mut specs = self.scenario.specs();
            let spec = specs.find(|spec| spec.name == finding.fleet);
            if view.fleets.contains_key(&finding.fleet) {
                continue;
            }
            if let Some(order) = spec.and_then(|spec| self.apply(spec)) {
                any |= console.give(&order);
            }
        }
        any
    }

    /// A fleet whose deletion was ordered after the backup was made is there again.
    fn order_again(&mut self) {
        if self.next > 0 && self.scenario.steps.get(self.next - 1) == Some(&Step::Delete) {
            self.next -= 1;
            self.steps_at.pop();
        }
    }

    fn apply(&self, spec: &calvin_model::FleetSpec) -> Option<Command> {
        let image = self.scenario.image(&spec.image)?;
        let mut spec = spec.clone();
        spec.provider = crate::provider::NAME.to_owned();
        Some(Command::ApplyFleet {
            spec: Box::new(spec),
            build: image.build(),
        })
    }
}
