//! Actions in words, for logs and for people.

use std::{collections::BTreeMap, fmt};

use calvin_model::CatalogueRole;

use super::Action;

/// Instances named in one sentence; the rest is counted: a fleet may have thousands.
const NAMED: usize = 5;

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateMachine {
                instance,
                build,
                provider,
                zone,
                ..
            } => {
                write!(
                    f,
                    "make the machine of {instance} from {} on {provider}",
                    build.image
                )?;
                match zone {
                    Some(zone) => write!(f, " in zone {zone}"),
                    None => Ok(()),
                }
            }
            Self::SetWanted { instance, wanted } => write!(
                f,
                "tell {instance} to be {} (generation {})",
                wanted.role, wanted.generation.0
            ),
            Self::SetRoles { fleet, roles } => {
                write!(f, "enter fleet {fleet} in the catalogue: ")?;
                let mut by_role: BTreeMap<CatalogueRole, Vec<&str>> = BTreeMap::new();
                for (id, role) in roles {
                    by_role.entry(*role).or_default().push(id.as_str());
                }
                if by_role.is_empty() {
                    return f.write_str("nobody");
                }
                for (number, (role, ids)) in by_role.iter().enumerate() {
                    let joint = if number == 0 { "" } else { "; " };
                    write!(f, "{joint}{role}: {}", named(ids))?;
                }
                Ok(())
            }
            Self::RevokeIdentity { instance } => {
                write!(f, "revoke the identity of {instance} and close its streams")
            }
            Self::DeleteMachine {
                instance,
                provider,
                basis,
            } => write!(f, "delete the machine of {instance} on {provider}: {basis}"),
        }
    }
}

fn named(ids: &[&str]) -> String {
    let shown = ids[..ids.len().min(NAMED)].join(", ");
    match ids.len().saturating_sub(NAMED) {
        0 => shown,
        rest => format!("{shown} and {rest} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_a_sentence() {
        let roles = [
            ("web-1", CatalogueRole::Active),
            ("web-2", CatalogueRole::Standby),
            ("web-3", CatalogueRole::Active),
        ];
        let action = Action::SetRoles {
            fleet: "web".parse().unwrap(),
            roles: roles
                .map(|(id, role)| (id.parse().unwrap(), role))
                .into_iter()
                .collect(),
        };
        assert_eq!(
            action.to_string(),
            "enter fleet web in the catalogue: standby: web-2; active: web-1, web-3"
        );
        let action = Action::RevokeIdentity {
            instance: "web-1".parse().unwrap(),
        };
        assert_eq!(
            action.to_string(),
            "revoke the identity of web-1 and close its streams"
        );
    }
}
