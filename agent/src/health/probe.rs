//! One run of one check, in at most its timeout.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use calvin_lifecycle::CheckOutcome;
use calvin_model::image::{CheckKind, CheckSpec};
use http_body_util::Empty;
use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::{CheckContext, grpc};
use crate::{
    command::{CommandEnd, CommandOutcome, CommandSpec, Killed, run_command},
    fault::chain,
};

/// Characters of a command's output that are shown as the reason.
const REASON_CHARACTERS: usize = 120;
/// Headers of a reply that are read; a health page sends a dozen.
const HEADERS_MAX: usize = 64;
/// Bytes of a reply's head, at most.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Runs a check once.
pub(super) async fn run(spec: &CheckSpec, context: &CheckContext) -> CheckOutcome {
    let limit = spec.timeout.0;
    let result = match spec.kind() {
        Some(CheckKind::Http {
            path,
            port,
            method,
            headers,
        }) => {
            let address = SocketAddr::new(context.address, port);
            bounded(limit, ask(address, method, path, headers)).await
        }
        Some(CheckKind::Tcp { port }) => {
            let address = SocketAddr::new(context.address, port);
            bounded(limit, async { connect(address).await.map(drop) }).await
        }
        Some(CheckKind::Grpc { service, port }) => {
            let address = SocketAddr::new(context.address, port);
            bounded(limit, grpc::ask(address, service)).await
        }
        // It ends what it runs by itself, with all its children.
        Some(CheckKind::Exec { command }) => exec(command, limit, context).await,
        // Refused when the manifest is read.
        None => Err("it names no way to check".to_owned()),
    };
    match result {
        Ok(()) => CheckOutcome::Pass,
        Err(reason) => CheckOutcome::Fail(reason),
    }
}

async fn bounded(
    limit: Duration,
    check: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    match timeout(limit, check).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(address).await;
    stream.map_err(|error| format!("could not connect to {address}: {error}"))
}

/// Asks for a path; 200 to 299 passes. One connection for each run: a check must see what a new client
/// sees, and a connection that stays open would look like a client that never leaves.
async fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &BTreeMap<String, String>,
) -> Result<(), String> {
    let stream = connect(address).await?;
    let request = request(address, method, path, headers)
        .map_err(|error| format!("{path} cannot be asked for: {error}"))?;
    let talk = |error: hyper::Error| format!("{address} does not speak HTTP: {}", chain(&error));
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(talk)?;
    let response = sender.send_request(request);
    tokio::pin!(connection, response);
    let response = tokio::select! {
        biased;
        response = &mut response => response,
        // With its end the connection has handed over whatever came.
        ended = &mut connection => match ended {
            Ok(()) => response.await,
            Err(error) => Err(error),
        },
    };
    let response = response.map_err(talk)?;
    let status = response.status();
    if status.is_success() {
        Ok(())
    } else {
        Err(format!("{path} answered {}", status.as_u16()))
    }
}

/// The image's own headers come in place of ours.
fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &BTreeMap<String, String>,
) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, address.to_string())
        .header(header::USER_AGENT, "calvin-agent")
        .header(header::CONNECTION, "close")
        .body(Empty::new())?;
    for (name, value) in headers {
        let name = header::HeaderName::from_bytes(name.as_bytes())?;
        let value = header::HeaderValue::from_str(value)?;
        request.headers_mut().insert(name, value);
    }
    Ok(request)
}

async fn exec(command: &[String], limit: Duration, context: &CheckContext) -> Result<(), String> {
    let spec = CommandSpec::new(
        command,
        &context.variables,
        &BTreeMap::new(),
        &context.image,
    )
    .map_err(|error| error.to_string())?;
    let outcome = run_command(&spec, limit).await;
    if outcome.passed() {
        return Ok(());
    }
    Err(why(&outcome))
}

/// How a command that did not pass ended, with the last line that it wrote.
pub(crate) fn why(outcome: &CommandOutcome) -> String {
    let mut reason = match &outcome.end {
        CommandEnd::Ended(end) => format!("ended with {end}"),
        CommandEnd::TimedOut(Killed::Gone) => format!("killed after {:.1?}", outcome.took),
        CommandEnd::TimedOut(Killed::WaitsInKernel) => format!(
            "killed after {:.1?}, and cannot end: it waits in the kernel, for a disk or a file \
             server that does not answer",
            outcome.took
        ),
        CommandEnd::NotStarted(error) => format!("could not be started: {error}"),
    };
    let last = outcome
        .output
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty());
    if let Some(line) = last {
        let shown: String = line.trim().chars().take(REASON_CHARACTERS).collect();
        reason.push_str(": ");
        reason.push_str(&shown);
    }
    reason
}
