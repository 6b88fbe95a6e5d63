//! Somebody who speaks to a coordinator's agent listener by hand: an agent that a test plays, or
//! one that should be refused.

use std::{fs, path::Path, sync::Arc};

use calvin_model::Provision;
use calvin_proto::{
    limits::{PROTOCOL_MAX, PROTOCOL_MIN},
    transport::{self, Trusted},
    wire::{self, EnrolReply, EnrolRequest, FromAgent, Hello, ToAgent, from_agent::Message},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use super::{Environment, files::Fleet, waiting::until};

/// A private key and the certificate for it, PEM.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// An environment with machines that have first-boot data and nothing else.
pub(crate) async fn with_silent_machines(count: u32) -> (Environment, Vec<String>) {
    let mut environment = Environment::prepare();
    let instances = silent_machines(&mut environment, count).await;
    (environment, instances)
}

/// Starts an environment that was prepared, with machines that have first-boot data and nothing
/// else.
pub(crate) async fn silent_machines(environment: &mut Environment, count: u32) -> Vec<String> {
    environment.use_silent_agent();
    environment.start_coordinator().await;
    environment.add_web_images(&[("1.0", "")]).await;
    let fleet = Fleet {
        healthy_deadline: "10m",
        ..Fleet::new("web", "web@1.0", count)
    };
    environment.operator.apply(&fleet.toml()).await.unwrap();
    until("first-boot data", async || {
        let machines = environment.home().join("data/machines");
        let found: Vec<String> = fs::read_dir(machines)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|machine| machine.path().join("provision.toml").is_file())
            .map(|machine| machine.file_name().to_string_lossy().into_owned())
            // A directory that is still being made has a name with a dot before it.
            .filter(|name| !name.starts_with('.'))
            .collect();
        if found.len() == count as usize {
            Ok(found)
        } else {
            Err(found)
        }
    })
    .await
}

/// What a machine was given, read from its directory.
pub(crate) fn provision(environment: &Environment, instance: &str) -> Provision {
    let path = environment
        .home()
        .join("data/machines")
        .join(instance)
        .join("provision.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    Provision::parse("provision.toml", &text).unwrap()
}

/// A connection to a listener of this environment, with an identity or without.
pub(crate) async fn connect(
    environment: &Environment,
    address: std::net::SocketAddr,
    identity: Option<&Identity>,
) -> Result<Channel, String> {
    let ca = environment.ca_pem().await;
    let trusted = Trusted::from_pem(&ca).unwrap();
    let identity = identity.map(|it| (it.certificate.as_str(), it.key.as_str()));
    let config = transport::client_config(&trusted, identity).unwrap();
    let name = transport::coordinator_dns_name(&"test".parse().unwrap());
    transport::connect(address, &name, Arc::new(config))
        .await
        .map_err(|error| in_words(&error))
}

/// An error and its causes.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(&format!(": {source}"));
        cause = source.source();
    }
    text
}

/// Asks for a certificate with this token, for a new key.
pub(crate) async fn enrol(
    environment: &Environment,
    instance: &str,
    token: &str,
) -> Result<Identity, Status> {
    let key = transport::new_key().unwrap();
    enrol_with_key(environment, "test", instance, token, &key)
        .await
        .map(|reply| Identity {
            certificate: reply.certificate_pem,
            key,
        })
}

/// Asks for a certificate with this token, for this key.
pub(crate) async fn enrol_with_key(
    environment: &Environment,
    environment_name: &str,
    instance: &str,
    token: &str,
    key: &str,
) -> Result<EnrolReply, Status> {
    let channel = connect(environment, environment.agents, None)
        .await
        .unwrap();
    let request = EnrolRequest {
        environment: environment_name.to_owned(),
        instance: instance.to_owned(),
        join_token: token.to_owned(),
        csr_der: transport::signing_request(key).unwrap(),
    };
    let mut client = transport::services::enrolment_client(channel);
    client.enrol(request).await.map(tonic::Response::into_inner)
}

/// A session that a test plays.
pub(crate) struct Session {
    pub(crate) send: mpsc::Sender<FromAgent>,
    pub(crate) receive: Streaming<ToAgent>,
}

impl Session {
    /// Opens the stream with `first` as its first message.
    pub(crate) async fn open(channel: Channel, first: FromAgent) -> Result<Self, Status> {
        let (send, messages) = mpsc::channel(64);
        send.send(first).await.expect("the receiver is here");
        let mut client = transport::services::session_client(channel);
        let receive = client
            .session(ReceiverStream::new(messages))
            .await?
            .into_inner();
        Ok(Self { send, receive })
    }

    /// Reads until the stream ends; the reason.
    pub(crate) async fn end(&mut self) -> Status {
        loop {
            match self.receive.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok("ended without a reason"),
                Err(status) => return status,
            }
        }
    }
}

/// A session that must be refused, with this identity; why it was.
pub(crate) async fn refused_session(
    environment: &Environment,
    identity: Option<&Identity>,
    claims: &str,
) -> Result<Status, String> {
    let channel = connect(environment, environment.agents, identity).await?;
    Ok(
        match Session::open(channel, hello(environment, claims)).await {
            Err(status) => status,
            Ok(mut session) => session.end().await,
        },
    )
}

/// A good hello of this instance.
pub(crate) fn hello(environment: &Environment, instance: &str) -> FromAgent {
    let machine = environment.home().join("data/machines").join(instance);
    FromAgent {
        message: Some(Message::Hello(Hello {
            version: "test".to_owned(),
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            boot_id: "0a".to_owned(),
            manifest_digest: manifest_digest(&machine.join("image/image.toml")),
            environment: "test".to_owned(),
            instance: instance.to_owned(),
            ..Hello::default()
        })),
    }
}

/// A good report of this sequence number.
pub(crate) fn report(sequence: u64) -> FromAgent {
    FromAgent {
        message: Some(Message::Report(wire::Report {
            boot_id: "0a".to_owned(),
            sequence,
            health: wire::Health::Healthy.into(),
            workload: wire::WorkloadState::Running.into(),
            ..wire::Report::default()
        })),
    }
}

fn manifest_digest(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
    let digest: [u8; 32] = digest.as_ref().try_into().expect("SHA-256 has 32 bytes");
    calvin_model::Digest::from_sha256(digest)
        .as_str()
        .to_owned()
}
