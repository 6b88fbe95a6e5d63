//! One question to one coordinator: a certificate for a token, or a new one for an old.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use calvin_model::Provision;
use calvin_proto::{
    limits,
    transport::{
        ConnectError, TlsError, Trusted, client_config, connect, coordinator_dns_name,
        explain_status, services::enrolment_client,
    },
    wire,
};
use rustls::ClientConfig;
use tokio::time::timeout;
use tonic::{Code, Status, transport::Channel};

/// Time for one question: a handshake and a signature, over a bad line.
const ASK_TIMEOUT: Duration = Duration::from_secs(15);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The CA certificates of `provision.toml` cannot be used.
    #[error("the environment's CA certificates cannot be used")]
    Trust(#[from] TlsError),
    /// The coordinator was not reached, or is not the environment's.
    #[error("{}", words.as_deref().unwrap_or("no coordinator was reached"))]
    Connect {
        /// What TLS said, in words.
        words: Option<String>,
        /// Why.
        #[source]
        source: ConnectError,
    },
    /// It did not answer, or could not.
    #[error("coordinator {address} did not answer: {words}")]
    Unanswered {
        /// Which.
        address: SocketAddr,
        /// Why.
        words: String,
    },
    /// It said no.
    #[error("coordinator {address} refused: {words}")]
    Refused {
        /// Which.
        address: SocketAddr,
        /// Why.
        words: String,
    },
    /// It answered what cannot be.
    #[error("coordinator {address} gave {size} bytes as {what}, at most {max} are allowed")]
    TooLarge {
        /// Which.
        address: SocketAddr,
        /// What was too large.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The limit.
        max: usize,
    },
}

impl AskError {
    /// Whether asking again soon may help.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::Trust(_) => true,
            Self::Connect { .. } | Self::Unanswered { .. } | Self::TooLarge { .. } => false,
        }
    }
}

/// What a coordinator gave.
#[derive(Debug, Clone)]
pub(super) struct Granted {
    pub(super) certificate_pem: String,
    pub(super) ca_pem: String,
    pub(super) renew_after: Duration,
}

/// Trades the join token and a signing request for a certificate.
pub(super) async fn enrol(
    provision: &Provision,
    address: SocketAddr,
    csr_der: Vec<u8>,
) -> Result<Granted, AskError> {
    let trusted = Trusted::from_pem(&provision.ca_pem)?;
    let tls = Arc::new(client_config(&trusted, None)?);
    let channel = channel(provision, address, tls).await?;
    let request = wire::EnrolRequest {
        environment: provision.environment.to_string(),
        instance: provision.instance.to_string(),
        join_token: provision.join_token.clone(),
        csr_der,
    };
    let mut client = enrolment_client(channel);
    let reply = answered(address, client.enrol(request)).await?;
    granted(address, reply)
}

/// Asks for a certificate for a new key, with the old one.
pub(super) async fn renew(
    provision: &Provision,
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    csr_der: Vec<u8>,
) -> Result<Granted, AskError> {
    let channel = channel(provision, address, tls).await?;
    let mut client = enrolment_client(channel);
    let reply = answered(address, client.renew(wire::RenewRequest { csr_der })).await?;
    granted(address, reply)
}

async fn channel(
    provision: &Provision,
    address: SocketAddr,
    tls: Arc<ClientConfig>,
) -> Result<Channel, AskError> {
    let name = coordinator_dns_name(&provision.environment);
    connect(address, &name, tls)
        .await
        .map_err(|source| AskError::Connect {
            words: source.explain(),
            source,
        })
}

async fn answered<T>(
    address: SocketAddr,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, AskError> {
    match timeout(ASK_TIMEOUT, call).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => Err(refused_or_not(address, &status)),
        Err(_) => Err(AskError::Unanswered {
            address,
            words: format!("nothing came within {ASK_TIMEOUT:?}"),
        }),
    }
}

fn refused_or_not(address: SocketAddr, status: &Status) -> AskError {
    let words = explain_status(status).unwrap_or_else(|| status.message().to_owned());
    match status.code() {
        Code::PermissionDenied
        | Code::Unauthenticated
        | Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::NotFound
        | Code::AlreadyExists
        | Code::OutOfRange
        | Code::Unimplemented => AskError::Refused { address, words },
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => AskError::Unanswered { address, words },
    }
}

fn granted(address: SocketAddr, reply: wire::EnrolReply) -> Result<Granted, AskError> {
    let bounded = |what, text: String, max: usize| {
        if text.len() <= max {
            return Ok(text);
        }
        Err(AskError::TooLarge {
            address,
            what,
            size: text.len(),
            max,
        })
    };
    let certificate = limits::CERTIFICATE_PEM_BYTES;
    Ok(Granted {
        certificate_pem: bounded("certificate", reply.certificate_pem, certificate)?,
        ca_pem: bounded("CA certificates", reply.ca_pem, limits::CA_PEM_BYTES)?,
        renew_after: Duration::from_millis(reply.renew_after_ms.min(limits::DURATION_MS)),
    })
}
