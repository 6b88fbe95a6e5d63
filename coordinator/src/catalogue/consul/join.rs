//! Makes a token for each machine and hands it over with all that a machine needs to join; takes the
//! token back when the machine is gone.
//!
//! A token that must go is a debt: it is tried until it was read back as gone. Whatever a crash left
//! behind is found by its description. A token of a machine that has no record here and that gossip
//! says to be alive stays: it may be a machine that a person has to look at.

mod authority;
mod rights;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use calvin_consul::{
    Client, Consistency, Error, health::CheckStatus, health::SERF_HEALTH, policies,
};
use calvin_model::{ConsulJoin, EnvironmentName, InstanceId, Join, Secret};
use tokio::{sync::watch, time::Instant};

use self::{authority::Authority, rights::Right};
use super::{
    access::Told,
    census::{Known, Machines, census},
    ever::Ever,
    faults::About,
    rounds::Rounds,
    shared::Shared,
    tokens::{Wanted, instance_of, machines_policy},
};
use crate::{identity::Identity, images::ImageStore};

/// Between two lists of all tokens. It finds only what a crash left behind, and may be long: 10,000
/// tokens are 10 MB.
const LIST: Duration = Duration::from_secs(600);
/// The same while one that was found cannot be judged or taken back.
const LIST_SOON: Duration = Duration::from_secs(30);

/// Between two looks at the policy that all machines share: where it is gone, so may be the tokens.
const LOOK_AT_POLICY: Duration = Duration::from_secs(30);

/// Whether the datacenter has ACLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acl {
    /// It has: each machine gets a token.
    Tokens,
    /// It has none.
    Nothing,
}

/// What every machine is told alike.
#[derive(Debug, Clone)]
pub(super) struct Common {
    pub(super) environment: EnvironmentName,
    pub(super) domain: String,
    pub(super) servers: Vec<String>,
    pub(super) acl: Acl,
}

/// What it works with.
#[derive(Debug)]
pub(super) struct Joiner {
    pub(super) client: Client,
    pub(super) shared: Shared,
    pub(super) machines: Arc<dyn Machines>,
    pub(super) images: ImageStore,
    pub(super) identity: Identity,
    pub(super) rounds: Rounds,
    pub(super) told: watch::Receiver<Told>,
    pub(super) common: Common,
    pub(super) progress: Progress,
}

/// How far it is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// When the policy was seen to be as it should be.
    policy: Option<Instant>,
    /// Instances that have their token.
    have: BTreeSet<InstanceId>,
    /// Those whose token has the right to their fleet's lock.
    rights: BTreeMap<InstanceId, Right>,
    /// Those whose token was lost, and that are told again how to join.
    lost: BTreeSet<InstanceId>,
    /// All that were on record in this run.
    ever: Ever,
    listed: Option<Instant>,
    /// When to list again.
    list_again: Duration,
    authority: Authority,
}

/// The instances that join.
type Joining = BTreeMap<InstanceId, Known>;

impl Progress {
    /// Takes what a list of all tokens has of those on record.
    fn found(&mut self, have: BTreeSet<InstanceId>) {
        let before = std::mem::replace(&mut self.have, have);
        self.lost = before.difference(&self.have).cloned().collect();
    }

    /// Whether an instance is told how to join. One whose token was lost is not in this round: in the next
    /// one that is news, and its agent hears all of it again.
    fn tells(&self, instance: &InstanceId, acl: Acl) -> bool {
        match acl {
            Acl::Nothing => true,
            Acl::Tokens => self.have.contains(instance) && !self.lost.contains(instance),
        }
    }

    /// Notes whose token must go: also while nothing can be written.
    fn owe(&mut self, known: &Joining, shared: &Shared) {
        let is_gone = |instance: &InstanceId| {
            let one = known.get(instance);
            one.is_none_or(|one| one.revoked)
        };
        for instance in self.have.extract_if(.., |id| is_gone(id)) {
            shared.owes(instance);
        }
        // Who is there again needs it.
        let mut state = shared.state();
        state.debts.retain(|instance, _| is_gone(instance));
    }
}

