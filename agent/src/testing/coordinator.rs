//! The coordinator's two services.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use arc_swap::ArcSwap;
use calvin_proto::{
    transport::{
        Trusted, incoming, server_builder, server_config,
        services::{enrolment_server, session_server},
    },
    wire,
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Ca, INSTANCE, Validity};

const DEADLINE: Duration = Duration::from_secs(20);

/// What an enrolment or a renewal gets.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Grant(Validity),
    /// A certificate of this instance.
    #[allow(dead_code, reason = "each test takes what it needs")]
    GrantTo(&'static str),
    /// Signs, and loses the answer on the way.
    Lose,
    Refuse(&'static str),
    /// A certificate of another instance.
    Other,
}

/// One call of the enrolment service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) renewal: bool,
    pub(crate) token: String,
    pub(crate) csr_der: Vec<u8>,
}

/// One session as the coordinator has it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) from_agent: Streaming<wire::FromAgent>,
    pub(crate) to_agent: mpsc::Sender<Result<wire::ToAgent, Status>>,
}

#[derive(Debug, Clone)]
struct Services {
    ca: Arc<Ca>,
    replies: Arc<Mutex<VecDeque<Reply>>>,
    asked: mpsc::UnboundedSender<Asked>,
    lines: mpsc::UnboundedSender<Line>,
    renew_after_ms: u64,
}

#[derive(Debug)]
pub(crate) struct Coordinator {
    pub(crate) address: SocketAddr,
    pub(crate) ca: Arc<Ca>,
    pub(crate) asked: mpsc::UnboundedReceiver<Asked>,
    pub(crate) lines: mpsc::UnboundedReceiver<Line>,
    _server: JoinSet<()>,
}

impl Coordinator {
    /// Listens, and gives `replies` in turn; the last again and again.
    pub(crate) async fn start(replies: &[Reply]) -> Self {
        Self::with(Arc::new(Ca::new()), replies).await
    }

    pub(crate) async fn with(ca: Arc<Ca>, replies: &[Reply]) -> Self {
        let trusted = Trusted::from_pem(&ca.pem()).unwrap();
        let (certificate, key) = ca.server();
        let tls = server_config(&trusted, &certificate, &key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked_in, asked) = mpsc::unbounded_channel();
        let (lines_in, lines) = mpsc::unbounded_channel();
        let services = Services {
            ca: ca.clone(),
            replies: Arc::new(Mutex::new(replies.iter().cloned().collect())),
            asked: asked_in,
            lines: lines_in,
            renew_after_ms: 3_600_000,
        };
        let accepted = incoming(
            listener,
            Arc::new(ArcSwap::from_pointee(tls)),
            Arc::new(|refused| tracing::info!(?refused, "handshake")),
        );
        let mut server = JoinSet::new();
        server.spawn(async move {
            let served = server_builder(16)
                .add_service(enrolment_server(services.clone()))
                .add_service(session_server(services))
                .serve_with_incoming(accepted);
            served.await.unwrap();
        });
        Self {
            address,
            ca,
            asked,
            lines,
            _server: server,
        }
    }

    pub(crate) async fn asked(&mut self) -> Asked {
        timeout(DEADLINE, self.asked.recv()).await.unwrap().unwrap()
    }

    pub(crate) async fn line(&mut self) -> Line {
        timeout(DEADLINE, self.lines.recv()).await.unwrap().unwrap()
    }
}

impl Services {
    fn answer(&self, asked: Asked) -> Result<Response<wire::EnrolReply>, Status> {
        let csr = asked.csr_der.clone();
        self.asked.send(asked).unwrap();
        let reply = {
            let mut replies = self.replies.lock().unwrap();
            if replies.len() > 1 {
                replies.pop_front().unwrap()
            } else {
                replies[0].clone()
            }
        };
        let certificate_pem = match reply {
            Reply::Grant(validity) => self.ca.sign(&csr, INSTANCE, validity),
            Reply::GrantTo(instance) => self.ca.sign(&csr, instance, Validity::Day),
            Reply::Lose => return Err(Status::unavailable("the line broke")),
            Reply::Refuse(why) => return Err(Status::permission_denied(why)),
            Reply::Other => self.ca.sign(&csr, "web-zzzzzzzz", Validity::Day),
        };
        Ok(Response::new(wire::EnrolReply {
            certificate_pem,
            ca_pem: self.ca.pem(),
            renew_after_ms: self.renew_after_ms,
        }))
    }
}

