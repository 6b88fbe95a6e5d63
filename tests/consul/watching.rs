//! Queries that wait: woken by a change, begun anew after a reset, and never a busy loop.

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use calvin_consul::{
    Advance, Client, Consistency, Key, Prefix, Reason, Seen, Settings, Watch, WatchOptions,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    task::yield_now,
    time::{sleep, timeout},
};

use crate::{
    registration::service,
    support::{
        Datacenter, agent, coordinator,
        datacenter::MANAGEMENT,
        process::Process,
        shared,
        shared::NODE,
        stranger::{Said, Stranger},
        until,
        waiting::LIMIT,
    },
};

/// So long nothing may come where nothing changes.
const QUIET: Duration = Duration::from_millis(1500);

#[tokio::test]
async fn a_watch_of_a_service_wakes_at_a_change_and_not_without() {
    let datacenter = shared();
    let coordinator = coordinator(datacenter, "watch-svc").await;
    let agent = agent(datacenter, &coordinator, "watch-svc", &["watch-svc"]).await;
    let mut watch = coordinator
        .watch_service("watch-svc", WatchOptions::default())
        .unwrap();
    let first = watch.next().await.unwrap();
    assert_eq!(
        (first.advance, &first.read.value[..]),
        (Advance::First, &[][..])
    );
    assert!(timeout(QUIET, watch.next()).await.is_err());
    // The query was dropped with the wait for it; nothing is missed.
    agent.register(&service("watch-svc", vec![])).await.unwrap();
    let seen = timeout(Duration::from_secs(30), watch.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((seen.advance, seen.read.value.len()), (Advance::Changed, 1));
    assert!(seen.read.index > first.read.index && seen.read.known_leader);
    agent.deregister("watch-svc-1").await.unwrap();
    until("it gone", async || {
        let seen = watch.next().await.unwrap();
        if seen.read.value.is_empty() {
            Ok(())
        } else {
            Err(seen)
        }
    })
    .await;
}

#[tokio::test]
async fn keys_prefixes_and_nodes_can_be_watched() {
    let datacenter = shared();
    let consul = coordinator(datacenter, "watch-key").await;
    let prefix: Prefix = "calvin/watch-key/".parse().unwrap();
    let key = prefix.key("a").unwrap();
    let options = WatchOptions {
        consistency: Consistency::Consistent,
        ..WatchOptions::default()
    };
    let mut one = consul.watch_key(&key, options);
    let mut all = consul.watch_prefix(&prefix, options);
    assert_eq!(one.next().await.unwrap().read.value, None);
    assert_eq!(all.next().await.unwrap().read.value, []);
    let (write, seen, listed) = tokio::join!(consul.kv_put(&key, vec![1]), one.next(), all.next());
    write.unwrap();
    assert_eq!(seen.unwrap().read.value.unwrap().value, [1]);
    assert_eq!(listed.unwrap().read.value.len(), 1);
    consul.kv_delete(&key).await.unwrap();
    let gone = timeout(Duration::from_secs(30), one.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((gone.advance, gone.read.value), (Advance::Changed, None));
    let nodes = consul.watch_nodes(options).next().await.unwrap();
    assert!(nodes.read.value.iter().any(|node| node.name == NODE));
}

/// The next value of servers that may be gone, or not yet there again, or lose their leader once more in
/// their first moments: that is an error, and no answer.
async fn next<T>(watch: &mut Watch<T>) -> Seen<T> {
    let seen = async {
        loop {
            match watch.next().await {
                Ok(seen) => return seen,
                Err(error) => assert!(error.is_transient() || error.is_denied(), "{error:?}"),
            }
        }
    };
    timeout(LIMIT, seen).await.expect("the watch goes on")
}

#[tokio::test]
async fn servers_begun_anew_reset_the_watch_and_it_goes_on() {
    let mut datacenter = Datacenter::start(1, json!({})).await;
    let client = datacenter.client(&datacenter.servers[0], Some(MANAGEMENT));
    let key: Key = "a".parse().unwrap();
    for n in 0..100 {
        client.kv_put(&key, vec![n]).await.unwrap();
    }
    let mut watch = client.watch_key(&key, WatchOptions::default());
    let before = watch.next().await.unwrap();
    assert!(before.read.index > 100);
    // As after a restore of an old snapshot, or a data directory that was lost; and with the query
    // under way.
    let began_anew = async |server: &mut Process| {
        server.kill();
        fs::remove_dir_all(server.directory.join("data")).unwrap();
        server.start_again();
    };
    let watching = tokio::spawn(async move {
        let seen = next(&mut watch).await;
        (watch, seen)
    });
    yield_now().await;
    began_anew(&mut datacenter.servers[0]).await;
    let (mut watch, reset) = watching.await.unwrap();
    assert_eq!((reset.advance, reset.read.value), (Advance::Reset, None));
    assert!(reset.read.index < before.read.index);
    until("a write", async || client.kv_put(&key, vec![7]).await).await;
    until("the write", async || {
        let value = next(&mut watch).await.read.value;
        let is = value.as_ref().is_some_and(|entry| entry.value == [7]);
        is.then_some(()).ok_or(value)
    })
    .await;

    // And with no query under way: a watch that nobody polls notices as soon as somebody does.
    for n in 0..100 {
        until("a write", async || client.kv_put(&key, vec![n]).await).await;
    }
    let before = until("the last write", async || {
        let seen = next(&mut watch).await;
        let value = seen.read.value.as_ref().unwrap().value[0];
        if value == 99 { Ok(seen) } else { Err(value) }
    })
    .await;
    began_anew(&mut datacenter.servers[0]).await;
    until("a leader", async || client.token_self().await.map(drop)).await;
    let reset = next(&mut watch).await;
    assert_eq!((reset.advance, reset.read.value), (Advance::Reset, None));
    assert!(reset.read.index < before.read.index);
}

/// A Consul that takes no further connection for as long as `full` holds the others that it would take.
async fn crowd(address: SocketAddr) -> Vec<TcpStream> {
    let mut full = Vec::new();
    while let Ok(Ok(stream)) = timeout(QUIET / 10, TcpStream::connect(address)).await {
        full.push(stream);
    }
    full
}

/// Answers one request that comes with this index, and says what was asked.
async fn answer(listener: &TcpListener, index: u64) -> String {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                // One of those that only crowded.
                Err(_) => break,
            }
        }
        let text = format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nX-Consul-Index: {index}\r\n\
             Content-Length: 2\r\n\r\n[]"
        );
        if !head.is_empty() && stream.write_all(text.as_bytes()).await.is_ok() {
            let head = String::from_utf8(head).unwrap();
            return head.lines().next().unwrap().to_owned();
        }
    }
}

