//! A Consul client of a few lines, for tests.

use std::time::Duration;

use calvin_consul::{Client, Settings};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// A client that answers everything at once, by what is asked for.
pub(in crate::catalogue) async fn client_of(
    answer: impl Fn(&str) -> (&'static str, String) + Send + 'static,
) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 8192];
            let length = stream.read(&mut request).await.unwrap_or_default();
            let request = String::from_utf8_lossy(&request[..length]);
            let line = request.lines().next().unwrap_or_default();
            let asked = line.split(['?', ' ']).take(2).collect::<Vec<_>>().join(" ");
            let (status, body) = answer(&asked);
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nx-consul-index: 7\r\n\
                 connection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let settings = Settings {
        address: address.parse().unwrap(),
        timeout: Duration::from_secs(5),
        tls: None,
        token: None,
    };
    Client::new(settings).unwrap()
}
