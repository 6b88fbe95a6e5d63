//! Every fault with what it is about: where the tasks note them, and from which people are told.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::discriminant,
};

use calvin_consul::Error;
use calvin_engine::ports::CatalogueFault;
use calvin_model::{FleetName, InstanceId};
use tokio::time::Instant;

use super::{Failing, FaultKind, Since, named};

/// What a fault is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum About {
    /// The policy of all machines, or the list of their tokens.
    Tokens,
    /// The token of an instance that is to join.
    Token(FleetName, InstanceId),
    /// The token of an instance that is gone.
    Debt(InstanceId),
    /// The role tags of a fleet.
    Tags(FleetName),
    /// The list of nodes.
    Nodes,
    /// The locks of exclusive fleets.
    Locks,
    /// What is left of who is gone.
    Leftovers,
}

/// Everything that fails now.
#[derive(Debug, Default)]
pub(in super::super) struct Board {
    faults: BTreeMap<About, Noted>,
}

/// Which faults are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Show {
    All,
    /// While Consul itself is away only what would stay when it is back: that it is away is said already.
    Denials,
}

#[derive(Debug)]
struct Noted {
    failing: Failing,
    /// The log was told.
    said: bool,
}

/// Faults that are told together: of one kind, for one reason.
#[derive(Debug)]
struct Group<'a> {
    about: Vec<&'a About>,
    kind: FaultKind,
    since: Since,
}

impl Board {
    /// Notes that it failed. Says whether people are shown something else now.
    pub(in super::super) fn failed(&mut self, about: &About, error: &Error, now: Instant) -> bool {
        let before = self.faults.get(about).map(|one| &one.failing);
        let failing = Failing::again(before, error, now);
        self.note(about, failing, now)
    }

    /// Notes that Consul did nothing of it. Says whether people are shown something else now.
    pub(in super::super) fn stopped(&mut self, about: &About, why: &str, now: Instant) -> bool {
        let before = self.faults.get(about).map(|one| &one.failing);
        let failing = Failing::stopped(before, why, now);
        self.note(about, failing, now)
    }

    fn note(&mut self, about: &About, failing: Failing, now: Instant) -> bool {
        let before = self.faults.get(about);
        let same = before.is_some_and(|one| one.failing.why == failing.why);
        let said = same && before.is_some_and(|one| one.said);
        let counts = failing.kind.counts(now.duration_since(failing.since.at));
        if counts && !said && !self.is_said(about, &failing.why) {
            let what = what(&[about]);
            tracing::warn!(why = failing.why, "{what}; it is tried again");
        }
        let said = said || counts;
        let changed = !same || before.is_none_or(|one| one.said != said);
        self.faults.insert(about.clone(), Noted { failing, said });
        changed
    }

    /// Whether the log was told of another one of that kind for that reason.
    fn is_said(&self, about: &About, why: &str) -> bool {
        self.faults.iter().any(|(other, one)| {
            one.said && one.failing.why == why && discriminant(other) == discriminant(about)
        })
    }

    /// It works. Says whether it did not.
    pub(in super::super) fn works(&mut self, about: &About) -> bool {
        let before = self.faults.remove(about);
        let was_said = before.is_some_and(|one| one.said);
        if was_said {
            tracing::debug!(?about, "it works again");
        }
        was_said
    }

    /// Forgets what is about nobody any more.
    pub(in super::super) fn keep(&mut self, is_open: impl Fn(&About) -> bool) {
        self.faults.retain(|about, _| is_open(about));
    }

    /// What people are shown, what lasts longest first.
    pub(in super::super) fn shown(&self, show: Show, now: Instant) -> Vec<CatalogueFault> {
        let mut groups: BTreeMap<(Place, &str), Group<'_>> = BTreeMap::new();
        for (about, one) in &self.faults {
            let lasts = now.duration_since(one.failing.since.at);
            let kind = one.failing.kind;
            let is_shown = match show {
                Show::All => true,
                Show::Denials => kind.is_denial(),
            };
            if !is_shown || !kind.counts(lasts) {
                continue;
            }
            let key = (Place::of(about), one.failing.why.as_str());
            let group = groups.entry(key).or_insert_with(|| Group {
                about: Vec::new(),
                kind,
                since: one.failing.since,
            });
            group.about.push(about);
            if one.failing.since.at < group.since.at {
                group.since = one.failing.since;
            }
        }
        let shown = groups.into_iter();
        let mut shown: Vec<_> = shown
            .map(|((_, why), group)| group.shown(why, now))
            .collect();
        shown.sort_by_key(|fault| std::cmp::Reverse(fault.lasts));
        shown
    }
}

/// What is told together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Tokens,
    Debts,
    Tags(FleetName),
    Nodes,
    Locks,
    Leftovers,
}

impl Place {
    fn of(about: &About) -> Self {
        match about {
            About::Tokens | About::Token(..) => Self::Tokens,
            About::Debt(_) => Self::Debts,
            About::Tags(fleet) => Self::Tags(fleet.clone()),
            About::Nodes => Self::Nodes,
            About::Locks => Self::Locks,
            About::Leftovers => Self::Leftovers,
        }
    }
}

impl Group<'_> {
    fn shown(&self, why: &str, now: Instant) -> CatalogueFault {
        CatalogueFault {
            fleets: self.fleets(),
            what: format!("{}: {why}", what(&self.about)),
            advice: self.kind.advice().to_owned(),
            lasts: now.duration_since(self.since.at),
            since_wall_ms: self.since.wall_ms,
        }
    }

    fn fleets(&self) -> BTreeSet<FleetName> {
        let fleets = self.about.iter().filter_map(|about| match about {
            About::Token(fleet, _) | About::Tags(fleet) => Some(fleet.clone()),
            About::Tokens | About::Debt(_) | About::Nodes | About::Locks | About::Leftovers => None,
        });
        fleets.collect()
    }
}

/// What cannot be done.
fn what(about: &[&About]) -> String {
    let instances: BTreeSet<&str> = about
        .iter()
        .filter_map(|about| match about {
            About::Token(_, instance) | About::Debt(instance) => Some(instance.as_str()),
            About::Tokens | About::Tags(_) | About::Nodes | About::Locks | About::Leftovers => None,
        })
        .collect();
    // Who waits says more than what all share.
    let Some(about) = about.iter().max() else {
        return String::new();
    };
    match about {
        About::Tokens => "the Consul tokens of machines cannot be looked after".to_owned(),
        About::Token(..) => format!("no Consul token can be made for {}", named(&instances)),
        About::Debt(_) => format!(
            "the Consul tokens of {} cannot be revoked",
            named(&instances)
        ),
        About::Tags(fleet) => format!("the role tags of fleet {fleet} cannot be changed in Consul"),
        About::Nodes => {
            "the nodes in Consul cannot be listed, and those of machines that are gone stay"
                .to_owned()
        }
        About::Locks => {
            "the locks of exclusive fleets cannot be read, and whoever needs one waits".to_owned()
        }
        About::Leftovers => {
            "what is left in Consul of machines that are gone cannot be taken out".to_owned()
        }
    }
}

#[cfg(test)]
mod tests;