#[tonic::async_trait]
impl wire::enrolment_server::Enrolment for Services {
    async fn enrol(
        &self,
        request: Request<wire::EnrolRequest>,
    ) -> Result<Response<wire::EnrolReply>, Status> {
        let request = request.into_inner();
        let expected = match self.replies.lock().unwrap()[0] {
            Reply::GrantTo(instance) => instance,
            Reply::Grant(_) | Reply::Lose | Reply::Refuse(_) | Reply::Other => INSTANCE,
        };
        assert_eq!(request.instance, expected);
        self.answer(Asked {
            renewal: false,
            token: request.join_token,
            csr_der: request.csr_der,
        })
    }

    async fn renew(
        &self,
        request: Request<wire::RenewRequest>,
    ) -> Result<Response<wire::EnrolReply>, Status> {
        self.answer(Asked {
            renewal: true,
            token: String::new(),
            csr_der: request.into_inner().csr_der,
        })
    }
}

#[tonic::async_trait]
impl wire::agent_session_server::AgentSession for Services {
    type SessionStream = ReceiverStream<Result<wire::ToAgent, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<wire::FromAgent>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (to_agent, outbound) = mpsc::channel(16);
        let line = Line {
            from_agent: request.into_inner(),
            to_agent,
        };
        self.lines.send(line).unwrap();
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}

impl Line {
    /// The next message of the agent.
    pub(crate) async fn hear(&mut self) -> wire::from_agent::Message {
        let message = timeout(DEADLINE, self.from_agent.message()).await.unwrap();
        message.unwrap().unwrap().message.unwrap()
    }

    pub(crate) async fn hear_hello(&mut self) -> wire::Hello {
        match self.hear().await {
            wire::from_agent::Message::Hello(hello) => hello,
            wire::from_agent::Message::Report(report) => panic!("{report:?}"),
        }
    }

    /// The next report for which `good` holds.
    pub(crate) async fn hear_report(
        &mut self,
        good: impl Fn(&wire::Report) -> bool,
    ) -> wire::Report {
        let wait = async {
            loop {
                if let wire::from_agent::Message::Report(report) = self.hear().await
                    && good(&report)
                {
                    return report;
                }
            }
        };
        timeout(DEADLINE, wait).await.unwrap()
    }

    pub(crate) async fn say(&self, message: wire::to_agent::Message) {
        self.say_raw(wire::ToAgent {
            message: Some(message),
        })
        .await;
    }

    pub(crate) async fn say_raw(&self, message: wire::ToAgent) {
        self.to_agent.send(Ok(message)).await.unwrap();
    }

    /// Hears hello and says welcome.
    pub(crate) async fn begin(&mut self, epoch: u64) -> wire::Hello {
        let hello = self.hear_hello().await;
        self.say(wire::to_agent::Message::Welcome(welcome(epoch)))
            .await;
        hello
    }

    /// Waits until the agent has closed the stream.
    pub(crate) async fn closed(mut self) {
        let wait = async { while let Ok(Some(_)) = self.from_agent.message().await {} };
        timeout(DEADLINE, wait).await.unwrap();
    }
}

pub(crate) fn welcome(epoch: u64) -> wire::Welcome {
    wire::Welcome {
        protocol: 1,
        capabilities: Vec::new(),
        epoch: Some(wire_epoch(epoch)),
        report_interval_ms: 200,
        wall_ms: wall_ms(),
    }
}

fn wall_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.unwrap().as_millis()).unwrap()
}

pub(crate) fn wire_epoch(number: u64) -> wire::Epoch {
    wire::Epoch {
        number,
        run: "aa".into(),
    }
}

pub(crate) fn wanted(epoch: u64, generation: u64, role: wire::Role) -> wire::to_agent::Message {
    wire::to_agent::Message::Wanted(wire::Wanted {
        generation,
        epoch: Some(wire_epoch(epoch)),
        role: role.into(),
        drain: None,
    })
}
