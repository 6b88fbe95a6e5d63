//! The session service: lets an agent in, reads its reports, and ends it when its time is up.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use calvin_model::{BootId, InstanceId, Report};
use calvin_proto::{
    convert::{FromAgent, Hello, Welcome},
    transport::{PeerCertificate, PeerInfo},
    wire::{self, agent_session_server::AgentSession},
};
use futures_util::Stream;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;

use super::{
    Agents,
    enrolment::peer,
    hello::Denied,
    outbound::{Guard, Outbound},
    registry::{Heard, Speaks},
};
use crate::identity::{Expired, Refusal, wall_ms};

/// Time for an agent's first message: it is sent with the call, so this is one round trip.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// The service.
#[derive(Debug, Clone)]
pub(super) struct SessionService(pub(super) Agents);

#[tonic::async_trait]
impl AgentSession for SessionService {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<wire::ToAgent, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<wire::FromAgent>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let agents = &self.0;
        let peer = peer(&request)?;
        let refuse = |refusal: &Refusal| agents.identity().refuse(&peer, refusal);
        if agents.listening().is_some() {
            let mut inbound = request.into_inner();
            return Err(agents.only_hear(&peer, first(&mut inbound)).await);
        }
        let (instance, certificate) = agents
            .identity()
            .instance(&peer, Expired::Refused)
            .map_err(|refusal| refuse(&refusal))?;
        let mut inbound = request.into_inner();
        let hello = first(&mut inbound).await.map_err(|denied| match denied {
            Denied::Refused(refusal) => refuse(&refusal),
            Denied::NotYet(status) => status,
        })?;
        let outbound = agents
            .open(&peer, &certificate, &instance, &hello, inbound)
            .map_err(|denied| match denied {
                Denied::Refused(refusal) => refuse(&refusal),
                Denied::NotYet(status) => status,
            })?;
        Ok(Response::new(Box::pin(outbound.into_stream())))
    }
}

impl Agents {
    /// Takes note of a certificate that is shown for the first time, beside the session: the disk
    /// may take its time.
    fn note_use(&self, instance: &InstanceId, certificate: &PeerCertificate) {
        if !self.identity().is_first_use(instance, certificate) {
            return;
        }
        let (identity, instance) = (self.identity().clone(), instance.clone());
        let certificate = certificate.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = identity.note_use(&instance, &certificate) {
                tracing::warn!(%instance, %error, "could not take note of its new certificate; its next session tries again");
            }
        });
    }

    fn open(
        &self,
        peer: &PeerInfo,
        certificate: &PeerCertificate,
        instance: &InstanceId,
        hello: &Hello,
        inbound: Streaming<wire::FromAgent>,
    ) -> Result<Outbound, Denied> {
        let let_in = self.judge(instance, certificate, hello)?;
        let opened = self
            .registry()
            .open(instance, peer.address.ip(), Speaks::of(hello));
        let opened = opened.ok_or_else(|| match self.listening() {
            Some(status) => Denied::NotYet(status),
            None => Denied::Refused(Refusal::InstanceUnknown {
                instance: instance.to_string(),
            }),
        })?;
        // Looked at again now that the session can be seen: one who was revoked in between, by
        // somebody who found no session to end, is caught here.
        let guard = Guard {
            agents: self.clone(),
            instance: instance.clone(),
            number: opened.number,
        };
        self.identity().instance(peer, Expired::Refused)?;
        self.note_use(instance, certificate);
        let now = self.identity().now();
        tracing::info!(%instance, peer = %peer.address, boot = %hello.boot, version = hello.version, "an agent is here");
        self.poke();
        let reader = Reader {
            agents: self.clone(),
            peer: peer.clone(),
            instance: instance.clone(),
            number: opened.number,
            boot: hello.boot.clone(),
            end: opened.end.clone(),
            certificate_left: certificate
                .not_after
                .duration_since(now)
                .unwrap_or_default(),
        };
        let span = tracing::info_span!("session", %instance);
        let reading = tokio::spawn(reader.run(inbound).instrument(span));
        Ok(Outbound::new(
            Welcome {
                protocol: let_in.protocol,
                capabilities: Vec::new(),
                epoch: let_in.epoch,
                report_interval: self.shared.options.report_interval,
                wall_ms: wall_ms(now),
            },
            opened,
            guard,
            reading.abort_handle(),
        ))
    }
}

async fn first(inbound: &mut Streaming<wire::FromAgent>) -> Result<Hello, Denied> {
    let invalid = |problem: &str| {
        Denied::Refused(Refusal::MessageNotValid {
            problem: problem.to_owned(),
        })
    };
    let message = timeout(HELLO_TIMEOUT, inbound.message())
        .await
        .map_err(|_| Denied::NotYet(Status::deadline_exceeded("no hello came in time")))?
        .map_err(Denied::NotYet)?
        .ok_or_else(|| invalid("the session ended before its hello"))?;
    match FromAgent::try_from(message) {
        Ok(FromAgent::Hello(hello)) => Ok(hello),
        Ok(FromAgent::Report(_)) => Err(invalid("the first message must be a hello")),
        Err(error) => Err(invalid(&error.in_words())),
    }
}

/// Reads what an agent says, beside what it is told: an agent that does not listen is heard. And it
/// sees the end: of what the agent says, and of its certificate. An agent that takes no data is
/// never told of it, and must not count as being there for that.
struct Reader {
    agents: Agents,
    peer: PeerInfo,
    instance: InstanceId,
    number: u64,
    boot: BootId,
    end: watch::Receiver<Option<Status>>,
    certificate_left: Duration,
}

impl Reader {
    async fn run(mut self, mut inbound: Streaming<wire::FromAgent>) {
        let mut certificate_end = pin!(sleep(self.certificate_left));
        let status = loop {
            let message = tokio::select! {
                message = inbound.message() => message,
                // Told to end: nothing that it says counts any more.
                _ = self.end.wait_for(Option::is_some) => return,
                () = &mut certificate_end => {
                    let text = "the certificate has ended: renew, and come again";
                    break Status::unauthenticated(text);
                }
            };
            match message {
                Ok(Some(message)) => {
                    if let Err(refusal) = self.take(message) {
                        break self.agents.identity().refuse(&self.peer, &refusal);
                    }
                }
                Ok(None) => break Status::cancelled("the agent ended its session"),
                // Too large, not decodable, or the connection is gone.
                Err(status) => break status,
            }
        };
        let mut registry = self.agents.registry();
        registry.end_session(&self.instance, self.number, status);
    }

    fn take(&self, message: wire::FromAgent) -> Result<(), Refusal> {
        let invalid = |problem: String| Refusal::MessageNotValid { problem };
        match FromAgent::try_from(message) {
            Ok(FromAgent::Hello(_)) => Err(invalid("a second hello in one session".to_owned())),
            Ok(FromAgent::Report(report)) => self.report(report),
            Err(error) => Err(invalid(error.in_words())),
        }
    }

    fn report(&self, report: Report) -> Result<(), Refusal> {
        if report.boot != self.boot {
            return Err(Refusal::MessageNotValid {
                problem: "a report of another boot than the hello's".to_owned(),
            });
        }
        let heard = self
            .agents
            .registry()
            .heard(&self.instance, self.number, report);
        match heard {
            Heard::News => self.agents.poke(),
            Heard::Same => {}
            Heard::Stale => tracing::debug!("a report that is not newer is ignored"),
        }
        Ok(())
    }
}
