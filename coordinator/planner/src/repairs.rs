//! What repairs must remember, in the durable state of a fleet: what failed lately, whether that
//! was too much at once, and what a person said about it.

use std::collections::BTreeMap;

use calvin_model::{InstanceId, image::ImageTag};
use serde::{Deserialize, Serialize};

use crate::moment::Moment;

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
    /// Until when a person answers for it: the guards do not hold.
    #[serde(default)]
    pub guards_off_until: Option<Moment>,
}

impl Repairs {
    /// Whether a person answers for it now.
    #[must_use]
    pub fn guards_off(&self, now: Moment) -> bool {
        self.guards_off_until
            .is_some_and(|until| !until.reached(now))
    }
}
