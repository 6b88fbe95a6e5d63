//! Agents that take no data: what they are told waits for ever.

use std::io;

use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::Endpoint;

use super::*;

impl Bench {
    /// A connection of an agent that takes no data: its windows are closed (RFC 9113 section 5.2).
    async fn connect_deaf(&self, agent: &Agent) -> Channel {
        let name = coordinator_dns_name(&"test".parse().unwrap());
        let (address, config) = (self.address, Arc::new(agent.config()));
        let server = ServerName::try_from(name.clone()).unwrap();
        let connector = tower::service_fn(move |_| {
            let (config, server) = (Arc::clone(&config), server.clone());
            async move {
                let stream = TcpStream::connect(address).await?;
                let stream = TlsConnector::from(config).connect(server, stream).await?;
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        });
        Endpoint::from_shared(format!("http://{name}"))
            .unwrap()
            .initial_stream_window_size(0)
            .connect_with_connector(connector)
            .await
            .unwrap()
    }

    /// A session of an agent that takes no data.
    pub(in super::super) async fn deaf_session(
        &self,
        agent: &Agent,
        hello: wire::Hello,
    ) -> Session {
        let first = wire::FromAgent {
            message: Some(Message::Hello(hello)),
        };
        let channel = self.connect_deaf(agent).await;
        Session::begin(channel, first).await.unwrap()
    }
}

impl Session {
    /// Says that nothing more comes; the coordinator's side stays open.
    pub(in super::super) fn close_half(self) -> Streaming<wire::ToAgent> {
        self.inbound
    }
}
