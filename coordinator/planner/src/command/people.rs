//! Orders of people about what may happen: pause, approve, freeze, protect, veto, pin, zones.

use super::{Command, CommandOutcome, Desk, Refusal};

pub(super) fn order(desk: Desk<'_>, order: &Command) -> Result<CommandOutcome, Refusal> {
    Err(Refusal::NotNow {
        what: format!("could not take the order of {}", desk.who),
        why: format!("this version does not know it yet: {order:?}"),
        hint: "use a newer version".to_owned(),
    })
}
