//! The right of each instance of an exclusive fleet to its fleet's lock: a policy of its own beside what
//! all machines may, because nothing less names one node and one key alone.
//!
//! The token is made first and taken back last, so that whatever a crash leaves behind is found by it.
//!
//! Consul links policies by id: one that somebody deletes is out of every token at once, and another one of
//! its name is in none. Without the right to its lock the work of an exclusive instance ends within a lease,
//! so each of those tokens is looked at again and again.

use std::time::Duration;

use calvin_consul::{
    Error,
    acl::{PolicyLink, TokenInfo},
    policies,
};
use calvin_model::InstanceId;
use tokio::time::Instant;

use super::{Joiner, Joining, Known};
use crate::catalogue::consul::tokens::{Wanted, lock_policy, machines_policy};

/// Between two looks at the token of an instance of an exclusive fleet: six requests a minute, next to the
/// twenty with which its agent renews its lock. Of many at most one is looked at in a round.
const LOOK_AT_RIGHT: Duration = Duration::from_secs(10);

/// How an instance's right to the lock was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// Its token does not name the policy, which may be there.
    Unnamed,
    /// Its token names the policy.
    Named,
    /// And the policy was as it should be; the token was looked at then.
    Checked(Instant),
}

impl Right {
    /// What it is once a look at its token has said whether that names the policy.
    fn seen(before: Option<Self>, named: bool, now: Instant) -> Option<Self> {
        match (before, named) {
            (None, false) => None,
            (Some(_), false) => Some(Self::Unnamed),
            (None | Some(Self::Unnamed | Self::Named), true) => Some(Self::Named),
            (Some(Self::Checked(_)), true) => Some(Self::Checked(now)),
        }
    }

    /// The same where that is no longer believed.
    fn doubted(self) -> Self {
        match self {
            Self::Unnamed => Self::Unnamed,
            Self::Named | Self::Checked(_) => Self::Named,
        }
    }

    /// Whether the token has it.
    fn is_named(self) -> bool {
        match self {
            Self::Unnamed => false,
            Self::Named | Self::Checked(_) => true,
        }
    }

    /// When its token was looked at, where nothing was amiss.
    fn checked(self) -> Option<Instant> {
        match self {
            Self::Unnamed | Self::Named => None,
            Self::Checked(at) => Some(at),
        }
    }
}

impl Joiner {
    /// Whether an instance has not the right to its fleet's lock that it is to have, or has one that it is
    /// not to have.
    pub(super) fn differs(&self, instance: &InstanceId, known: &Known) -> bool {
        match self.progress.rights.get(instance) {
            Some(Right::Checked(_)) => !known.exclusive,
            Some(Right::Named | Right::Unnamed) => true,
            None => known.exclusive,
        }
    }

    /// Looks again at the token with a right that was looked at longest ago, when it is time.
    pub(super) async fn look_at_right(&mut self, known: &Joining) {
        let rights = self.progress.rights.iter();
        let stays = |id: &InstanceId| {
            known
                .get(id)
                .is_some_and(|one| !one.retires && !one.revoked)
        };
        let checked = rights.filter_map(|(id, right)| Some((right.checked()?, id)));
        let oldest = checked.filter(|(_, id)| stays(id)).min();
        let Some((_, instance)) = oldest.filter(|(at, _)| at.elapsed() >= LOOK_AT_RIGHT) else {
            return;
        };
        let instance = instance.clone();
        let accessor = self.identity.consul_token(&instance).accessor;
        match self.client.token(&accessor).await {
            Ok(Some(token)) => self.note(&instance, &token),
            Ok(None) => self.lose(&instance),
            // Whatever is amiss is found and said where it is looked after.
            Err(_) => self.doubt_right(&instance),
        }
    }

