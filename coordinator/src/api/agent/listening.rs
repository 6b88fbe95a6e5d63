//! While the coordinator recovers it only listens: each agent that comes says what it has heard and
//! how it works, and is told nothing but to come again.
//!
//! No epoch is spoken meanwhile, not even in a welcome: an agent that takes one down would no
//! longer listen to the coordinator that perhaps still runs.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use calvin_engine::ports::{AgentHeard, NotAdopted};
use calvin_model::{FleetName, InstanceId};
use calvin_proto::{
    convert::Hello,
    transport::{PeerCertificate, PeerIdentity, PeerInfo},
};
use tonic::Status;

use super::{Agents, hello::Denied, registry::Registry};
use crate::identity::Refusal;

/// What an agent said when it came last, and what it showed.
#[derive(Debug)]
pub(super) struct HelloHeard {
    at: Instant,
    fleet: FleetName,
    certificate: PeerCertificate,
    hello: Hello,
}

impl Agents {
    /// What everybody is told while this coordinator only listens.
    pub(super) fn listening(&self) -> Option<Status> {
        let registry = self.registry();
        let why = registry.listening.as_ref()?;
        Some(Status::unavailable(format!(
            "this coordinator recovers, because {why}: it waits for a person, and tells nothing before"
        )))
    }

    /// Takes note of what an agent says. It may be one that is not on record: its certificate is of
    /// our CA, and may have expired while nobody could renew it.
    pub(super) async fn only_hear(
        &self,
        peer: &PeerInfo,
        first: impl Future<Output = Result<Hello, Denied>>,
    ) -> Status {
        let refuse = |refusal: &Refusal| self.identity().refuse(peer, refusal);
        let (instance, certificate) = match self.identity().unrecorded_instance(peer) {
            Ok(who) => who,
            Err(refusal) => return refuse(&refusal),
        };
        let hello = match first.await {
            Ok(hello) => hello,
            Err(Denied::Refused(refusal)) => return refuse(&refusal),
            Err(Denied::NotYet(status)) => return status,
        };
        if let Err(refusal) = self.check_who(&instance, &hello) {
            return refuse(&refusal);
        }
        self.hear(&certificate, &hello);
        self.listening()
            .unwrap_or_else(|| Status::unavailable("come again"))
    }

    /// Keeps what an agent said, for the engine.
    pub(super) fn hear(&self, certificate: &PeerCertificate, hello: &Hello) {
        let PeerIdentity::Instance {
            instance, fleet, ..
        } = &certificate.identity
        else {
            return;
        };
        let heard = HelloHeard {
            at: Instant::now(),
            fleet: fleet.clone(),
            certificate: certificate.clone(),
            hello: hello.clone(),
        };
        let before = self.registry().heard.insert(instance.clone(), heard);
        if before.is_none_or(|before| before.hello != *hello) {
            self.poke();
        }
    }

    /// Takes over the identities that these instances showed.
    pub(super) fn adopt_heard(&self, instances: &[InstanceId]) -> Result<(), NotAdopted> {
        let shown: Vec<(InstanceId, FleetName, PeerCertificate)> = {
            let registry = self.registry();
            let heard = instances.iter().filter_map(|instance| {
                let heard = registry.heard.get(instance)?;
                let certificate = heard.certificate.clone();
                Some((instance.clone(), heard.fleet.clone(), certificate))
            });
            heard.collect()
        };
        for (instance, fleet, certificate) in shown {
            let adopted = self.identity().adopt(&instance, &fleet, &certificate);
            adopted.map_err(|error| {
                NotAdopted(format!(
                    "could not keep the identity of instance {instance}: {error}"
                ))
            })?;
        }
        Ok(())
    }
}

impl Registry {
    /// From now on nobody is let in, for this reason; or as usual again, once the engine has said
    /// anew who may come.
    pub(super) fn only_listen(&mut self, why: Option<&str>) {
        self.listening = why.map(str::to_owned);
        self.heard.clear();
        self.admitted = None;
        if why.is_some() {
            self.end_all(&Status::unavailable(
                "this coordinator recovers, and tells nothing before a person has approved it",
            ));
        }
    }

    /// What agents said.
    pub(super) fn all_heard(&self) -> BTreeMap<InstanceId, AgentHeard> {
        let now = Instant::now();
        let heard = self.heard.iter();
        heard
            .map(|(instance, heard)| {
                let age = now.saturating_duration_since(heard.at);
                (instance.clone(), heard.seen(age))
            })
            .collect()
    }
}

impl HelloHeard {
    fn seen(&self, age: Duration) -> AgentHeard {
        let hello = &self.hello;
        AgentHeard {
            age,
            fleet: self.fleet.clone(),
            epoch: hello.epoch_seen.clone(),
            generation: hello.generation_seen,
            role: hello.role_applied,
            health: hello.health,
            manifest: hello.manifest.clone(),
            build: hello.build.clone(),
        }
    }
}
