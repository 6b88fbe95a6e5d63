//! Says what waits for a budget or for room, and since when: who waits longest is served first.

use std::time::Duration;

use crate::{
    invariant::InvariantId,
    ledger::Shortage,
    pass::{Granted, Pass},
};

/// The least by which moments differ.
const JUST_BEHIND: Duration = Duration::from_millis(1);

pub(crate) fn step(pass: &mut Pass<'_>) {
    let short = std::mem::take(&mut pass.short);
    let before = pass.state().waiting_since;
    let since = match (short.is_empty(), before, pass.granted) {
        (true, _, _) => None,
        (false, Some(since), Granted::Nothing) => Some(since),
        (false, None, Granted::Nothing) => Some(pass.now),
        // Whoever got something goes behind those who got nothing at the same moment.
        (false, _, Granted::Some) => Some(pass.now.after(JUST_BEHIND)),
    };
    if since != before {
        pass.change().waiting_since = since;
    }
    for (shortage, number) in short {
        let waited = pass.now.since(since.unwrap_or(pass.now));
        let fact = shortage.to_string();
        match shortage {
            Shortage::InFlight { .. } => {
                pass.wait(format!("{number} more to be made: {fact}"), waited, None);
            }
            Shortage::Deletions { .. } => {
                pass.wait(format!("{number} more to be removed: {fact}"), waited, None);
            }
            Shortage::Provider { .. } | Shortage::Limit { .. } | Shortage::Zones => {
                let what = format!("{number} more are not made");
                pass.hold(InvariantId::NothingMadeWithoutRoom, what, fact);
            }
        }
    }
}
