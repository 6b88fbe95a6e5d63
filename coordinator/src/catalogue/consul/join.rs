//! Makes a token for each machine and hands it over with all that a machine needs to join; takes the
//! token back when the machine is gone.
//!
//! A token that must go is a debt: it is tried until it was read back as gone. Whatever a crash left
//! behind is found by its description. A token of a machine that has no record here and that gossip
//! says to be alive stays: it may be a machine that a person has to look at.

mod rights;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use calvin_consul::{
    Client, Consistency, Error, health::CheckStatus, health::SERF_HEALTH, policies,
};
use calvin_engine::View;
use calvin_model::{ConsulJoin, EnvironmentName, InstanceId, Join, Secret};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};

use self::rights::Right;
use super::{
    access::Told,
    census::{Known, Machines, census},
    shared::Shared,
    tokens::{Wanted, instance_of, machines_policy},
};
use crate::{identity::Identity, images::ImageStore};

/// Between two looks at who is there; who comes new is seen at once.
const LOOK: Duration = Duration::from_secs(1);
/// Between two lists of all tokens. It finds only what a crash left behind, and may be long: 10,000
/// tokens are 10 MB.
const LIST: Duration = Duration::from_secs(600);
/// The same while one that was found cannot be judged or taken back.
const LIST_SOON: Duration = Duration::from_secs(30);

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
    pub(super) views: watch::Receiver<Arc<View>>,
    pub(super) told: watch::Receiver<Told>,
    pub(super) common: Common,
    pub(super) progress: Progress,
}

/// How far it is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The policy is as it should be.
    policy: bool,
    /// Instances that have their token.
    have: BTreeSet<InstanceId>,
    /// Those whose token has the right to their fleet's lock.
    rights: BTreeMap<InstanceId, Right>,
    /// Tokens that must go.
    debts: BTreeSet<InstanceId>,
    /// All that were ever on record in this run.
    ever: BTreeSet<InstanceId>,
    listed: Option<Instant>,
    /// When to list again.
    list_again: Duration,
    /// What failed last; said once.
    said: Option<String>,
}

