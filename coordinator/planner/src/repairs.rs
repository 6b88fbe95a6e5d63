//! What repairs must remember, in the durable state of a fleet: what failed lately, whether that
//! was too much at once, and what a person said about it.

use std::{collections::BTreeMap, time::Duration};

use calvin_model::{InstanceId, image::ImageTag};
use serde::{Deserialize, Serialize};

use crate::{judge::Judgement, moment::Moment, report::InstanceClass, sums::flap_backoff};

/// What repairs of one fleet must remember. Durable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repairs {
    /// Which instances began to fail within the meltdown's window, and when. One that fails in the
    /// place of another moves its line on: a place that fails again and again is one failure.
    #[serde(default)]
    pub failures: BTreeMap<InstanceId, Moment>,
    /// Since when so many have failed at once that nothing is replaced for that.
    #[serde(default)]
    pub melted: Option<Moment>,
    /// How many instances of an image failed in a row, for which it can be blamed.
    #[serde(default)]
    pub image_failures: BTreeMap<ImageTag, u32>,
    /// Instances that failed and were healthy again, or fail now, until they have been healthy for
    /// long.
    #[serde(default)]
    pub flaps: BTreeMap<InstanceId, Flaps>,
    /// Until when a person answers for it: the guards do not hold.
    #[serde(default)]
    pub guards_off_until: Option<Moment>,
}

/// How often an instance failed since it was last healthy for long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flaps {
    /// How often.
    pub count: u32,
    /// Whether it failed at the last look: the next time that it does is another.
    pub fails: bool,
}

impl Repairs {
    /// How long an instance that is healthy, and flapped, must still be so before clients find it
    /// again; `None` where it need not, or where it is not healthy.
    #[must_use]
    pub fn backs_off(&self, id: &InstanceId, judgement: Judgement) -> Option<Duration> {
        let flaps = self.flaps.get(id)?;
        if judgement.class != InstanceClass::Healthy {
            return None;
        }
        let long = judgement.healthy_for.unwrap_or_default();
        let left = flap_backoff(flaps.count).saturating_sub(long);
        (!left.is_zero()).then_some(left)
    }

    /// Whether a person answers for it now.
    #[must_use]
    pub fn guards_off(&self, now: Moment) -> bool {
        self.guards_off_until
            .is_some_and(|until| !until.reached(now))
    }
}
