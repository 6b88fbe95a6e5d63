//! Reads what is registered, does what the plan says, and reads it back.

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use calvin_consul::{
    Client, Consistency, Error, Token, agent::LocalVersion, catalog::CatalogService, health::Check,
    registered,
};
use calvin_model::{CatalogueRole, Registration};
use tokio::time::Instant;
use tracing::{debug, info};

use super::{
    Machine,
    entry::TTL,
    own::Own,
    plan::{Before, Facts, Look, Operation, Plan, Refresh, Renew, Services, Step, plan},
};
use crate::fault::chain;

/// Rounds of reading and doing in one turn: enter needs two (register, then leave the old name), and
/// a last one finds nothing to do.
const ROUNDS_MAX: usize = 4;
/// The agent's word is said again after this: four times within the time that it holds.
const SAY_AGAIN: Duration = Duration::from_secs(TTL.as_secs() / 4);
/// Pause where a request that should have waited was answered at once, with nothing new: without it
/// turns and requests would follow each other as fast as the client answers.
const AT_ONCE: Duration = Duration::from_secs(5);

/// What a turn has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Synced {
    /// The role in which all services are registered.
    pub(super) registered: CatalogueRole,
    /// Whether that is what was told.
    pub(super) step: Step,
    /// What the servers do not show.
    pub(super) missing: Option<String>,
}

/// The registration at one Consul client.
#[derive(Debug)]
pub(super) struct Sync {
    machine: Arc<Machine>,
    client: Client,
    before: Before,
    renew: Renew,
    /// When the agent's word was said to all services last.
    said: Option<Instant>,
    /// What was read last.
    read: Option<Local>,
    /// The version of the service that is watched.
    version: Option<(String, LocalVersion)>,
}

/// What the client has.
#[derive(Debug)]
struct Local {
    services: Services,
    checks: BTreeMap<String, Check>,
}

impl Sync {
    /// With nothing known of the client yet.
    pub(super) fn new(machine: Arc<Machine>, client: Client) -> Self {
        Self {
            machine,
            client,
            before: Before::Never,
            // An agent before this one may have had another token.
            renew: Renew::Everything,
            said: None,
            read: None,
            version: None,
        }
    }

    /// The client that is asked.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Goes on with another token.
    pub(super) fn set_token(&mut self, token: Option<Token>) {
        self.client.set_token(token);
        self.renew = Renew::Everything;
    }

    fn plan(
        &self,
        wanted: Registration,
        own: &Own,
        local: &Local,
        servers: Option<&Services>,
    ) -> Plan {
        let machine = &self.machine;
        let holds = self.said.is_some_and(|said| said.elapsed() < SAY_AGAIN);
        plan(&Facts {
            manifest: &machine.manifest,
            provision: &machine.provision,
            boot: &machine.boot,
            address: machine.address,
            wanted,
            own,
            services: &local.services,
            checks: &local.checks,
            catalogue: servers,
            before: self.before,
            refresh: if holds { Refresh::NotYet } else { Refresh::Due },
            renew: self.renew,
        })
    }

    /// Whether there is anything to do, by what was read last.
    pub(super) fn concerns(&self, wanted: Registration, own: &Own) -> bool {
        self.read
            .as_ref()
            .is_none_or(|local| self.plan(wanted, own, local, None).is_due())
    }

