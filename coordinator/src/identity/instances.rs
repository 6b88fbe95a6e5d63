//! Identities of instances: a join token, the certificate that it is traded for, renewals, and
//! the end.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use calvin_model::{FleetName, InstanceId};
use calvin_proto::transport::{PeerCertificate, PeerIdentity, PeerInfo};

use super::{
    Identity, IdentityError, Refusal, State,
    certificate::{self, Issued, Request},
    judge::Expired,
    known::Instances,
    records::InstanceRecord,
    token, wall_ms,
};

/// What a machine says to get its certificate.
#[derive(Clone, Copy)]
pub struct EnrolClaim<'a> {
    /// The environment that it was made for.
    pub environment: &'a str,
    /// The instance that it is.
    pub instance: &'a str,
    /// Its join token.
    pub token: &'a str,
    /// A signing request, DER.
    pub csr_der: &'a [u8],
}

impl std::fmt::Debug for EnrolClaim<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token stays out of logs.
        f.debug_struct("EnrolClaim")
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

/// What an instance gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// Its certificate, PEM.
    pub certificate_pem: String,
    /// Every CA that is trusted now, PEM.
    pub ca_pem: String,
    /// When to renew, from now.
    pub renew_after: Duration,
}

/// Why an instance got nothing.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// It was turned away.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The coordinator could not.
    #[error(transparent)]
    Failed(#[from] IdentityError),
}

impl InstanceRecord {
    /// The CAs without which this instance could not come back, by their key identifiers.
    pub(super) fn rests_on(&self, now_wall_ms: u64) -> impl Iterator<Item = &str> {
        let newest = match &self.newest {
            Some(issued) => Some(issued.authority.as_str()),
            None if self.token_until_wall_ms > now_wall_ms => Some(self.made_under.as_str()),
            None => None,
        };
        let ids = newest.into_iter().chain(self.used_under.as_deref());
        ids.filter(|_| !self.revoked)
    }

    /// Takes over what is given to it now. What it has is kept alive until it shows the new one.
    fn take(&mut self, issued: Issued) {
        let before = self.newest.as_ref();
        let before = before.map_or(&self.made_under, |newest| &newest.authority);
        if *before != issued.authority && self.used_under.is_none() {
            self.used_under = Some(before.clone());
        }
        self.newest = Some(issued);
    }

    /// Whether it shows its newest certificate for the first time since an older CA.
    fn shows_newest(&self, key: &str) -> bool {
        let newest = self.newest.as_ref();
        self.used_under.is_some() && newest.is_some_and(|issued| issued.key == key)
    }

    fn is_over(&self, now_wall_ms: u64) -> bool {
        let ended = |issued: &Issued| issued.until_wall_ms <= now_wall_ms;
        let token_over = self.enrolled.is_some() || self.token_until_wall_ms <= now_wall_ms;
        token_over && self.newest.as_ref().is_none_or(ended)
    }

    pub(super) fn knows_key(&self, key: &str) -> bool {
        let newest = self.newest.as_ref().map(|issued| issued.key.as_str());
        newest == Some(key) || self.previous_key.as_deref() == Some(key)
    }
}

impl Identity {
    /// The join token of one create of one instance; the same for the same create. A token that
    /// is not spent yet is good for its whole life from now.
    ///
    /// # Errors
    /// Where it cannot be recorded. Then it is not given out.
    pub fn join_token(
        &self,
        fleet: &FleetName,
        instance: &InstanceId,
        intent: u64,
    ) -> Result<String, IdentityError> {
        let at = self.now();
        let token = self
            .inner
            .token_key
            .token(self.environment(), instance, intent);
        let until = wall_ms(at + self.inner.options.token_life);
        let mut state = self.state();
        let made_under = state.authority.newest().key_id.clone();
        let mut record = match state.instances.get(instance) {
            // Spent or revoked: the token opens nothing new, and nothing changes.
            Some(record) if record.revoked || record.enrolled.is_some() => return Ok(token),
            Some(record) => InstanceRecord::clone(record),
            None => InstanceRecord {
                fleet: fleet.clone(),
                token_hash: String::new(),
                token_until_wall_ms: 0,
                made_under,
                enrolled: None,
                newest: None,
                previous_key: None,
                used_under: None,
                revoked: false,
                alarm: None,
            },
        };
        record.token_hash = token::hash(&token);
        record.token_until_wall_ms = until;
        self.keep(&mut state, instance, record)?;
        Ok(token)
    }

