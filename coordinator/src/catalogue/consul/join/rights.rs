//! The right of each instance of an exclusive fleet to its fleet's lock: a policy of its own beside what
//! all machines may, because nothing less names one node and one key alone.
//!
//! The token is made first and taken back last, so that whatever a crash leaves behind is found by it.

use calvin_consul::{
    Error,
    acl::{PolicyLink, TokenInfo},
    policies,
};
use calvin_model::InstanceId;

use super::{Joiner, Known};
use crate::catalogue::consul::tokens::{Wanted, lock_policy};

/// How an instance's right to the lock was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// Its token names the policy.
    Named,
    /// And the policy was as it should be.
    Checked,
}

impl Joiner {
    /// Whether an instance has not the right to its fleet's lock that it is to have, or has one that it is
    /// not to have.
    pub(super) fn differs(&self, instance: &InstanceId, known: &Known) -> bool {
        match self.progress.rights.get(instance) {
            Some(Right::Checked) => !known.exclusive,
            Some(Right::Named) => true,
            None => known.exclusive,
        }
    }

    /// Gives who needs the lock of its fleet the right to it, also where its token is older than that.
    pub(super) async fn give_right(
        &mut self,
        instance: &InstanceId,
        known: &Known,
    ) -> Result<(), Error> {
        // A round of many takes a while, and the lock may be another's by now.
        if self.shared.guard().is_none() {
            return Ok(());
        }
        let environment = &self.common.environment;
        let name = lock_policy(environment, instance);
        let rules = match policies::lock(environment, &known.fleet, instance) {
            Ok(rules) => rules,
            // A key can be made of every name that a fleet can have.
            Err(error) => {
                tracing::error!(%error, fleet = %known.fleet, "a fleet can have no lock");
                return Ok(());
            }
        };
        let about = format!("the lock of fleet {}, for {instance}", known.fleet);
        self.put_policy(&name, &about, &rules).await?;
        let derived = self.identity.consul_token(instance);
        let token = self.client.token(&derived.accessor).await?;
        if !token.is_some_and(|token| names(&token.policies, &name)) {
            let wanted = Wanted {
                environment,
                instance,
                services: known.services(),
                token: &derived,
            };
            let mut request = wanted.request();
            request.policies.push(name);
            self.client
                .token_update(&derived.accessor, &request)
                .await?;
            tracing::info!(%instance, fleet = %known.fleet, "gave the Consul token of a machine the lock of its fleet");
        }
        self.progress
            .rights
            .insert(instance.clone(), Right::Checked);
        Ok(())
    }

    /// Notes whose tokens have the right, of those that were listed.
    pub(super) fn note_right(&mut self, instance: &InstanceId, token: &TokenInfo) {
        let name = lock_policy(&self.common.environment, instance);
        if names(&token.policies, &name) {
            let rights = &mut self.progress.rights;
            rights.entry(instance.clone()).or_insert(Right::Named);
        }
    }

    /// Looks at all of them again.
    pub(super) fn doubt_rights(&mut self) {
        for right in self.progress.rights.values_mut() {
            *right = Right::Named;
        }
    }

    /// Looks at that of one again.
    pub(super) fn doubt_right(&mut self, instance: &InstanceId) {
        if let Some(right) = self.progress.rights.get_mut(instance) {
            *right = Right::Named;
        }
    }

    /// Whether an instance can be told to join: its Consul client keeps for a while what its token could
    /// not do at first.
    pub(super) fn may_join(&self, instance: &InstanceId, known: &Known) -> bool {
        let progress = &self.progress;
        progress.have.contains(instance)
            && (!known.exclusive || progress.rights.contains_key(instance))
    }

    /// Takes back what right an instance has.
    pub(super) async fn take_right(&mut self, instance: &InstanceId) -> Result<(), Error> {
        if !self.progress.rights.contains_key(instance) {
            return Ok(());
        }
        let name = lock_policy(&self.common.environment, instance);
        if let Some(policy) = self.client.policy(&name).await? {
            self.client.policy_delete(&policy).await?;
        }
        self.progress.rights.remove(instance);
        Ok(())
    }
}

fn names(policies: &[PolicyLink], name: &str) -> bool {
    policies.iter().any(|policy| policy.name == name)
}
