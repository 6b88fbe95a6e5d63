//! Asks a gRPC server how it is: `Check` of `grpc.health.v1`, without TLS, as Consul's own check does.

use std::{error::Error as _, net::SocketAddr};

use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::fault::chain;

/// Bytes of an answer, at most; a status has two.
const ANSWER_BYTES_MAX: usize = 1024;
/// Bytes of a reply's headers, at most, as for HTTP.
const HEAD_BYTES_MAX: u32 = 16 * 1024;
/// Characters of what a server says of its refusal.
const MESSAGE_CHARACTERS: usize = 120;

/// Asks once after a service, or after the server where that is empty; `SERVING` passes. One connection
/// for each run, as a new client has it: it ends when this does.
pub(super) async fn ask(address: SocketAddr, service: &str) -> Result<(), String> {
    let channel = connect(address).await;
    let channel = channel.map_err(|error| {
        let error = chain(&error);
        format!("could not connect to {address}: {error}")
    })?;
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let mut client = HealthClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
    let asked = match service {
        "" => address.to_string(),
        service => format!("gRPC service {service}"),
    };
    match client.check(request).await {
        Ok(answer) => match answer.get_ref().status() {
            ServingStatus::Serving => Ok(()),
            status @ (ServingStatus::NotServing
            | ServingStatus::Unknown
            | ServingStatus::ServiceUnknown) => Err(format!("{asked} is {}", status.as_str_name())),
        },
        Err(status) => Err(refusal(address, &asked, &status)),
    }
}

async fn connect(address: SocketAddr) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    endpoint
        .user_agent("calvin-agent")?
        .http2_max_header_list_size(HEAD_BYTES_MAX)
        .connect()
        .await
}

/// Why there is no status.
fn refusal(address: SocketAddr, asked: &str, status: &Status) -> String {
    let code = status.code();
    if code == Code::NotFound {
        return format!("{asked} is not known to the server at {address}");
    }
    if code == Code::Unimplemented {
        return format!("{address} has no grpc.health.v1");
    }
    let short = |text: &str| -> String { text.chars().take(MESSAGE_CHARACTERS).collect() };
    match status.source() {
        Some(broken) => format!("{address} does not speak gRPC: {}", short(&chain(broken))),
        None => format!("{asked} answered {code:?}: {}", short(status.message())),
    }
}
