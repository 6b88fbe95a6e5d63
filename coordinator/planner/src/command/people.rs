//! Orders of persons about what may happen: which file takes which.

use super::{Command, CommandOutcome, Desk, Refusal, freeze, gate, keep};

pub(super) fn order(desk: Desk<'_>, order: &Command) -> Result<CommandOutcome, Refusal> {
    match order {
        Command::Pause { fleet, reason } => gate::pause(desk, fleet, reason),
        Command::Resume { fleet } => gate::resume(desk, fleet),
        Command::Promote { fleet, reason } => gate::promote(desk, fleet, reason),
        Command::Approve {
            fleet,
            gate,
            reason,
        } => gate::approve(desk, fleet, *gate, reason),
        Command::Freeze {
            fleet,
            scope,
            until_wall_ms,
            reason,
        } => {
            let asked = freeze::Asked {
                scope: *scope,
                until_wall_ms: *until_wall_ms,
                reason,
            };
            freeze::freeze(desk, fleet.as_ref(), asked)
        }
        Command::Unfreeze { fleet } => freeze::unfreeze(desk, fleet.as_ref()),
        Command::Protect { instance, reason } => keep::protect(desk, instance, reason),
        Command::Unprotect { instance } => keep::unprotect(desk, instance),
        Command::Veto { image, reason } => keep::veto(desk, image, reason),
        Command::Unveto { image } => keep::unveto(desk, image),
        Command::Pin { fleet, reason } => keep::pin(desk, fleet, reason),
        Command::Unpin { fleet } => keep::unpin(desk, fleet),
        Command::LoseZone { .. }
        | Command::FindZone { .. }
        | Command::ResumeRepairs { .. }
        | Command::ApplyFleet { .. }
        | Command::Scale { .. }
        | Command::DeleteFleet { .. }
        | Command::StartRollout { .. }
        | Command::Abort { .. }
        | Command::Rollback { .. }
        | Command::Undo { .. }
        | Command::ReplaceInstance { .. } => Err(Refusal::NotNow {
            rule: None,
            what: format!("could not take the order of {}", desk.who),
            why: format!("this version does not know it yet: {order:?}"),
            hint: "use a newer version".to_owned(),
        }),
    }
}
