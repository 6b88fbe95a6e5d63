//! Somebody who speaks HTTP as a test tells him to, in Consul's place.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use calvin_consul::{Client, Settings};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::sleep,
};

/// One answer.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) after: Duration,
    pub(crate) status: u16,
    pub(crate) headers: &'static str,
    pub(crate) body: &'static str,
}

/// The stranger.
pub(crate) struct Stranger {
    pub(crate) client: Client,
    connections: Arc<AtomicUsize>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Stranger {
    /// Listens, and gives these answers one after the other, the last one again and again.
    pub(crate) async fn new(answers: Vec<Said>, timeout: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (count, targets) = (connections.clone(), asked.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let place = count.fetch_add(1, Ordering::Relaxed);
                let said = answers.get(place).or(answers.last()).cloned();
                tokio::spawn(answer(stream, said, targets.clone()));
            }
        });
        let client = Client::new(Settings {
            address: format!("http://{address}").parse().unwrap(),
            timeout,
            tls: None,
            token: None,
        })
        .unwrap();
        Self {
            client,
            connections,
            asked,
        }
    }

    /// How often somebody connected.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// What was asked for, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(mut stream: TcpStream, said: Option<Said>, targets: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else {
            return;
        };
        head.push(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    targets.lock().unwrap().push(target);
    let Some(said) = said else { return };
    sleep(said.after).await;
    let text = format!(
        "HTTP/1.1 {} Test\r\nConnection: close\r\n{}Content-Length: {}\r\n\r\n{}",
        said.status,
        said.headers,
        said.body.len(),
        said.body
    );
    // Who asked may have gone.
    let _ = stream.write_all(text.as_bytes()).await;
}