    /// Its token is gone, and is made again.
    fn lose(&mut self, instance: &InstanceId) {
        tracing::warn!(%instance, "the Consul token of a machine was gone: it is made again");
        self.progress.have.remove(instance);
        self.progress
            .rights
            .insert(instance.clone(), Right::Unnamed);
        self.progress.lost.insert(instance.clone());
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
        // Also where this goes no further it is to be taken back.
        let rights = &mut self.progress.rights;
        rights.entry(instance.clone()).or_insert(Right::Unnamed);
        self.put_policy(&name, &about, &rules).await?;
        let accessor = self.identity.consul_token(instance).accessor;
        let Some(token) = self.client.token(&accessor).await? else {
            self.lose(instance);
            return Ok(());
        };
        self.note(instance, &token);
        let named = self.progress.rights.get(instance);
        let named = named.is_some_and(|right| right.is_named());
        if !named || self.progress.bare.contains(instance) {
            self.give_policies(instance, known, Some(name)).await?;
        }
        let checked = Right::Checked(Instant::now());
        self.progress.rights.insert(instance.clone(), checked);
        Ok(())
    }

    /// Gives a token that is there the policy of all machines and this one.
    pub(super) async fn give_policies(
        &mut self,
        instance: &InstanceId,
        known: &Known,
        lock: Option<String>,
    ) -> Result<(), Error> {
        let derived = self.identity.consul_token(instance);
        let wanted = Wanted {
            environment: &self.common.environment,
            instance,
            services: known.services(),
            token: &derived,
        };
        let mut request = wanted.request();
        request.policies.extend(lock);
        self.client
            .token_update(&derived.accessor, &request)
            .await?;
        self.progress.bare.remove(instance);
        let policies = request.policies.join(", ");
        tracing::info!(%instance, policies, "gave the Consul token of a machine the policies that it lacked");
        Ok(())
    }

    /// Notes which policies a token has.
    pub(super) fn note(&mut self, instance: &InstanceId, token: &TokenInfo) {
        let environment = &self.common.environment;
        let has = |name: &str| names(&token.policies, name);
        let progress = &mut self.progress;
        if has(&machines_policy(environment)) {
            progress.bare.remove(instance);
        } else {
            progress.bare.insert(instance.clone());
        }
        let named = has(&lock_policy(environment, instance));
        let before = progress.rights.get(instance).copied();
        if let Some(right) = Right::seen(before, named, Instant::now()) {
            progress.rights.insert(instance.clone(), right);
        }
    }

    /// Looks at all of them again.
    pub(super) fn doubt_rights(&mut self) {
        for right in self.progress.rights.values_mut() {
            *right = right.doubted();
        }
    }

    /// Looks at that of one again.
    pub(super) fn doubt_right(&mut self, instance: &InstanceId) {
        if let Some(right) = self.progress.rights.get_mut(instance) {
            *right = right.doubted();
        }
    }

    /// Whether an instance can be told to join: its Consul client keeps for a while what its token could
    /// not do at first.
    pub(super) fn may_join(&self, instance: &InstanceId, known: &Known) -> bool {
        let progress = &self.progress;
        let right = progress.rights.get(instance);
        let named = right.is_some_and(|right| right.is_named());
        progress.have.contains(instance) && (!known.exclusive || named)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_is_what_its_token_names_now() {
        let then = Instant::now();
        let now = then + LOOK_AT_RIGHT;
        let checked = Some(Right::Checked(then));
        for (before, named, after) in [
            (None, false, None),
            (None, true, Some(Right::Named)),
            (Some(Right::Unnamed), true, Some(Right::Named)),
            (Some(Right::Named), true, Some(Right::Named)),
            (checked, true, Some(Right::Checked(now))),
            (Some(Right::Named), false, Some(Right::Unnamed)),
            (checked, false, Some(Right::Unnamed)),
        ] {
            let seen = Right::seen(before, named, now);
            assert_eq!(seen, after, "{before:?} {named}");
        }
        assert_eq!(Right::Checked(then).doubted(), Right::Named);
        assert!(!Right::Unnamed.doubted().is_named());
    }
}
