//! What a test asks of its coordinator, over the socket on its machine.

use std::path::PathBuf;

use calvin_proto::wire::{self, operator_client::OperatorClient};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Response, Status,
    transport::{Channel, Endpoint},
};

/// A client of the operator service.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    pub(crate) client: OperatorClient<Channel>,
}

impl Operator {
    pub(crate) fn new(socket: PathBuf) -> Self {
        let connect = tower::service_fn(move |_: hyper::Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let channel =
            Endpoint::from_static("http://coordinator").connect_with_connector_lazy(connect);
        Self {
            client: OperatorClient::new(channel),
        }
    }

    pub(crate) async fn about(&self) -> Result<wire::AboutReply, Status> {
        self.client
            .clone()
            .about(wire::AboutRequest {})
            .await
            .map(Response::into_inner)
    }

    pub(crate) async fn status(&self) -> Result<wire::StatusReply, Status> {
        let request = wire::StatusRequest::default();
        self.client
            .clone()
            .status(request)
            .await
            .map(Response::into_inner)
    }

    pub(crate) async fn add_image(&self, folder: PathBuf) -> Result<wire::Image, Status> {
        let request = wire::AddImageRequest {
            provider: String::new(),
            location: folder.to_string_lossy().into_owned(),
        };
        self.client
            .clone()
            .add_image(request)
            .await
            .map(Response::into_inner)
    }

    pub(crate) async fn apply(&self, toml: &str) -> Result<wire::ChangeReply, Status> {
        let request = wire::ApplyFleetRequest {
            file: "fleet.toml".to_owned(),
            toml: toml.to_owned(),
            dry_run: false,
        };
        self.client
            .clone()
            .apply_fleet(request)
            .await
            .map(Response::into_inner)
    }

    pub(crate) async fn start(
        &self,
        fleet: &str,
        image: &str,
    ) -> Result<wire::ChangeReply, Status> {
        let request = wire::StartRolloutRequest {
            fleet: fleet.to_owned(),
            image: image.to_owned(),
            plan: String::new(),
            emergency_reason: String::new(),
        };
        self.client
            .clone()
            .start_rollout(request)
            .await
            .map(Response::into_inner)
    }

    pub(crate) async fn scale(&self, fleet: &str, count: u32) -> Result<wire::ChangeReply, Status> {
        let request = wire::ScaleFleetRequest {
            fleet: fleet.to_owned(),
            count,
        };
        self.client
            .clone()
            .scale_fleet(request)
            .await
            .map(Response::into_inner)
    }

    pub(crate) async fn history(&self, fleet: &str) -> Vec<wire::HistoryLine> {
        let request = wire::HistoryRequest {
            fleet: fleet.to_owned(),
            ..wire::HistoryRequest::default()
        };
        let mut stream = self
            .client
            .clone()
            .history(request)
            .await
            .expect("history is shown")
            .into_inner();
        let mut lines = Vec::new();
        while let Some(line) = stream.message().await.expect("history goes on") {
            lines.push(line);
        }
        lines
    }
}

/// The request of `abort`, `rollback` and `undo`.
pub(crate) fn rollout_request(fleet: &str) -> wire::RolloutRequest {
    wire::RolloutRequest {
        fleet: fleet.to_owned(),
        reason: "a test wants it".to_owned(),
    }
}

/// The request that only names a fleet.
pub(crate) fn fleet_request(fleet: &str) -> wire::FleetRequest {
    wire::FleetRequest {
        fleet: fleet.to_owned(),
    }
}