    /// Trades a join token for a certificate.
    ///
    /// # Errors
    /// A refusal, or the coordinator could not.
    pub fn enrol(&self, claim: &EnrolClaim<'_>) -> Result<Enrolled, EnrolError> {
        let ours = self.environment();
        if claim.environment != ours.as_str() {
            return Err(EnrolError::Refused(Refusal::EnvironmentForeign {
                ours: ours.clone(),
                theirs: claim.environment.chars().take(80).collect(),
            }));
        }
        let unknown = || Refusal::InstanceUnknown {
            instance: claim.instance.chars().take(80).collect(),
        };
        let instance: InstanceId = claim.instance.parse().map_err(|_| unknown())?;
        let request = Request::parse(claim.csr_der)?;
        let at = self.now();
        let mut state = self.state();
        let record = state.instances.get(&instance).ok_or_else(unknown)?;
        let record = InstanceRecord::clone(record);
        if record.revoked {
            return Err(EnrolError::Refused(Refusal::InstanceRetired { instance }));
        }
        check_token(&state, &instance, &record, claim.token)?;
        match &record.enrolled {
            Some(first) if first.key == request.key() => {
                self.answer_again(&mut state, &instance, record, &request, at)
            }
            Some(_) => {
                let alarm = "another key asked for a certificate with its join token: somebody \
                             else has its first-boot data, or had it first";
                Err(self.alarm(
                    &mut state,
                    &instance,
                    record,
                    alarm,
                    Refusal::TokenSpent {
                        instance: instance.clone(),
                    },
                ))
            }
            None if record.token_until_wall_ms <= wall_ms(at) => {
                Err(EnrolError::Refused(Refusal::TokenExpired { instance }))
            }
            None => {
                let issued = self.issue(&state, &instance, &record, &request, at)?;
                let answer = self.answer(&issued, at);
                let mut record = record;
                record.enrolled = Some(issued.clone());
                record.take(issued);
                self.keep(&mut state, &instance, record)?;
                Ok(answer)
            }
        }
    }

    /// Answers the key that spent the token and asks again: with the certificate that it got last,
    /// or a new one where that has ended, or where the answer to a renewal may have got lost. So it
    /// gets what its own certificate would get it, and no more.
    fn answer_again(
        &self,
        state: &mut State,
        instance: &InstanceId,
        mut record: InstanceRecord,
        request: &Request,
        at: SystemTime,
    ) -> Result<Enrolled, EnrolError> {
        let key = request.key();
        if !record.knows_key(&key) {
            return Err(self.superseded(state, instance, record));
        }
        let last = record.newest.clone();
        if let Some(last) = &last
            && last.key == key
            && last.until_wall_ms > wall_ms(at)
            // One that was adopted is known by what it showed, not by its text.
            && !last.certificate_pem.is_empty()
        {
            return Ok(self.answer(last, at));
        }
        let issued = self.issue(state, instance, &record, request, at)?;
        let answer = self.answer(&issued, at);
        if let Some(last) = last.filter(|last| last.key != key) {
            record.previous_key = Some(last.key);
        }
        record.take(issued);
        self.keep(state, instance, record)?;
        Ok(answer)
    }

    /// Renews a certificate, which may have expired, for a new key.
    ///
    /// # Errors
    /// A refusal, or the coordinator could not.
    pub fn renew(&self, peer: &PeerInfo, csr_der: &[u8]) -> Result<Enrolled, EnrolError> {
        let (instance, certificate) = self.instance(peer, Expired::MayRenew)?;
        let request = Request::parse(csr_der)?;
        let at = self.now();
        let mut state = self.state();
        let Some(record) = state.instances.get(&instance) else {
            return Err(EnrolError::Refused(Refusal::InstanceUnknown {
                instance: instance.to_string(),
            }));
        };
        let record = InstanceRecord::clone(record);
        // It may have been retired while this waited for its turn.
        if record.revoked {
            return Err(EnrolError::Refused(Refusal::InstanceRetired { instance }));
        }
        // One answer may get lost, so the key before the newest may come again. An older one is
        // in two hands.
        if !record.knows_key(&certificate.key) {
            return Err(self.superseded(&mut state, &instance, record));
        }
        let issued = self.issue(&state, &instance, &record, &request, at)?;
        let mut record = record;
        if record.shows_newest(&certificate.key) {
            record.used_under = None;
        }
        record.previous_key = Some(certificate.key.clone());
        record.take(issued.clone());
        self.keep(&mut state, &instance, record)?;
        self.settle(&mut state, at)?;
        drop(state);
        Ok(self.answer(&issued, at))
    }

    /// Whether it is news that an instance shows this certificate. Never waits.
    #[must_use]
    pub fn is_first_use(&self, instance: &InstanceId, shown: &PeerCertificate) -> bool {
        let known = self.known();
        let record = known.instances.get(instance);
        record.is_some_and(|record| record.shows_newest(&shown.key))
    }

    /// Takes note that an instance has its newest certificate: what it had before is no longer
    /// needed, and perhaps the CA of that neither. Waits for the disk.
    ///
    /// # Errors
    /// Where it cannot be recorded; the next session tries again.
    pub fn note_use(
        &self,
        instance: &InstanceId,
        shown: &PeerCertificate,
    ) -> Result<(), IdentityError> {
        let at = self.now();
        let mut state = self.state();
        let Some(record) = state.instances.get(instance) else {
            return Ok(());
        };
        if !record.shows_newest(&shown.key) {
            return Ok(());
        }
        let mut record = InstanceRecord::clone(record);
        record.used_under = None;
        self.keep(&mut state, instance, record)?;
        self.settle(&mut state, at)
    }

