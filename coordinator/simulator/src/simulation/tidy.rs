//! What a person deletes by hand: machines that the coordinator shows and leaves alone, because the
//! store lost track of them, or because a creation made two.

use std::{collections::BTreeMap, time::Duration};

use calvin_engine::{Notice, View};
use calvin_model::InstanceId;

use crate::world::World;

/// How long something is shown before a person comes to look.
const PATIENCE: Duration = Duration::from_secs(10);

/// Since when which machines are shown.
#[derive(Debug, Default)]
pub(super) struct Shown(BTreeMap<InstanceId, Duration>);

impl Shown {
    /// Looks, and deletes what was shown for long enough.
    pub(super) fn look(&mut self, view: &View, world: &mut World) {
        let now = world.now();
        let notices = view.notices.iter();
        let refused = world.refused();
        let shown: Vec<&InstanceId> = notices
            .filter_map(|notice| match notice {
                Notice::Stray { instance, .. } | Notice::Doubled { instance, .. } => Some(instance),
                Notice::Alarm { .. }
                | Notice::NoProvider { .. }
                | Notice::NoManifest { .. }
                | Notice::NotPublished(_)
                | Notice::Breach(_)
                | Notice::Refused { .. } => None,
            })
            .filter(|instance| world.may_delete_by_hand(instance))
            .chain(&refused)
            .collect();
        self.0.retain(|instance, _| shown.contains(&instance));
        for instance in shown {
            let since = self.0.entry(instance.clone()).or_insert(now);
            if now >= *since + PATIENCE {
                // It is shown until the provider's list lacks it.
                *since = now;
                world.delete_by_hand(instance);
            }
        }
    }

    /// Whether anything is shown that nobody has deleted yet.
    pub(super) fn is_any(&self) -> bool {
        !self.0.is_empty()
    }
}
