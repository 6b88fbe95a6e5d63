//! What stands against the start of a rollout: a veto, a pin, a freeze, closed windows.

use calvin_model::{FleetName, ImageRef};

use super::{Desk, Refusal};
use crate::{
    environment::{FreezeScope, Order},
    invariant::InvariantId,
    people::Aim,
    state::{Build, FleetState, NextRollout},
    wall::date,
    waves::left_out,
};

/// A rollout that somebody wants.
pub(super) struct Wants<'a> {
    /// What is to serve.
    pub(super) build: &'a Build,
    /// Who cannot wait, and why.
    pub(super) emergency: Option<Order>,
}

impl Wants<'_> {
    /// As one that starts later.
    pub(super) fn next(&self, who: &str) -> NextRollout {
        NextRollout {
            build: self.build.clone(),
            by: who.to_owned(),
            reason: None,
            aim: Aim::Forward,
            emergency: self.emergency.clone(),
        }
    }
}

impl Desk<'_> {
    /// Refuses what is made from a vetoed image.
    pub(super) fn not_vetoed(
        &self,
        image: &ImageRef,
        what: &str,
        name: &FleetName,
    ) -> Result<(), Refusal> {
        let Some(veto) = self.input.environment.vetoes.get(&image.tag) else {
            return Ok(());
        };
        Err(Refusal::NotNow {
            rule: Some(InvariantId::VetoedIsNeverMade),
            what: what.to_owned(),
            why: format!(
                "{image} is vetoed by {} since {}: {} (VetoedIsNeverMade)",
                veto.by,
                date(veto.wall_ms),
                veto.reason
            ),
            hint: format!(
                "take another image: calvin rollout start {name} NAME@VERSION; or end it: calvin image unveto {}",
                image.tag
            ),
        })
    }

    /// Refuses a rollout that a veto, a pin, protection or a freeze stands against.
    pub(super) fn may_start(
        &self,
        name: &FleetName,
        before: &FleetState,
        wants: &Wants<'_>,
    ) -> Result<(), Refusal> {
        let what = format!("could not start a rollout of fleet {name}");
        let image = &wants.build.image;
        self.not_vetoed(image, &what, name)?;
        if let Some(pin) = &before.pin {
            return Err(Refusal::NotNow {
                rule: None,
                what,
                why: format!(
                    "it is pinned by {} since {}: {}",
                    pin.by,
                    date(pin.wall_ms),
                    pin.reason
                ),
                hint: format!("end that first: calvin fleet unpin {name}"),
            });
        }
        let left_out = left_out(before, wants.build);
        if left_out > 0 && left_out >= before.spec.count {
            return Err(Refusal::NotNow {
                rule: Some(InvariantId::ProtectedNeverTouched),
                what,
                why: format!(
                    "all of its {left_out} instances are protected (ProtectedNeverTouched)"
                ),
                hint: format!("see by whom: calvin fleet show {name}"),
            });
        }
        if wants.emergency.is_some() {
            return Ok(());
        }
        self.not_frozen(
            before,
            FreezeScope::New,
            &what,
            &format!(
                "wait until it is over; if it cannot wait: calvin rollout start {name} {} --emergency --reason WHY",
                image.tag
            ),
        )
    }

    /// Why a rollout that may start does not start yet.
    pub(super) fn waits(
        &self,
        name: &FleetName,
        state: &FleetState,
        wants: &Wants<'_>,
    ) -> Option<String> {
        if wants.emergency.is_some() {
            return None;
        }
        if let Some(freeze) = self.frozen(state) {
            return Some(freeze.told());
        }
        let seen = self.input.windows.get(name);
        let windows = &state.spec.replace.windows;
        if windows.is_empty() || seen.is_some_and(|seen| seen.open) {
            return None;
        }
        let windows: Vec<String> = windows.iter().map(ToString::to_string).collect();
        let opens = seen.and_then(|seen| seen.changes_in);
        let opens = opens.map_or_else(
            || "when one opens is not known yet".to_owned(),
            |opens| {
                let ms = u64::try_from(opens.as_millis()).unwrap_or(u64::MAX);
                format!(
                    "the next opens at {}",
                    date(self.input.wall_ms.saturating_add(ms))
                )
            },
        );
        Some(format!(
            "its windows are closed ({}); {opens}",
            windows.join(", ")
        ))
    }
}
