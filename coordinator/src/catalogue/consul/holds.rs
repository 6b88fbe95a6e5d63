//! Why nothing may be decided now. Pure.
//!
//! A query that waits says nothing while it waits, so what is read is as new as the last sign of life:
//! the lock is read back every few seconds, by a read that the leader confirms with the others.
//!
//! What cannot be written holds nothing: that tags, tokens or leftovers cannot be changed is seen in what
//! is read, so whatever is decided on that is as safe as before. The fleet that it is about waits and
//! says so, and no other does; to hold would also keep those from going back that still can.

use std::{collections::BTreeMap, time::Duration};

use super::faults::{FAILING_MAX, Fault, FaultKind};

/// Life of the coordinator's session without a renewal. Consul ends it between one and two of these
/// after the last one.
pub(super) const SESSION_TTL: Duration = Duration::from_secs(15);
/// Longest age of the last sign that the lock is ours: the session's life less a request that is on
/// its way (`timeout` is 10 s at most, and a switch that was begun is guarded by the session itself).
pub(super) const SIGN_MAX: Duration = Duration::from_secs(10);
/// Longest wait of one query of a service. What it says counts for 30 s (`GOSSIP_FRESH` of the planner),
/// and Consul waits up to a sixteenth longer: so there is a new answer, be it the same, before that. An
/// idle name is asked for three times a minute.
pub(super) const WAIT: Duration = Duration::from_secs(20);
/// Three waits: an answer that is older than this is none.
pub(super) const ANSWER_MAX: Duration = WAIT.saturating_mul(3);
/// Whether the environment's lock is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lock {
    /// It is, as of the last sign.
    Ours,
    /// It is not, or not yet, for this reason.
    NotOurs(String),
}

/// What is known of one watched name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NameHealth {
    /// Age of its newest answer; none before the first.
    pub(super) age: Option<Duration>,
    /// How long an answer has waited to be looked at.
    pub(super) waits: Option<Duration>,
    /// Why the newest query failed, if it did.
    pub(super) fault: Option<Fault>,
}

/// All that it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signs {
    pub(super) lock: Lock,
    /// Age of the last sign that the lock is ours.
    pub(super) sign_age: Option<Duration>,
    /// Why there was none since.
    pub(super) fault: Option<Fault>,
    /// Whether every name was read once in this run.
    pub(super) complete: bool,
    /// Those that somebody on record can be found under. Of others nothing is decided.
    pub(super) names: BTreeMap<String, NameHealth>,
}

