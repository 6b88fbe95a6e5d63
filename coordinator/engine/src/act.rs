//! Carries out what was committed. Every action is idempotent and none is waited for or retried:
//! the next pass plans it again until it is seen to be done.

use std::collections::BTreeMap;

use calvin_model::{CatalogueRole, FleetName, InstanceId};
use calvin_planner::{Action, Instance, Plan};

use crate::{
    decide::Decide,
    engine::Engine,
    entries::{NoEntries, admitted, catalogue_entries, left_out_by_mistake, probe_targets},
    permit::permit,
    ports::{CreateOrder, Ports},
    view::Notice,
};

/// What the ports were told last, so that they are told again only what is new.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The committed state, by version, that agents are admitted by.
    admitted: u64,
    /// The committed state, addresses and manifests, by version, that probes are aimed by.
    targets: (u64, u64, u64),
    /// Hidden entries; `None` until they were told once.
    hidden: Option<Vec<InstanceId>>,
    /// The catalogue was told every fleet once, so that from now on a fleet whose entries must wait
    /// does not hold back the others.
    catalogue: bool,
    /// The actions of the last pass: one that repeats is not logged again.
    actions: BTreeMap<FleetName, Vec<Action>>,
}

/// What became of one action.
enum Done {
    /// It was handed to its port.
    Yes,
    /// It waits for something that the next looks will show.
    NotYet,
    /// A person must look at this.
    Noticed(Notice),
}

impl<P: Ports, D: Decide> Engine<P, D> {
    /// Carries out a plan whose changes are committed. Says how many actions were handed over.
    pub(crate) fn act(
        &mut self,
        plan: &Plan,
        ghosts: &[InstanceId],
        notices: &mut Vec<Notice>,
    ) -> usize {
        self.tell_who_there_is();
        self.hide(plan);
        let mut count = 0;
        let mut actions = BTreeMap::new();
        let mut roles_missing = false;
        for (fleet, planned) in &plan.fleets {
            roles_missing |= planned.names_wait;
            let before = self.told.actions.remove(fleet).unwrap_or_default();
            for action in &planned.actions {
                if !before.contains(action) {
                    tracing::info!(%fleet, "{action}");
                }
                let done = self.carry_out(fleet, action);
                let is_roles = matches!(action, Action::SetRoles { .. });
                roles_missing |= is_roles && !matches!(done, Done::Yes);
                match done {
                    Done::Yes => count += 1,
                    Done::NotYet => {}
                    Done::Noticed(notice) => notices.push(notice),
                }
            }
            if !planned.actions.is_empty() {
                actions.insert(fleet.clone(), planned.actions.clone());
            }
        }
        self.told.actions = actions;
        for ghost in ghosts {
            tracing::info!(instance = %ghost, "removing the entry of an instance that is gone");
            self.ports.catalogue().remove_ghost(ghost);
        }
        self.told.catalogue |= !roles_missing && self.every_provider_listed();
        self.show_names(notices);
        count
    }

    /// Lets the catalogue show clients what it was told, once it was told every fleet.
    pub(crate) fn show_names(&mut self, notices: &mut Vec<Notice>) {
        if self.told.catalogue {
            let published = self.ports.catalogue().publish();
            notices.extend(published.err().map(Notice::NotPublished));
        }
    }

    /// Whether every provider of a fleet that clients find has listed its machines in this run.
    /// Before, addresses are unknown and the planner sets no roles: a snapshot would lack what the
    /// last run published. A provider that no fleet uses may be away.
    fn every_provider_listed(&self) -> bool {
        let listed = &self.observed.provider_lists;
        let is_found = |instance: &Instance| match instance.catalogue {
            CatalogueRole::Absent => false,
            CatalogueRole::Standby | CatalogueRole::Entered | CatalogueRole::Active => true,
        };
        self.fleets.values().all(|fleet| {
            !fleet.instances.values().any(is_found) || listed.contains_key(&fleet.spec.provider)
        })
    }