impl Joiner {
    /// Goes on until it is dropped.
    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                due = self.rounds.next() => if due.is_none() {
                    return;
                },
                changed = self.told.changed() => if changed.is_err() {
                    return;
                },
            }
            self.round().await;
        }
    }

    /// One look: makes what is missing, tells it, and takes back what must go.
    async fn round(&mut self) {
        let view = self.rounds.view();
        // Who recovers tells nobody anything, and does not know who is his.
        if view.recovery.is_some() {
            return;
        }
        let known: Joining = census(&view, &self.images)
            .into_values()
            .flatten()
            .filter(|(_, known)| known.joins())
            .collect();
        self.remember(&known);
        self.progress.owe(&known, &self.shared);
        if self.shared.guard().is_none() {
            // What is not tried does not fail.
            self.shared.keep_faults(|about| match about {
                About::Tokens | About::Token(..) | About::Debt(_) => false,
                About::Tags(_) | About::Nodes | About::Locks | About::Leftovers => true,
            });
            return;
        }
        match self.common.acl {
            Acl::Tokens => self.tokens(&known).await,
            Acl::Nothing => {}
        }
        self.progress.authority.look(&self.client).await;
        self.tell(&known);
    }

    fn remember(&mut self, known: &Joining) {
        let now = Instant::now();
        for (instance, one) in known {
            self.progress.ever.see(instance, &one.fleet, now);
        }
        if self.progress.ever.is_due(now) {
            let debts = self.shared.state().debts.clone();
            let have = &self.progress.have;
            let is_left = |id: &InstanceId| have.contains(id) || debts.contains_key(id);
            self.progress.ever.sweep(is_left, now);
        }
    }

    /// Those that are to have a token and have none, or not with the rights that it is to have.
    fn lacking(&self, known: &Joining) -> Vec<About> {
        let lacking = known.iter().filter(|(instance, one)| {
            let missing = !self.progress.have.contains(*instance);
            let lacks = missing || self.differs(instance, one);
            lacks && !one.retires && !one.revoked
        });
        lacking
            .map(|(instance, one)| About::Token(one.fleet.clone(), instance.clone()))
            .collect()
    }

    async fn tokens(&mut self, known: &Joining) {
        self.progress.lost.clear();
        if self.shared.take_suspicion() {
            self.progress.policy = None;
            self.progress.listed = None;
            self.progress.authority.doubt();
            self.doubt_rights();
        }
        match self.prepare(known).await {
            Ok(()) => {
                self.shared.works(&About::Tokens);
                self.make_missing(known).await;
            }
            Err(error) => {
                self.shared.failed(&About::Tokens, &error);
                let waits = |about: &About| match about {
                    About::Token(_, instance) => known
                        .get(instance)
                        .is_some_and(|one| !self.may_join(instance, one)),
                    About::Tokens
                    | About::Debt(_)
                    | About::Tags(_)
                    | About::Nodes
                    | About::Locks
                    | About::Leftovers => false,
                };
                for about in self.lacking(known).iter().filter(|about| waits(about)) {
                    self.shared.failed(about, &error);
                }
            }
        }
        let lacking: BTreeSet<About> = self.lacking(known).into_iter().collect();
        self.shared.keep_faults(|about| match about {
            About::Token(..) => lacking.contains(about),
            About::Tokens
            | About::Debt(_)
            | About::Tags(_)
            | About::Nodes
            | About::Locks
            | About::Leftovers => true,
        });
        self.pay().await;
    }

    /// What comes before tokens: their policy, and which of them are there.
    async fn prepare(&mut self, known: &Joining) -> Result<(), Error> {
        let due = |at: Instant| at.elapsed() >= LOOK_AT_POLICY;
        if self.progress.policy.is_none_or(due) {
            let lost = self.make_policy().await? && self.progress.listed.is_some();
            self.progress.policy = Some(Instant::now());
            if lost {
                tracing::warn!(
                    "the policy of machines was gone from Consul: looking for their tokens"
                );
                self.progress.listed = None;
            }
        }
        let due = |at: Instant| at.elapsed() >= self.progress.list_again;
        if self.progress.listed.is_none_or(due) {
            self.list(known).await?;
        }
        Ok(())
    }

    /// Makes the tokens that are missing. One that cannot be made holds up no other, unless the reason is
    /// the same for all.
    async fn make_missing(&mut self, known: &Joining) {
        let lacking = self.lacking(known);
        for (place, about) in lacking.iter().enumerate() {
            let About::Token(_, instance) = about else {
                continue;
            };
            let Some(one) = known.get(instance) else {
                continue;
            };
            // A round of many takes a while, and the lock may be another's by now.
            if self.shared.guard().is_none() {
                return;
            }
            match self.settle(instance, one).await {
                Ok(()) => self.shared.works(about),
                Err(error) => {
                    // Servers that came back empty, or somebody by hand, may have taken more than this away.
                    self.progress.policy = None;
                    self.progress.list_again = LIST_SOON;
                    self.doubt_right(instance);
                    if error.is_denied() || error.is_transient() {
                        self.doubt_rights();
                        for about in &lacking[place..] {
                            self.shared.failed(about, &error);
                        }
                        return;
                    }
                    self.shared.failed(about, &error);
                }
            }
        }
    }

    /// The policy that all machines share, as this version writes it. Says whether there was none.
    async fn make_policy(&self) -> Result<bool, Error> {
        let environment = &self.common.environment;
        let about = format!("machines of the calvin environment {environment}");
        self.put_policy(&machines_policy(environment), &about, &policies::machines())
            .await
    }

    /// Makes a policy, or gives it these rules. Says whether there was none.
    async fn put_policy(&self, name: &str, about: &str, rules: &str) -> Result<bool, Error> {
        match self.client.policy(name).await? {
            None => {
                self.client.policy_create(name, about, rules).await?;
                return Ok(true);
            }
            Some(policy) if policy.rules != rules => {
                self.client.policy_update(&policy, rules).await?;
            }
            Some(_) => {}
        }
        Ok(false)
    }

    /// Finds the tokens that are there, and among them those of nobody.
    async fn list(&mut self, known: &Joining) -> Result<(), Error> {
        let tokens = self.client.tokens().await?;
        let mut again = LIST;
        let mut have = BTreeSet::new();
        for token in &tokens {
            let Some(instance) = instance_of(&self.common.environment, token) else {
                continue;
            };
            // One that somebody else made with our words is not ours to take back.
            if self.identity.consul_token(&instance).accessor != token.accessor {
                continue;
            }
            self.note_right(&instance, token);
            if known.get(&instance).is_some_and(|one| !one.revoked) {
                have.insert(instance);
            } else if known.contains_key(&instance)
                || self.progress.ever.contains(&instance)
                || !self.lives(&instance).await?
            {
                self.shared.owes(instance);
            } else {
                tracing::debug!(%instance, "a token of a machine without a record stays, because the machine lives");
                again = LIST_SOON;
            }
        }
        self.progress.found(have);
        if !self.progress.lost.is_empty() {
            tracing::warn!(
                tokens = self.progress.lost.len(),
                "tokens of machines were gone from Consul: they are made again"
            );
        }
        self.progress.listed = Some(Instant::now());
        self.progress.list_again = again;
        Ok(())
    }

    /// Whether gossip says that its machine lives.
    async fn lives(&self, instance: &InstanceId) -> Result<bool, Error> {
        let node = instance.as_str();
        let checks = self
            .client
            .node_checks(node, Consistency::Consistent)
            .await?;
        let passes = checks
            .value
            .iter()
            .any(|check| check.id == SERF_HEALTH && check.status == CheckStatus::Passing);
        Ok(passes)
    }

    /// Makes what an instance lacks: its token, and the rights that it is to have.
    async fn settle(&mut self, instance: &InstanceId, known: &Known) -> Result<(), Error> {
        if !self.progress.have.contains(instance) {
            self.make(instance, known).await?;
        }
        if known.exclusive {
            self.give_right(instance, known).await
        } else {
            self.take_right(instance).await
        }
    }

    async fn make(&mut self, instance: &InstanceId, known: &Known) -> Result<(), Error> {
        let token = self.identity.consul_token(instance);
        let wanted = Wanted {
            environment: &self.common.environment,
            instance,
            services: known.services(),
            token: &token,
        };
        match self.client.token_create(&wanted.request()).await {
            Ok(_) => {}
            // Perhaps it is there already: then it is the same one.
            Err(error) => match self.client.token(&token.accessor).await {
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Err(error),
            },
        }
        tracing::info!(%instance, accessor = token.accessor, "made the Consul token of a machine");
        self.shared.state().debts.remove(instance);
        self.progress.have.insert(instance.clone());
        Ok(())
    }

    /// Takes tokens back, each until it was read back as gone.
    async fn pay(&mut self) {
        let debts: Vec<InstanceId> = self.shared.state().debts.keys().cloned().collect();
        for (place, instance) in debts.iter().enumerate() {
            if self.shared.guard().is_none() {
                break;
            }
            let Err(error) = self.pay_one(instance).await else {
                continue;
            };
            if error.is_denied() || error.is_transient() {
                for instance in &debts[place..] {
                    self.shared.failed(&About::Debt(instance.clone()), &error);
                }
                break;
            }
            self.shared.failed(&About::Debt(instance.clone()), &error);
        }
        let debts = self.shared.state().debts.clone();
        self.shared.keep_faults(|about| match about {
            About::Debt(instance) => debts.contains_key(instance),
            About::Tokens
            | About::Token(..)
            | About::Tags(_)
            | About::Nodes
            | About::Locks
            | About::Leftovers => true,
        });
    }

    async fn pay_one(&mut self, instance: &InstanceId) -> Result<(), Error> {
        self.take_right(instance).await?;
        let accessor = self.identity.consul_token(instance).accessor;
        self.client.token_revoke(&accessor).await?;
        if self.client.token(&accessor).await?.is_none() {
            tracing::info!(%instance, accessor, "revoked the Consul token of a machine, and read it back as gone");
            self.shared.state().debts.remove(instance);
            let fleet = self.progress.ever.fleet(instance);
            let text = format!(
                "the Consul token {accessor} of {instance} was revoked, and read back as gone"
            );
            self.shared.did(fleet, instance.clone(), text);
        }
        Ok(())
    }

    /// Tells every machine that may join how to.
    fn tell(&self, known: &Joining) {
        let Some(trust_domain) = self.progress.authority.told() else {
            return;
        };
        let told = self.told.borrow().clone();
        let mut joins = BTreeMap::new();
        for (instance, one) in known {
            if one.revoked || !self.progress.tells(instance, self.common.acl) {
                continue;
            }
            let token = match self.common.acl {
                Acl::Nothing => None,
                Acl::Tokens if self.may_join(instance, one) => {
                    Some(self.identity.consul_token(instance).secret)
                }
                Acl::Tokens => continue,
            };
            let join = Arc::new(self.join(instance, token, &told, trust_domain));
            joins.insert(instance.clone(), join);
        }
        self.machines.set_joins(joins);
    }

    fn join(
        &self,
        instance: &InstanceId,
        token: Option<Secret>,
        told: &Told,
        trust_domain: &str,
    ) -> Join {
        Join {
            consul: Some(ConsulJoin {
                datacenter: self.common.environment.clone(),
                domain: self.common.domain.clone(),
                servers: self.common.servers.clone(),
                gossip_key: told.gossip_key.clone(),
                ca_pem: told.ca_pem.clone(),
                node: instance.to_string(),
                token,
                trust_domain: trust_domain.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