/// Why nothing may be decided now, with what to do about it; one sentence.
pub(super) fn holds(signs: &Signs) -> Option<String> {
    if let Lock::NotOurs(why) = &signs.lock {
        let fault = signs.fault.as_ref();
        let more = fault.map_or_else(String::new, |fault| format!(": {}", fault.sentence()));
        return Some(format!("{why}{more}"));
    }
    if let Some(fault) = signs.fault.as_ref().filter(|fault| fault.counts()) {
        return Some(fault.sentence());
    }
    if signs.sign_age.is_none_or(|age| age > SIGN_MAX) {
        let since = signs.sign_age.unwrap_or_default().as_secs();
        let fault = signs.fault.as_ref();
        let why = fault.map_or_else(
            || FaultKind::Other.advice().to_owned(),
            |fault| fault.sentence(),
        );
        return Some(format!(
            "Consul has not confirmed the environment's lock for {since} s: {why}"
        ));
    }
    let faults = || signs.names.values().filter_map(|name| name.fault.as_ref());
    if let Some(fault) = faults().find(|fault| fault.counts()) {
        return Some(fault.sentence());
    }
    if !signs.complete {
        let unread = |(_, health): &(&String, &NameHealth)| health.age.is_none();
        let unread: Vec<_> = signs.names.iter().filter(unread).collect();
        let fault = unread.iter().find_map(|(_, health)| health.fault.as_ref());
        let why = fault.map_or_else(String::new, |fault| format!(": {}", fault.sentence()));
        // Before the first look nobody knows which names there are.
        let missing = match signs.names.len() {
            0 => String::new(),
            all => format!(", {} of {all} names are missing", unread.len()),
        };
        return Some(format!(
            "what is registered with Consul was not read yet{missing}{why}"
        ));
    }
    let old = |(_, health): &(&String, &NameHealth)| health.age.is_some_and(|age| age > ANSWER_MAX);
    if let Some((name, health)) = signs.names.iter().find(old) {
        return Some(format!(
            "the last answer about service {name} is {} s old: {}",
            health.age.unwrap_or_default().as_secs(),
            FaultKind::Other.advice()
        ));
    }
    // What is written takes its time, and what was decided on before is not so any more.
    let waits = |(name, health): (_, &NameHealth)| Some((name, health.waits?));
    let mut waiting = signs.names.iter().filter_map(waits);
    let (name, waits) = waiting.find(|(_, waits)| *waits > FAILING_MAX)?;
    Some(format!(
        "what Consul says of service {name} has not been looked at for {} s, because what is written to Consul takes so long: look at Consul's servers and their disks",
        waits.as_secs(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Signs {
        let read = NameHealth {
            // A query that waits has said nothing for as long as it waits.
            age: Some(WAIT),
            waits: None,
            fault: None,
        };
        Signs {
            lock: Lock::Ours,
            sign_age: Some(Duration::from_secs(5)),
            fault: None,
            complete: true,
            names: BTreeMap::from([("web".to_owned(), read)]),
        }
    }

    fn fault(kind: FaultKind, secs: u64) -> Fault {
        Fault {
            text: "could not read it".to_owned(),
            kind,
            lasts: Duration::from_secs(secs),
        }
    }

    #[test]
    fn a_query_that_waits_is_as_new_as_the_lock() {
        assert_eq!(holds(&well()), None);
        let mut old = well();
        old.names.get_mut("web").unwrap().age = Some(ANSWER_MAX + Duration::from_secs(1));
        assert!(holds(&old).unwrap().contains("service web is 61 s old"));
        let mut silent = well();
        silent.sign_age = Some(Duration::from_secs(11));
        let why = holds(&silent).unwrap();
        assert!(
            why.contains("for 11 s") && why.contains("consul.address"),
            "{why}"
        );
    }

    #[test]
    fn an_answer_that_nobody_looks_at_holds_once_that_lasts() {
        let mut signs = well();
        let mut wait = |secs| {
            signs.names.get_mut("web").unwrap().waits = Some(Duration::from_secs(secs));
            holds(&signs)
        };
        assert_eq!(wait(15), None);
        assert!(
            wait(16)
                .unwrap()
                .contains("service web has not been looked at for 16 s")
        );
    }

    #[test]
    fn without_the_lock_nothing_but_why_is_said() {
        let mut signs = well();
        signs.lock = Lock::NotOurs("somebody else has it".to_owned());
        signs.complete = false;
        assert_eq!(holds(&signs).unwrap(), "somebody else has it");
        signs.fault = Some(fault(FaultKind::Other, 1));
        let why = holds(&signs).unwrap();
        assert!(
            why.starts_with("somebody else has it: could not read it; look"),
            "{why}"
        );
    }

    #[test]
    fn no_leader_and_a_denial_hold_at_once_and_passing_trouble_later() {
        for (kind, holds_at_once, advice) in [
            (FaultKind::NoLeader, true, "raft list-peers"),
            (FaultKind::Lacks, true, "calvin consul policies coordinator"),
            (FaultKind::Denied, true, "consul.token_file"),
            (FaultKind::Limited, false, "http_max_conns_per_client"),
            (FaultKind::Other, false, "consul.address"),
        ] {
            for of_lock in [true, false] {
                let with = |secs| {
                    let mut signs = well();
                    let fault = Some(fault(kind, secs));
                    if of_lock {
                        signs.fault = fault;
                    } else {
                        signs.names.get_mut("web").unwrap().fault = fault;
                    }
                    holds(&signs)
                };
                assert_eq!(with(1).is_some(), holds_at_once, "{kind:?}");
                let why = with(16).unwrap();
                assert!(
                    why.contains("could not read it") && why.contains(advice),
                    "{why}"
                );
            }
        }
    }

    #[test]
    fn before_the_first_whole_read_nothing_is_decided() {
        let mut signs = well();
        signs.complete = false;
        signs.names.insert("new".to_owned(), NameHealth::default());
        let why = holds(&signs).unwrap();
        assert!(why.contains("1 of 2 names"), "{why}");
        let mut first = signs.clone();
        first.names.clear();
        assert_eq!(
            holds(&first).unwrap(),
            "what is registered with Consul was not read yet"
        );
        signs.names.get_mut("new").unwrap().fault = Some(fault(FaultKind::Other, 1));
        let why = holds(&signs).unwrap();
        assert!(why.contains("could not read it"), "{why}");
    }
}
