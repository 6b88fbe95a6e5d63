//! The connection to a coordinator: found, opened and asked with a limit on every wait.

use std::{future::Future, sync::Arc, time::Duration};

use calvin_proto::{
    limits,
    transport::{self, Trusted},
    wire::{AboutReply, AboutRequest, operator_client::OperatorClient},
};
use tokio::{net::lookup_host, time::timeout};
use tonic::{Response, Status, transport::Channel};

use super::{
    contexts::read,
    exit::Exit,
    failure::Failure,
    target::{Target, TlsTarget},
};

/// How long a call may take unless `--timeout` says otherwise. A change is one commit to the store
/// (below 1 s on a slow disk); the rest is for a busy coordinator.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(30);

/// The operator service, as generated.
pub(crate) type Client = OperatorClient<Channel>;

/// A connection to a coordinator.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    client: Client,
    limit: Duration,
}

impl Caller {
    /// Connects. `limit` bounds the connecting, and each call after it.
    pub(crate) async fn connect(target: &Target, limit: Duration) -> Result<Self, Failure> {
        let channel = match timeout(limit, open(target)).await {
            Ok(channel) => channel?,
            Err(_) => {
                return Err(unreachable(target).reason(format!("no answer within {limit:?}")));
            }
        };
        let client = OperatorClient::new(channel)
            .max_decoding_message_size(limits::OPERATOR_REPLY_BYTES)
            .max_encoding_message_size(limits::OPERATOR_REQUEST_BYTES);
        Ok(Self { client, limit })
    }

    /// The client for a call of its own.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Waits for the answer to a call; `tried` says what is not done if none comes.
    pub(crate) async fn ask<T>(
        &self,
        tried: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        match timeout(self.limit, call).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) => Err(refusal(tried, &status)),
            Err(_) => Err(Failure::new(Exit::Timeout, tried)
                .reason(format!(
                    "the coordinator did not answer within {:?}",
                    self.limit
                ))
                .next("whether it was done is not known; look with: calvin status")),
        }
    }

    /// Who is called, and as whom.
    pub(crate) async fn about(&self) -> Result<AboutReply, Failure> {
        let mut client = self.client();
        self.ask(
            "could not ask which environment this is",
            client.about(AboutRequest {}),
        )
        .await
    }
}

/// What the coordinator, or TLS below it, said instead of doing `tried`.
pub(crate) fn refusal(tried: &str, status: &Status) -> Failure {
    match transport::explain_status(status) {
        // In TLS 1.3 a refused certificate shows itself at the first call.
        Some(reason) => Failure::new(Exit::CouldNotAsk, tried)
            .reason(reason)
            .next("calvin doctor looks at this context's certificate"),
        None => Failure::answered(tried, status),
    }
}

fn unreachable(target: &Target) -> Failure {
    let failure = Failure::new(
        Exit::CouldNotAsk,
        format!("could not reach {}", target.words()),
    );
    match target.socket() {
        Some(_) => failure.next(
            "a coordinator's socket lies in its data directory (DATA/run/operator.sock), and \
             calvin serve prints it; name it with --socket",
        ),
        None => failure.next("calvin doctor looks at this context's files and the way there"),
    }
}

async fn open(target: &Target) -> Result<Channel, Failure> {
    match target {
        Target::Socket(path) => transport::connect_unix(path)
            .await
            .map_err(|error| unreachable(target).because(Bare::of(&error))),
        Target::Tls(tls) => open_tls(target, tls).await,
    }
}

async fn open_tls(target: &Target, tls: &TlsTarget) -> Result<Channel, Failure> {
    let unusable = |error: transport::TlsError| {
        let tried = format!(
            "could not use the certificates of the context {}",
            tls.context
        );
        Failure::new(Exit::Usage, tried).because(error)
    };
    let trusted = Trusted::from_pem(&read(&tls.ca)?).map_err(unusable)?;
    let (certificate, key) = (read(&tls.certificate)?, read(&tls.key)?);
    let config = transport::client_config(&trusted, Some((certificate.as_str(), key.as_str())))
        .map_err(unusable)?;
    let config = Arc::new(config);
    let name = transport::coordinator_dns_name(&tls.environment);
    let addresses = lookup_host(&tls.address)
        .await
        .map_err(|error| unreachable(target).because(error))?;
    let mut failure = unreachable(target).reason("its name has no address");
    for address in addresses {
        match transport::connect(address, &name, Arc::clone(&config)).await {
            Ok(channel) => return Ok(channel),
            Err(error) => {
                let reason = error.explain().unwrap_or_else(|| Bare::of(&error).0);
                failure = unreachable(target).reason(format!("{address}: {reason}"));
            }
        }
    }
    Err(failure)
}

/// The innermost cause of a failed connection: the layers above it say only that it failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Bare(String);

impl Bare {
    fn of(error: &dyn std::error::Error) -> Self {
        let mut innermost = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        Self(innermost.to_string())
    }
}