impl Joiner {
    /// Goes on until it is dropped.
    pub(super) async fn run(mut self) {
        let mut due = interval(LOOK);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut fleets = None;
        loop {
            tokio::select! {
                _ = due.tick() => {}
                changed = self.told.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                changed = self.views.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // There is a new picture several times a second, and seldom another instance.
                    let now = Arc::clone(&self.views.borrow_and_update().fleets);
                    let same = fleets.as_ref().is_some_and(|before| Arc::ptr_eq(before, &now));
                    if same {
                        continue;
                    }
                    fleets = Some(now);
                }
            }
            match self.round().await {
                Ok(()) => self.progress.said = None,
                Err(error) => self.say(&error),
            }
        }
    }

    fn say(&mut self, error: &Error) {
        let text = calvin_engine::chain(error);
        if self.progress.said.as_ref() != Some(&text) {
            tracing::warn!(error = %text, "tokens of machines wait; it is tried again");
            self.progress.said = Some(text);
        }
    }

    /// One look: makes what is missing, tells it, and takes back what must go.
    async fn round(&mut self) -> Result<(), Error> {
        let view = Arc::clone(&self.views.borrow());
        // Who recovers tells nobody anything, and does not know who is his.
        if view.recovery.is_some() || self.shared.guard().is_none() {
            return Ok(());
        }
        let census = census(&view, &self.images);
        let known: BTreeMap<InstanceId, Known> = census
            .into_values()
            .flatten()
            .filter(|(_, known)| known.joins())
            .collect();
        self.progress.ever.extend(known.keys().cloned());
        let made = match self.common.acl {
            Acl::Tokens => self.tokens(&known).await,
            Acl::Nothing => Ok(()),
        };
        self.tell(&known);
        made
    }

    async fn tokens(&mut self, known: &BTreeMap<InstanceId, Known>) -> Result<(), Error> {
        if !self.progress.policy {
            self.make_policy().await?;
            self.progress.policy = true;
        }
        let due = |at: Instant| at.elapsed() >= self.progress.list_again;
        if self.progress.listed.is_none_or(due) {
            self.list(known).await?;
        }
        // One that cannot be made holds up no other.
        let mut made = Ok(());
        for (instance, one) in known {
            let missing = !self.progress.have.contains(instance);
            if missing && !one.retires && !one.revoked {
                made = made.and(self.make(instance, one).await);
            }
        }
        made = made.and(self.give_rights(known).await);
        if made.is_err() {
            self.doubt_rights();
            // Servers that came back empty, or somebody by hand, may have taken more than this away.
            self.progress.policy = false;
            self.progress.list_again = LIST_SOON;
        }
        let gone = self.progress.have.iter().filter(|instance| {
            let one = known.get(*instance);
            one.is_none_or(|one| one.revoked)
        });
        let gone: Vec<InstanceId> = gone.cloned().collect();
        for instance in gone {
            self.progress.have.remove(&instance);
            self.progress.debts.insert(instance);
        }
        made.and(self.pay().await)
    }

    /// The policy that all machines share, as this version writes it.
    async fn make_policy(&self) -> Result<(), Error> {
        let environment = &self.common.environment;
        let about = format!("machines of the calvin environment {environment}");
        self.put_policy(&machines_policy(environment), &about, &policies::machines())
            .await
    }

    /// Makes a policy, or gives it these rules.
    async fn put_policy(&self, name: &str, about: &str, rules: &str) -> Result<(), Error> {
        match self.client.policy(name).await? {
            None => self.client.policy_create(name, about, rules).await,
            Some(policy) if policy.rules != rules => {
                self.client.policy_update(&policy, rules).await
            }
            Some(_) => Ok(()),
        }
    }

    /// Finds the tokens that are there, and among them those of nobody.
    async fn list(&mut self, known: &BTreeMap<InstanceId, Known>) -> Result<(), Error> {
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
            if known.contains_key(&instance) {
                have.insert(instance);
            } else if self.progress.ever.contains(&instance) || !self.lives(&instance).await? {
                self.progress.debts.insert(instance);
            } else {
                tracing::debug!(%instance, "a token of a machine without a record stays, because the machine lives");
                again = LIST_SOON;
            }
        }
        self.progress.have = have;
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

    async fn make(&mut self, instance: &InstanceId, known: &Known) -> Result<(), Error> {
        // A round of many takes a while, and the lock may be another's by now.
        if self.shared.guard().is_none() {
            return Ok(());
        }
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
        self.progress.debts.remove(instance);
        self.progress.have.insert(instance.clone());
        Ok(())
    }

    /// Takes tokens back, each until it was read back as gone.
    async fn pay(&mut self) -> Result<(), Error> {
        let debts: Vec<InstanceId> = self.progress.debts.iter().cloned().collect();
        let mut paid = Ok(());
        for instance in debts {
            if self.shared.guard().is_none() {
                break;
            }
            paid = paid.and(self.pay_one(&instance).await);
        }
        paid
    }

    async fn pay_one(&mut self, instance: &InstanceId) -> Result<(), Error> {
        self.take_right(instance).await?;
        let accessor = self.identity.consul_token(instance).accessor;
        self.client.token_revoke(&accessor).await?;
        if self.client.token(&accessor).await?.is_none() {
            tracing::info!(%instance, accessor, "revoked the Consul token of a machine, and read it back as gone");
            self.progress.debts.remove(instance);
        }
        Ok(())
    }

    /// Tells every machine that may join how to.
    fn tell(&self, known: &BTreeMap<InstanceId, Known>) {
        let told = self.told.borrow().clone();
        let mut joins = BTreeMap::new();
        for (instance, one) in known {
            let token = match self.common.acl {
                Acl::Nothing => None,
                Acl::Tokens if self.may_join(instance, one) => {
                    Some(self.identity.consul_token(instance).secret)
                }
                Acl::Tokens => continue,
            };
            if !one.revoked {
                joins.insert(
                    instance.clone(),
                    Arc::new(self.join(instance, token, &told)),
                );
            }
        }
        self.machines.set_joins(joins);
    }

    fn join(&self, instance: &InstanceId, token: Option<Secret>, told: &Told) -> Join {
        Join {
            consul: Some(ConsulJoin {
                datacenter: self.common.environment.clone(),
                domain: self.common.domain.clone(),
                servers: self.common.servers.clone(),
                gossip_key: told.gossip_key.clone(),
                ca_pem: told.ca_pem.clone(),
                node: instance.to_string(),
                token,
            }),
        }
    }
}
