//! Serves agents on one listener until told to stop.

use std::{future::Future, sync::Arc, time::Duration};

use calvin_proto::{
    DESCRIPTORS, limits,
    transport::{HandshakeRefused, incoming, server_builder, services},
};
use tokio::{net::TcpListener, sync::Notify, time::sleep};
use tonic::Status;

use super::{Agents, enrolment::EnrolmentService, session::SessionService};
use crate::identity::Refusal;

/// Time for connections to end by themselves when the coordinator stops; sessions are told to at
/// once.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// Why the agents' listener stopped serving.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The descriptors of the wire files are no good.
    #[error("could not offer reflection")]
    Reflection(#[source] tonic_reflection::server::Error),
    /// The server failed.
    #[error("could not serve agents")]
    Serve(#[source] tonic::transport::Error),
}

/// Serves enrolment, sessions, health and reflection on `listener` until `shutdown`.
///
/// # Errors
/// Where the server fails.
pub async fn serve_agents(
    listener: TcpListener,
    agents: Agents,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    let sessions = services::session_server(SessionService(agents.clone()));
    let enrolment = services::enrolment_server(EnrolmentService(agents.clone()));
    serving(&health, &sessions).await;
    serving(&health, &enrolment).await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(ServeError::Reflection)?;
    let identity = agents.identity().clone();
    let audit = Arc::new(move |refused: HandshakeRefused| {
        let HandshakeRefused { address, reason } = refused;
        let refusal = Refusal::Handshake { reason };
        let from = address.to_string();
        identity
            .audit()
            .refused(identity.now(), "nobody", &from, &refusal);
    });
    let incoming = incoming(listener, agents.identity().tls(), audit);
    let stopping = Notify::new();
    let stop = async {
        shutdown.await;
        agents
            .registry()
            .end_all(&Status::unavailable("the coordinator is going down"));
        stopping.notify_one();
    };
    let server = server_builder(limits::AGENT_STREAMS)
        .add_service(sessions)
        .add_service(enrolment)
        .add_service(health_service)
        .add_service(reflection)
        .serve_with_incoming_shutdown(incoming, stop);
    let too_long = async {
        stopping.notified().await;
        sleep(SHUTDOWN_TIMEOUT).await;
    };
    tokio::select! {
        served = server => served.map_err(ServeError::Serve),
        () = too_long => {
            tracing::warn!("agents' connections are cut: they did not end in time");
            Ok(())
        }
    }
}

async fn serving<S: tonic::server::NamedService>(
    health: &tonic_health::server::HealthReporter,
    _service: &S,
) {
    health.set_serving::<S>().await;
}
