//! Whether an action may be carried out: what must be committed before it.
//!
//! The planner never plans an action that is refused here. The check is made all the same, on
//! another path than the planner's, because a deleted machine does not come back.

use calvin_planner::{Action, FleetState, Instance, Life};
use std::collections::BTreeMap;

use calvin_model::{FleetName, InstanceId};

/// Says whether `action` rests on the committed state, or which precondition it lacks.
pub(crate) fn permit(
    action: &Action,
    fleets: &BTreeMap<FleetName, FleetState>,
    fleet: &FleetName,
) -> Result<(), &'static str> {
    let Some(state) = fleets.get(fleet) else {
        return Err("its fleet has no record");
    };
    match action {
        Action::CreateMachine {
            instance, build, ..
        } => {
            let record = record(state, instance)?;
            match record.life {
                Life::Making | Life::Up | Life::Draining(_) => {}
                Life::Retiring(_) => return Err("the instance is being removed"),
            }
            if record.build != *build {
                return Err("the instance is committed with another image");
            }
        }
        Action::SetWanted { instance, wanted } => {
            if record(state, instance)?.wanted != *wanted {
                return Err("another wanted state is committed");
            }
        }
        Action::SetRoles { roles, .. } => {
            for (instance, role) in roles {
                if record(state, instance)?.catalogue != *role {
                    return Err("other catalogue roles are committed");
                }
            }
        }
        Action::RevokeIdentity { instance } => match record(state, instance)?.life {
            Life::Retiring(_) => {}
            Life::Making | Life::Up | Life::Draining(_) => {
                return Err("its removal is not committed");
            }
        },
        Action::DeleteMachine {
            instance, basis, ..
        } => match &record(state, instance)?.life {
            Life::Retiring(committed) if committed == basis => {}
            Life::Retiring(_) => return Err("its removal is committed on another basis"),
            Life::Making | Life::Up | Life::Draining(_) => {
                return Err("its removal is not committed");
            }
        },
    }
    Ok(())
}

fn record<'a>(fleet: &'a FleetState, instance: &InstanceId) -> Result<&'a Instance, &'static str> {
    fleet
        .instances
        .get(instance)
        .ok_or("the instance has no record")
}