    /// Admits agents and aims probes by the committed state, when that changed. Before any
    /// machine is asked for: its agent must not be refused.
    fn tell_who_there_is(&mut self) {
        if self.told.admitted != self.fleets_version {
            self.told.admitted = self.fleets_version;
            self.addresses.keep_only(&self.fleets);
            self.manifests.refresh(&self.fleets, self.ports.images());
            let admitted = admitted(&self.fleets);
            self.ports.agents().admit(&admitted);
        } else if self.manifests.incomplete() {
            self.manifests.refresh(&self.fleets, self.ports.images());
        }
        let targets = (
            self.fleets_version,
            self.addresses.version,
            self.manifests.version,
        );
        if self.told.targets != targets {
            self.told.targets = targets;
            let targets = probe_targets(&self.fleets, &self.addresses, &self.manifests);
            self.ports.probe().watch(&targets);
        }
    }

    fn hide(&mut self, plan: &Plan) {
        let hidden: Vec<InstanceId> = plan
            .fleets
            .values()
            .flat_map(|fleet| fleet.hidden.iter().cloned())
            .collect();
        if self.told.hidden.as_ref() != Some(&hidden) {
            if !hidden.is_empty() || self.told.hidden.is_some() {
                tracing::info!("{}", hidden_words(&hidden));
            }
            self.ports.catalogue().set_visible(&hidden);
            self.told.hidden = Some(hidden);
        }
    }

    fn carry_out(&mut self, fleet: &FleetName, action: &Action) -> Done {
        if let Err(why) = permit(action, &self.fleets, fleet) {
            return Done::Noticed(Notice::Refused {
                what: action.to_string(),
                why,
            });
        }
        match action {
            Action::CreateMachine {
                instance,
                fleet,
                build,
                provider: name,
                zone,
            } => match self.ports.provider(name) {
                Some(provider) => {
                    provider.create(&CreateOrder {
                        instance: instance.clone(),
                        fleet: fleet.clone(),
                        image: build.image.clone(),
                        epoch: self.epoch.number,
                        zone: zone.clone(),
                    });
                    Done::Yes
                }
                None => no_provider(fleet, name),
            },
            Action::DeleteMachine {
                instance,
                provider: name,
                basis,
            } => match self.ports.provider(name) {
                Some(provider) => {
                    provider.delete(instance, basis);
                    Done::Yes
                }
                None => no_provider(fleet, name),
            },
            Action::SetWanted { instance, wanted } => {
                self.ports.agents().tell(instance, wanted);
                Done::Yes
            }
            Action::RevokeIdentity { instance } => {
                self.ports.agents().revoke(instance);
                Done::Yes
            }
            Action::SetRoles { fleet, roles } => self.set_roles(fleet, roles),
        }
    }

    fn set_roles(&mut self, name: &FleetName, roles: &BTreeMap<InstanceId, CatalogueRole>) -> Done {
        // `permit` found the fleet's record.
        let Some(fleet) = self.fleets.get(name) else {
            return Done::NotYet;
        };
        let left_out = left_out_by_mistake(fleet, &self.fleets, &self.observed, &self.addresses);
        if let Some(instance) = left_out {
            tracing::debug!(fleet = %name, %instance, "entries wait for a list that is not short");
            return Done::NotYet;
        }
        let entries = catalogue_entries(
            name,
            fleet,
            roles,
            &self.observed,
            &self.addresses,
            &self.manifests,
        );
        match entries {
            Ok(entries) => {
                self.ports.catalogue().set_roles(name, &entries);
                Done::Yes
            }
            Err(NoEntries::AddressUnknown(instance)) => {
                tracing::debug!(fleet = %name, %instance, "entries wait for the provider's first list");
                Done::NotYet
            }
            Err(NoEntries::NoManifest(image)) => Done::Noticed(Notice::NoManifest {
                fleet: name.clone(),
                image: image.to_string(),
            }),
        }
    }
}

fn no_provider(fleet: &FleetName, provider: &str) -> Done {
    Done::Noticed(Notice::NoProvider {
        fleet: fleet.clone(),
        provider: provider.to_owned(),
    })
}

/// Entries named in one line of the log; a store's worth of them would not be read.
const HIDDEN_NAMED: usize = 10;

fn hidden_words(hidden: &[InstanceId]) -> String {
    if hidden.is_empty() {
        return "clients may find every entry again".to_owned();
    }
    let named: Vec<&str> = hidden
        .iter()
        .take(HIDDEN_NAMED)
        .map(InstanceId::as_str)
        .collect();
    let rest = match hidden.len().saturating_sub(HIDDEN_NAMED) {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    format!(
        "clients do not find, because they do not serve: {}{rest}",
        named.join(", ")
    )
}
