//! A gate on the way from the agents to their coordinator, which a test opens and shuts, or has lose
//! an answer: the network as it is on a bad day.

use std::{
    fs, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
    task::JoinSet,
};

use super::environment::Environment;

/// Bytes that a client says at most before it asks for something: its part of the handshake and of
/// the beginning of HTTP/2. A request for a certificate has as many again.
const GREETING_BYTES: u64 = 600;

/// Bytes of an answer that a machine is waiting for: a certificate with its CA has more than a
/// thousand, what HTTP/2 says by itself some hundred.
const ANSWER_BYTES: u64 = 1_000;

/// What the gate does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It is closed at once.
    Shut,
    /// It goes through.
    Open,
    /// The first long answer after the handshake is lost and its connection with it; then the gate
    /// is open.
    LosesAnAnswer,
}

/// A gate. Dropped, it is shut for good.
pub(crate) struct Gate {
    way: watch::Sender<Way>,
    /// Answers that were lost.
    lost: Arc<AtomicU32>,
    _task: JoinSet<()>,
}

impl Environment {
    /// Has agents connect through a gate. Must be called before the coordinator is started.
    pub(crate) async fn use_gate(&self, way: Way) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let config = self.home().join("calvin.toml");
        let text = fs::read_to_string(&config).expect("it was written");
        let listen = format!("listen = \"{}\"\n", self.agents);
        assert!(text.contains(&listen), "{text}");
        let text = text.replace(&listen, &format!("{listen}advertise = [\"{address}\"]\n"));
        fs::write(&config, text).expect("a file can be written");

        let (way, _) = watch::channel(way);
        let lost = Arc::new(AtomicU32::new(0));
        let mut task = JoinSet::new();
        task.spawn(keep(listener, self.agents, way.clone(), Arc::clone(&lost)));
        Gate {
            way,
            lost,
            _task: task,
        }
    }
}

impl Gate {
    /// From now on; connections that are through stay so.
    pub(crate) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    pub(crate) fn lost(&self) -> u32 {
        self.lost.load(Ordering::Relaxed)
    }
}

async fn keep(
    listener: TcpListener,
    to: SocketAddr,
    way: watch::Sender<Way>,
    lost: Arc<AtomicU32>,
) {
    let mut connections = JoinSet::new();
    while let Ok((mut near, _)) = listener.accept().await {
        let (way, lost) = (way.clone(), Arc::clone(&lost));
        connections.spawn(async move {
            let now = *way.borrow();
            // Either side may break the connection at any time.
            let _: io::Result<()> = async {
                match now {
                    Way::Shut => {}
                    Way::Open => {
                        let mut far = TcpStream::connect(to).await?;
                        copy_bidirectional(&mut near, &mut far).await?;
                    }
                    Way::LosesAnAnswer => {
                        lose_an_answer(near, TcpStream::connect(to).await?).await?;
                        lost.fetch_add(1, Ordering::Relaxed);
                        way.send_replace(Way::Open);
                    }
                }
                Ok(())
            }
            .await;
        });
    }
}

/// Lets the handshake through and what the client says; ends when a long answer was swallowed.
async fn lose_an_answer(near: TcpStream, far: TcpStream) -> io::Result<()> {
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let said = AtomicU64::new(0);
    tokio::select! {
        ended = speak(near_read, far_write, &said) => ended,
        answered = hear(far_read, near_write, &said) => answered,
    }
}

/// From the client to the server, all of it. An end of the client is an error: nothing was lost.
async fn speak(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    said: &AtomicU64,
) -> io::Result<()> {
    let mut bytes = [0; 16 * 1024];
    loop {
        let count = from.read(&mut bytes).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let more = u64::try_from(count).expect("a buffer's length");
        said.fetch_add(more, Ordering::Relaxed);
        to.write_all(&bytes[..count]).await?;
    }
}

/// From the server to the client, as long as the client has only greeted; after that nothing.
async fn hear(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    said: &AtomicU64,
) -> io::Result<()> {
    let mut bytes = [0; 16 * 1024];
    let mut swallowed = 0;
    while swallowed < ANSWER_BYTES {
        let count = from.read(&mut bytes).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if said.load(Ordering::Relaxed) < GREETING_BYTES {
            to.write_all(&bytes[..count]).await?;
        } else {
            swallowed += u64::try_from(count).expect("a buffer's length");
        }
    }
    Ok(())
}
