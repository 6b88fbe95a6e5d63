//! What the agent has to say of its own check, under each name that is registered.

use calvin_consul::{catalog::CatalogService, health::CheckStatus, registered};
use calvin_model::Role;

use super::{Facts, Operation, Refresh, is_of};
use crate::catalogue::{entry::Place, own::OwnWord};

/// Characters of the agent's word that are shown.
const OUTPUT_CHARACTERS: usize = 400;
/// What is said of an entry that an earlier boot has left.
const EARLIER_BOOT: &str = "the machine was started again, and is not registered anew yet";

/// What is to be said.
pub(super) struct Words {
    pub(super) says: Vec<Operation>,
    /// Whether something must not be said before the servers were asked.
    pub(super) waits: bool,
}

/// What is to be said under these names, which are registered.
pub(super) fn of<'a>(facts: &Facts<'_>, places: impl Iterator<Item = &'a Place<'a>>) -> Words {
    let mut words = Words {
        says: Vec::new(),
        waits: false,
    };
    for place in places {
        match say(facts, place) {
            Some(says) if is_mute(facts, place, &says) => words.waits = true,
            says => words.says.extend(says),
        }
    }
    words
}

/// What the agent has to say of its own check.
fn say(facts: &Facts<'_>, place: &Place<'_>) -> Option<Operation> {
    let id = registered::agent_check_id(&place.id);
    let found = facts.checks.get(&id)?;
    let entry = facts.services.get(&place.id)?;
    if !is_of(entry, facts.boot) {
        // The client may have kept what was said in that boot, and serves it.
        return (found.status != CheckStatus::Critical).then(|| Operation::Say {
            check: id,
            status: CheckStatus::Critical,
            output: EARLIER_BOOT.to_owned(),
        });
    }
    let (status, output) = match facts.own.word(facts.manifest) {
        OwnWord::Passing => (CheckStatus::Passing, String::new()),
        OwnWord::Failing(reason) => {
            let shown = reason.chars().take(OUTPUT_CHARACTERS).collect();
            (CheckStatus::Critical, shown)
        }
        OwnWord::Open => return None,
    };
    let known = found.status == status && found.output == output;
    if known && facts.refresh == Refresh::NotYet {
        return None;
    }
    Some(Operation::Say {
        check: id,
        status,
        output,
    })
}

/// Whether an exclusive one must not say now that all is well. The client sends the tags that it has along
/// with that: where those are of the active and may be another's by now, clients would find two.
fn is_mute(facts: &Facts<'_>, place: &Place<'_>, says: &Operation) -> bool {
    let Operation::Say {
        check,
        status: CheckStatus::Passing,
        ..
    } = says
    else {
        return false;
    };
    let is_news = facts
        .checks
        .get(check)
        .is_none_or(|check| check.status != CheckStatus::Passing);
    let is_active = |found: &CatalogService| found.tags.iter().any(|tag| tag == registered::ACTIVE);
    let ours = *check == registered::agent_check_id(&place.id) && place.is_own_name();
    if !facts.wanted.exclusive || !is_news || !ours {
        return false;
    }
    if !facts.services.get(&place.id).is_some_and(is_active) {
        return false;
    }
    match facts.catalogue.map(|services| services.get(&place.id)) {
        // With other tags than those it is registered again first, and that may fail.
        Some(Some(shown)) => !is_active(shown) || facts.own.role != Some(Role::Active),
        Some(None) | None => true,
    }
}