    /// Revokes an instance's identity for good.
    ///
    /// # Errors
    /// Where it cannot be recorded. Then it is not revoked.
    pub fn revoke(&self, instance: &InstanceId) -> Result<(), IdentityError> {
        let at = self.now();
        let mut state = self.state();
        let Some(record) = state.instances.get(instance) else {
            // It was never given anything, and has no way to ask.
            return Ok(());
        };
        if record.revoked {
            return Ok(());
        }
        let mut record = InstanceRecord::clone(record);
        record.revoked = true;
        self.keep(&mut state, instance, record)?;
        self.settle(&mut state, at)?;
        drop(state);
        let text = format!("revoked the identity of instance {instance}");
        self.audit()
            .done(at, "coordinator", "instance_revoked", &text);
        Ok(())
    }

    /// Every alarm.
    #[must_use]
    pub fn alarms(&self) -> BTreeMap<InstanceId, String> {
        let known = self.known();
        let alarms = known.instances.iter().filter_map(|(instance, record)| {
            let alarm = record.alarm.clone()?;
            Some((instance.clone(), alarm))
        });
        alarms.collect()
    }

    /// Forgets what is over of instances that the coordinator no longer keeps a record of.
    ///
    /// # Errors
    /// Where that cannot be recorded; the next call tries again.
    pub fn forget(&self, keeps: impl Fn(&InstanceId) -> bool) -> Result<(), IdentityError> {
        let now = wall_ms(self.now());
        let gone = |instances: &Instances| -> Vec<InstanceId> {
            instances
                .iter()
                .filter(|(instance, record)| record.is_over(now) && !keeps(instance))
                .map(|(instance, _)| instance.clone())
                .collect()
        };
        // Most times there is nothing, and who asks is the engine.
        if gone(&self.known().instances).is_empty() {
            return Ok(());
        }
        let mut state = self.state();
        let gone = gone(&state.instances);
        self.inner.records.remove_instances(&gone)?;
        let instances = Arc::make_mut(&mut state.instances);
        for instance in &gone {
            instances.remove(instance);
        }
        self.publish(&state);
        Ok(())
    }

    fn issue(
        &self,
        state: &State,
        instance: &InstanceId,
        record: &InstanceRecord,
        request: &Request,
        at: SystemTime,
    ) -> Result<Issued, IdentityError> {
        let identity = PeerIdentity::Instance {
            environment: self.environment().clone(),
            fleet: record.fleet.clone(),
            instance: instance.clone(),
        };
        let issuer = &state.authority.newest().issuer;
        let life = self.inner.options.certificate_life;
        certificate::client(issuer, &identity, request, at, life)
    }

    fn answer(&self, issued: &Issued, at: SystemTime) -> Enrolled {
        let life = self.inner.options.certificate_life;
        let left = Duration::from_millis(issued.until_wall_ms.saturating_sub(wall_ms(at)));
        // Up to a tenth of its life earlier than at half, by its key: a fleet that was made at
        // once does not renew at once.
        let share = issued
            .key
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .unwrap_or(0);
        let early = life / 10 * u32::from(share) / 256;
        Enrolled {
            certificate_pem: issued.certificate_pem.clone(),
            ca_pem: self.ca_pem(),
            renew_after: left.saturating_sub(life / 2 + early),
        }
    }

    fn superseded(
        &self,
        state: &mut State,
        instance: &InstanceId,
        record: InstanceRecord,
    ) -> EnrolError {
        let alarm = "a certificate was asked for with a key that had been renewed before with \
                     another: two machines hold this identity";
        let refusal = Refusal::CertificateSuperseded {
            instance: instance.clone(),
        };
        self.alarm(state, instance, record, alarm, refusal)
    }

    /// Raises an alarm, and gives the refusal whether or not it could be recorded.
    fn alarm(
        &self,
        state: &mut State,
        instance: &InstanceId,
        record: InstanceRecord,
        alarm: &str,
        refusal: Refusal,
    ) -> EnrolError {
        if record.alarm.is_none() {
            let mut record = record;
            record.alarm = Some(alarm.to_owned());
            if let Err(error) = self.keep(state, instance, record) {
                tracing::error!(%error, %instance, alarm, "could not record an alarm");
            }
        }
        EnrolError::Refused(refusal)
    }

    pub(super) fn keep(
        &self,
        state: &mut State,
        instance: &InstanceId,
        record: InstanceRecord,
    ) -> Result<(), IdentityError> {
        self.inner.records.put_instance(instance, &record)?;
        Arc::make_mut(&mut state.instances).insert(instance.clone(), Arc::new(record));
        self.publish(state);
        Ok(())
    }
}

/// Hashes are compared, so how long it takes tells nothing about the token.
fn check_token(
    state: &State,
    instance: &InstanceId,
    record: &InstanceRecord,
    token: &str,
) -> Result<(), Refusal> {
    let hash = token::hash(token);
    if hash == record.token_hash {
        return Ok(());
    }
    let instance = instance.clone();
    let mut others = state.instances.values();
    if others.any(|other| other.token_hash == hash) {
        return Err(Refusal::TokenForeign { instance });
    }
    Err(Refusal::TokenForged { instance })
}