#[tokio::test]
async fn a_query_that_could_not_be_sent_at_once_looks_before_it_waits() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let client = Client::new(Settings {
        address: format!("http://{address}").parse().unwrap(),
        timeout: LIMIT,
        tls: None,
        token: None,
    })
    .unwrap();
    let mut watch = client
        .watch_service("web", WatchOptions::default())
        .unwrap();
    let (first, asked) = tokio::join!(watch.next(), answer(&listener, 900));
    assert_eq!(first.unwrap().read.index, 900);
    assert!(!asked.contains("index="), "{asked}");

    // Whoever takes it at last was begun anew.
    let full = crowd(address).await;
    let begun_anew = async {
        sleep(QUIET).await;
        drop(full);
        answer(&listener, 12).await
    };
    let (seen, asked) = tokio::join!(watch.next(), begun_anew);
    assert!(!asked.contains("index="), "{asked}");
    assert_eq!(seen.unwrap().advance, Advance::Reset);
}

fn said(after_ms: u64, index: &'static str) -> Said {
    Said {
        after: Duration::from_millis(after_ms),
        status: 200,
        headers: index,
        body: "[]",
    }
}

#[tokio::test]
async fn a_query_may_take_as_long_as_it_waits_and_a_sixteenth_and_an_answer() {
    let wait = Duration::from_secs(3);
    let options = WatchOptions {
        wait,
        ..WatchOptions::default()
    };
    // The second answer comes long after the client's own limit, and within the wait's.
    let answers = vec![
        said(0, "X-Consul-Index: 5\r\n"),
        said(2800, "X-Consul-Index: 6\r\n"),
    ];
    let stranger = Stranger::new(answers, Duration::from_millis(500)).await;
    let mut watch = stranger.client.watch_service("web", options).unwrap();
    watch.next().await.unwrap();
    assert_eq!(watch.next().await.unwrap().advance, Advance::Changed);
    let asked = stranger.asked();
    assert_eq!(asked[0], "/v1/health/service/web?merge-central-config");
    let wait_ms: u64 = asked[1]
        .strip_prefix("/v1/health/service/web?merge-central-config&index=5&wait=")
        .and_then(|wait| wait.strip_suffix("ms")?.parse().ok())
        .unwrap_or_else(|| panic!("{asked:?}"));
    assert!((2700..=3000).contains(&wait_ms), "{wait_ms}");

    let silent = vec![said(0, "X-Consul-Index: 5\r\n"), said(60_000, "")];
    let stranger = Stranger::new(silent, Duration::from_millis(500)).await;
    let mut watch = stranger.client.watch_service("web", options).unwrap();
    watch.next().await.unwrap();
    let started = Instant::now();
    let error = watch.next().await.unwrap_err();
    assert!(matches!(error.reason, Reason::TimedOut { .. }), "{error:?}");
    assert!(started.elapsed() >= wait.mul_f64(0.9) + Duration::from_millis(500));
    // And the next one does not wait: it asks what is there.
    let error = watch.next().await.unwrap_err();
    let limit = Duration::from_millis(500);
    assert!(
        matches!(error.reason, Reason::TimedOut { limit: told } if told == limit),
        "{error:?}"
    );
    assert_eq!(*stranger.asked().last().unwrap(), asked[0]);
}

#[tokio::test]
async fn a_consul_that_gives_no_index_does_not_make_a_busy_loop() {
    let stranger = Stranger::new(vec![said(0, "")], Duration::from_secs(5)).await;
    let mut watch = stranger
        .client
        .watch_service("web", WatchOptions::default())
        .unwrap();
    watch.next().await.unwrap();
    assert!(timeout(QUIET, watch.next()).await.is_err());
    let asked = stranger.asked();
    assert!(asked[1].contains("index=1&wait="), "{asked:?}");
    // Twenty a second at most, though each answer comes at once.
    assert!(asked.len() <= 32, "{} queries", asked.len());
}

#[tokio::test]
async fn a_watch_that_fails_pauses_longer_each_time() {
    let fails = Said {
        status: 500,
        body: "No cluster leader",
        ..said(0, "")
    };
    let stranger = Stranger::new(vec![fails], Duration::from_secs(5)).await;
    let mut watch = stranger
        .client
        .watch_service("web", WatchOptions::default())
        .unwrap();
    let started = Instant::now();
    for _ in 0..4 {
        let error = watch.next().await.unwrap_err();
        assert!(matches!(error.reason, Reason::NoLeader { .. }), "{error:?}");
    }
    // A quarter, a half and a whole second, each between its half and its whole.
    assert!(
        started.elapsed() >= Duration::from_millis(875),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(stranger.asked().len(), 4);
}
