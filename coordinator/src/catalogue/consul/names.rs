//! Which names are asked for, and how. Pure.
//!
//! Decisions rest on the names that somebody on record can be found under, and these are watched. Under
//! those of other images something may be left, and they are asked for seldom: however many images were ever
//! added, and whatever becomes of those names, nobody waits for that.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use calvin_consul::policies::STANDBY_SUFFIX;
use calvin_model::image::ServiceSpec;
use tokio::time::Instant;

/// A name that nobody on record can be found under any more is watched for so long, so that what the last
/// ones left goes as soon as anybody's. Consul clients believe a revoked token for half a minute.
const LINGERS: Duration = Duration::from_secs(60);

/// The names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// Somebody on record can be found under them.
    pub(super) used: BTreeSet<String>,
    /// Those, and some a while longer.
    pub(super) watched: BTreeSet<String>,
    /// All others.
    pub(super) seldom: BTreeSet<String>,
}

/// Which names were used, and when last.
#[derive(Debug, Default)]
pub(super) struct Uses {
    last: BTreeMap<String, Instant>,
}

/// Every name that these can be found under.
pub(super) fn names<'a>(services: impl Iterator<Item = &'a ServiceSpec>) -> BTreeSet<String> {
    let names = services.flat_map(|service| {
        let name = service.name.as_str();
        [name.to_owned(), format!("{name}{STANDBY_SUFFIX}")]
    });
    names.collect()
}

impl Uses {
    /// Sorts the names: those that are used now, and those of all images.
    pub(super) fn sort(
        &mut self,
        used: BTreeSet<String>,
        of_images: BTreeSet<String>,
        now: Instant,
    ) -> Names {
        for name in &used {
            self.last.insert(name.clone(), now);
        }
        self.last
            .retain(|_, last| now.duration_since(*last) < LINGERS);
        let watched: BTreeSet<String> = self.last.keys().cloned().collect();
        let seldom = of_images.difference(&watched).cloned().collect();
        Names {
            used,
            watched,
            seldom,
        }
    }
}

impl Names {
    /// Whether it is asked for.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.watched.contains(name) || self.seldom.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().copied().map(str::to_owned).collect()
    }

    #[test]
    fn names_that_nobody_uses_are_asked_for_seldom_and_those_just_left_a_while_longer() {
        let mut uses = Uses::default();
        let start = Instant::now();
        let all = || set(&["api", "old", "web"]);
        let names = uses.sort(set(&["api", "web"]), all(), start);
        assert_eq!(names.watched, set(&["api", "web"]));
        assert_eq!(names.seldom, set(&["old"]));
        let later = start + LINGERS / 2;
        let names = uses.sort(set(&["web"]), all(), later);
        assert_eq!(
            (&names.used, &names.watched),
            (&set(&["web"]), &set(&["api", "web"]))
        );
        let names = uses.sort(set(&["web"]), all(), start + LINGERS);
        assert_eq!(names.watched, set(&["web"]));
        assert_eq!(names.seldom, set(&["api", "old"]));
    }
}
