//! Makes a token for each machine and hands it over with all that a machine needs to join; takes the
//! token back when the machine is gone.
//!
//! A token that must go is a debt: it is tried until it was read back as gone. Whatever a crash left
//! behind is found by its description. A token of a machine that has no record here and that gossip
//! says to be alive stays: it may be a machine that a person has to look at.

mod authority;
mod listing;
mod rights;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use calvin_consul::{Client, Error, policies};
use calvin_model::{ConsulJoin, EnvironmentName, InstanceId, Join, Secret};
use tokio::{sync::watch, time::Instant};

use self::{authority::Authority, listing::Listing, rights::Right};
use super::{
    access::Told,
    census::{Known, Machines, census},
    ever::Ever,
    faults::About,
    rounds::Rounds,
    shared::Shared,
    tokens::{Wanted, machines_policy},
};
use crate::{identity::Identity, images::ImageStore};

/// Between two looks at the policy that all machines share: where somebody deletes it, no token has it any
/// more. Six requests a minute for the whole environment.
const LOOK_AT_POLICY: Duration = Duration::from_secs(10);

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
    /// Its id, once it was read: tokens have a policy by that, and one of the same name is another one.
    policy_id: Option<String>,
    /// Instances that have their token.
    have: BTreeSet<InstanceId>,
    /// Those whose token does not have the policy of all machines.
    bare: BTreeSet<InstanceId>,
    /// The rights of tokens to their fleet's lock.
    rights: BTreeMap<InstanceId, Right>,
    /// Those whose token was lost, and that are told again how to join.
    lost: BTreeSet<InstanceId>,
    /// All that were on record in this run.
    ever: Ever,
    listing: Listing,
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
            let bare = self.progress.bare.contains(*instance);
            let lacks = missing || bare || self.differs(instance, one);
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
            self.progress.listing.at_once();
            self.progress.authority.doubt();
            self.doubt_rights();
        }
        match self.look_at_policy().await {
            Ok(()) => {
                self.look_at_list(known).await;
                self.look_at_right(known).await;
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

    /// What comes before tokens: the policy that all machines share. One that was deleted took itself out of
    /// every token.
    async fn look_at_policy(&mut self) -> Result<(), Error> {
        let due = |at: Instant| at.elapsed() >= LOOK_AT_POLICY;
        if !self.progress.policy.is_none_or(due) {
            return Ok(());
        }
        let name = machines_policy(&self.common.environment);
        let found = match self.make_policy().await? {
            Some(id) => Some(id),
            None => {
                self.doubt_tokens();
                self.client.policy(&name).await?.map(|policy| policy.id)
            }
        };
        let before = std::mem::replace(&mut self.progress.policy_id, found);
        if before.is_some() && before != self.progress.policy_id {
            self.doubt_tokens();
        }
        self.progress.policy = Some(Instant::now());
        Ok(())
    }

    /// Another policy of machines is in none of the tokens that had the one before.
    fn doubt_tokens(&mut self) {
        if self.progress.listing.had() {
            tracing::warn!("the policy of machines was gone from Consul: looking at their tokens");
            self.progress.listing.at_once();
        }
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
                    self.progress.listing.soon(Instant::now());
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

    /// The policy that all machines share, as this version writes it. Its id; none where there was none.
    async fn make_policy(&self) -> Result<Option<String>, Error> {
        let environment = &self.common.environment;
        let about = format!("machines of the calvin environment {environment}");
        self.put_policy(&machines_policy(environment), &about, &policies::machines())
            .await
    }

    /// Makes a policy, or gives it these rules. Its id; none where there was none.
    async fn put_policy(
        &self,
        name: &str,
        about: &str,
        rules: &str,
    ) -> Result<Option<String>, Error> {
        let Some(policy) = self.client.policy(name).await? else {
            self.client.policy_create(name, about, rules).await?;
            return Ok(None);
        };
        if policy.rules != rules {
            self.client.policy_update(&policy, rules).await?;
        }
        Ok(Some(policy.id))
    }

    /// Makes what an instance lacks: its token, and the rights that it is to have.
    async fn settle(&mut self, instance: &InstanceId, known: &Known) -> Result<(), Error> {
        if !self.progress.have.contains(instance) {
            self.make(instance, known).await?;
        }
        if known.exclusive {
            return self.give_right(instance, known).await;
        }
        self.take_right(instance).await?;
        if self.progress.bare.contains(instance) {
            self.give_policies(instance, known, None).await?;
        }
        Ok(())
    }

    async fn make(&mut self, instance: &InstanceId, known: &Known) -> Result<(), Error> {
        let token = self.identity.consul_token(instance);
        let wanted = Wanted {
            environment: &self.common.environment,
            instance,
            services: known.services(),
            token: &token,
        };
        // While no list has said who has one, an earlier run may have made it.
        if !self.progress.listing.had()
            && let Some(there) = self.client.token(&token.accessor).await?
        {
            self.note(instance, &there);
            self.progress.have.insert(instance.clone());
            return Ok(());
        }
        match self.client.token_create(&wanted.request()).await {
            Ok(made) => self.note(instance, &made.info),
            // Perhaps it is there already: then it is the same one.
            Err(error) => match self.client.token(&token.accessor).await {
                Ok(Some(there)) => self.note(instance, &there),
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
