//! The enrolment service: a token or an old certificate for a new one.

use std::{net::IpAddr, time::Instant};

use calvin_proto::{
    limits,
    transport::PeerInfo,
    wire::{EnrolReply, EnrolRequest, RenewRequest, enrolment_server::Enrolment},
};
use tonic::{Request, Response, Status};

use super::{
    Agents,
    registry::{About, Notice},
};
use crate::identity::{EnrolClaim, EnrolError, Enrolled, Refusal};

/// The service.
#[derive(Debug, Clone)]
pub(super) struct EnrolmentService(pub(super) Agents);

#[tonic::async_trait]
impl Enrolment for EnrolmentService {
    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolReply>, Status> {
        let peer = peer(&request)?;
        let request = request.into_inner();
        let sizes = [
            ("join_token", request.join_token.len(), limits::TOKEN_BYTES),
            ("csr_der", request.csr_der.len(), limits::CSR_BYTES),
        ];
        self.admit(&peer, &sizes)?;
        self.issue(peer, move |agents, _| {
            agents.identity().enrol(&EnrolClaim {
                environment: &request.environment,
                instance: &request.instance,
                token: &request.join_token,
                csr_der: &request.csr_der,
            })
        })
        .await
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<EnrolReply>, Status> {
        let peer = peer(&request)?;
        let csr_der = request.into_inner().csr_der;
        self.admit(&peer, &[("csr_der", csr_der.len(), limits::CSR_BYTES)])?;
        self.issue(peer, move |agents, peer| {
            agents.identity().renew(peer, &csr_der)
        })
        .await
    }
}

impl EnrolmentService {
    /// Turns away who asks too often or sends too much.
    fn admit(&self, peer: &PeerInfo, sizes: &[(&'static str, usize, usize)]) -> Result<(), Status> {
        let agents = &self.0;
        if let Some(status) = agents.listening() {
            return Err(status);
        }
        let address: IpAddr = peer.address.ip();
        if !agents.shared.limiter.take(address, Instant::now()) {
            return Err(agents.identity().refuse(peer, &Refusal::TooMany));
        }
        for (field, size, max) in sizes {
            if size > max {
                let problem = format!("{field} has {size} bytes, at most {max} are allowed");
                let refusal = Refusal::MessageNotValid { problem };
                return Err(agents.identity().refuse(peer, &refusal));
            }
        }
        Ok(())
    }

    /// Makes a certificate on a thread that may wait for the disk.
    async fn issue(
        &self,
        peer: PeerInfo,
        make: impl FnOnce(&Agents, &PeerInfo) -> Result<Enrolled, EnrolError> + Send + 'static,
    ) -> Result<Response<EnrolReply>, Status> {
        let _permit = self
            .0
            .shared
            .enrolments
            .acquire()
            .await
            .map_err(|_| Status::unavailable("the coordinator is going down"))?;
        let agents = self.0.clone();
        let made = tokio::task::spawn_blocking(move || {
            make(&agents, &peer).map_err(|error| failed(&agents, &peer, error))
        });
        let enrolled = made.await.map_err(|_| {
            Status::internal("making the certificate failed in an unexpected way")
        })??;
        self.0.poke();
        Ok(Response::new(EnrolReply {
            certificate_pem: enrolled.certificate_pem,
            ca_pem: enrolled.ca_pem,
            renew_after_ms: u64::try_from(enrolled.renew_after.as_millis()).unwrap_or(u64::MAX),
        }))
    }
}

fn failed(agents: &Agents, peer: &PeerInfo, error: EnrolError) -> Status {
    match error {
        EnrolError::Refused(refusal) => {
            // The token was right, so it is the machine itself that asks, too late. Whoever waits
            // for it waits in vain, and should know.
            if let Refusal::TokenExpired { instance } = &refusal {
                let notice = Notice {
                    text: refusal.to_string(),
                    about: About::Instance,
                };
                agents.registry().note(instance, notice);
            }
            // An alarm may have been raised.
            agents.poke();
            agents.identity().refuse(peer, &refusal)
        }
        EnrolError::Failed(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, peer = %peer.address, "could not make a certificate");
            Status::unavailable("the coordinator cannot make certificates now; try again")
        }
    }
}

/// Every connection of the listener carries it.
pub(super) fn peer<T>(request: &Request<T>) -> Result<PeerInfo, Status> {
    request
        .extensions()
        .get::<PeerInfo>()
        .cloned()
        .ok_or_else(|| Refusal::PeerUnknown.status())
}