    /// Brings the registration to what is wanted, as far as it goes now.
    pub(super) async fn turn(
        &mut self,
        node: &str,
        wanted: Registration,
        own: &Own,
    ) -> Result<Synced, Error> {
        let mut look = Look::Enough;
        let mut last = None;
        for _ in 0..ROUNDS_MAX {
            let local = self.local().await?;
            let mut plan = self.plan(wanted, own, &local, None);
            let asked = plan.look.max(look) == Look::Servers;
            if asked {
                match self.servers(node).await {
                    Ok(servers) => plan = self.plan(wanted, own, &local, Some(&servers)),
                    Err(error) => {
                        self.read = None;
                        // What does not depend on them is done all the same.
                        if let Err(also) = self.carry_out(plan.operations).await {
                            debug!(error = chain(&also), "nor does the client");
                        }
                        return Err(error);
                    }
                }
            }
            if plan.step == Step::In {
                self.before = Before::InThisBoot;
            }
            // What is done now makes it old.
            self.read = plan.operations.is_empty().then_some(local);
            let changes = |operation: &Operation| match operation {
                Operation::Register(_) | Operation::Deregister { .. } => true,
                Operation::Say { .. } => false,
            };
            let again = plan.operations.iter().any(changes);
            self.carry_out(plan.operations).await?;
            if asked {
                // Nothing was left out of it for what the servers might have.
                self.renew = Renew::Nothing;
            }
            let synced = last.insert(Synced {
                registered: plan.registered,
                step: plan.step,
                missing: plan.missing,
            });
            if !again {
                return Ok(synced.clone());
            }
            // Read back, from the servers too.
            synced.step = Step::Out;
            look = Look::Servers;
        }
        let nothing = || Synced {
            registered: CatalogueRole::Absent,
            step: Step::Out,
            missing: None,
        };
        Ok(last.unwrap_or_else(nothing))
    }

    async fn local(&self) -> Result<Local, Error> {
        Ok(Local {
            services: self.client.local_services().await?,
            checks: self.client.local_checks().await?,
        })
    }

    async fn servers(&self, node: &str) -> Result<Services, Error> {
        let read = self
            .client
            .node_services(node, Consistency::Consistent)
            .await?;
        let services = read.value.map(|(_, services)| services).unwrap_or_default();
        let by_id = |service: CatalogService| (service.id.clone(), service);
        Ok(services.into_iter().map(by_id).collect())
    }

    /// Does all of it, whatever fails: the word about one service does not wait for another one, nor
    /// for a disk that is full. Gives the first failure.
    async fn carry_out(&mut self, operations: Vec<Operation>) -> Result<(), Error> {
        let mut first = None;
        let mut said = false;
        // What could not be removed: registered over it, old states would go on as new ones.
        let mut stays = Vec::new();
        for operation in operations {
            let done = match operation {
                Operation::Register(service) if stays.contains(&service.id) => continue,
                Operation::Register(service) => {
                    info!(id = service.id, tags = ?service.tags, "registers");
                    // Its word is new, and may have been lost before.
                    self.said = None;
                    self.client.register(&service).await
                }
                Operation::Deregister { id } => {
                    info!(id, "deregisters");
                    let done = self.client.deregister(&id).await;
                    if done.is_err() {
                        stays.push(id);
                    }
                    done
                }
                Operation::Say {
                    check,
                    status,
                    output,
                } => {
                    debug!(check, ?status, output, "says");
                    said = true;
                    self.client.update_check(&check, status, &output).await
                }
            };
            if let Err(error) = done {
                debug!(error = chain(&error), "not done");
                first.get_or_insert(error);
            }
        }
        match first {
            // What was said may be in the client's memory only, and is said again.
            Some(error) => Err(error),
            None => {
                if said {
                    self.said = Some(Instant::now());
                }
                Ok(())
            }
        }
    }

    /// Waits until the client has another registration than was read, takes it out, or ends, or until
    /// `limit` is over. The client answers by itself, and one request waits all the time.
    pub(super) async fn changed(&mut self, role: CatalogueRole, limit: Duration) {
        let services = self.machine.manifest.services.first();
        let name = services.and_then(|service| registered::name(service, role));
        let Some(name) = name else {
            // Nothing is registered that could be lost.
            return tokio::time::sleep(limit).await;
        };
        let id = registered::id(&name, &self.machine.provision.instance);
        let deadline = Instant::now() + limit;
        loop {
            let known = self.version.clone().filter(|(of, _)| *of == id);
            let than = known.as_ref().map(|(_, version)| version);
            let left = deadline.saturating_duration_since(Instant::now());
            let asked = self.client.wait_for_local_service(&id, than, left).await;
            let found = asked.ok().flatten().map(|version| (id.clone(), version));
            self.version.clone_from(&found);
            match (known, found) {
                // It has been read; the next request waits.
                (None, Some(_)) => continue,
                (known, found) if known != found => return,
                // It is not there, and no turn has seen to it; or it is what it was before its time.
                _ => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            tokio::time::sleep(left.min(AT_ONCE)).await;
            if self.version.is_none() || left.is_zero() {
                return;
            }
        }
    }
}
