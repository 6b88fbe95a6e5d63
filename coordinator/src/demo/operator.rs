//! What the demo asks of its coordinator, over the socket that any operator on the same machine
//! would use.

use std::path::PathBuf;

use calvin_proto::wire::{self, operator_client::OperatorClient};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Status, Streaming,
    transport::{Channel, Endpoint},
};

use super::DemoError;

/// A connection to the coordinator, made anew whenever it was lost.
#[derive(Debug, Clone)]
pub(super) struct Operator {
    client: OperatorClient<Channel>,
}

impl Operator {
    /// Over this socket. Connects with the first call.
    pub(super) fn new(socket: PathBuf) -> Self {
        let connect = tower::service_fn(move |_: http::Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        // The address is only what the calls' headers show: the connector knows the socket.
        let channel =
            Endpoint::from_static("http://coordinator").connect_with_connector_lazy(connect);
        Self {
            client: OperatorClient::new(channel),
        }
    }

    pub(super) async fn about(&self) -> Result<wire::AboutReply, Status> {
        let request = wire::AboutRequest {};
        Ok(self.client.clone().about(request).await?.into_inner())
    }

    pub(super) async fn watch_status(&self) -> Result<Streaming<wire::StatusReply>, Status> {
        let request = wire::StatusRequest::default();
        Ok(self
            .client
            .clone()
            .watch_status(request)
            .await?
            .into_inner())
    }

    /// The phase of the fleet's newest rollout, if that is the one of this id.
    pub(super) async fn phase(
        &self,
        fleet: &str,
        rollout: &str,
    ) -> Result<Option<String>, DemoError> {
        let request = wire::StatusRequest {
            fleet: fleet.to_owned(),
        };
        let answer = self.client.clone().status(request).await;
        let status = asked(format!("show the rollout {rollout}"), answer)?;
        let newest = status.fleets.into_iter().find_map(|fleet| fleet.rollout);
        Ok(newest
            .filter(|newest| newest.id == rollout)
            .map(|newest| newest.phase))
    }

    pub(super) async fn add_image(&self, directory: PathBuf) -> Result<wire::Image, DemoError> {
        let request = wire::AddImageRequest {
            provider: String::new(),
            location: directory.to_string_lossy().into_owned(),
        };
        let answer = self.client.clone().add_image(request).await;
        asked(format!("take the image {}", directory.display()), answer)
    }

    pub(super) async fn apply(
        &self,
        file: &str,
        toml: &str,
    ) -> Result<wire::ChangeReply, DemoError> {
        let request = wire::ApplyFleetRequest {
            file: file.to_owned(),
            toml: toml.to_owned(),
            dry_run: false,
        };
        let answer = self.client.clone().apply_fleet(request).await;
        asked(format!("take the fleet file {file}"), answer)
    }

    pub(super) async fn start_rollout(
        &self,
        fleet: &str,
        image: &str,
    ) -> Result<wire::ChangeReply, DemoError> {
        let request = wire::StartRolloutRequest {
            fleet: fleet.to_owned(),
            image: image.to_owned(),
            plan: String::new(),
            emergency_reason: String::new(),
        };
        let answer = self.client.clone().start_rollout(request).await;
        asked(format!("start the rollout of {fleet} to {image}"), answer)
    }
}

fn asked<T>(doing: String, answer: Result<tonic::Response<T>, Status>) -> Result<T, DemoError> {
    match answer {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) => Err(DemoError::Asked {
            doing,
            source: Box::new(status),
        }),
    }
}
