//! More look-ups at once than are asked of Consul at a time.

use std::{collections::HashSet, time::Instant};

use hickory_proto::op::ResponseCode;
use tokio::{net::UdpSocket, time::timeout};

use super::{
    forwarded::{Agent, Fake},
    sockets::DEADLINE,
    *,
};

/// As many as fit into the socket that they are sent to, and twice as many as are asked at a time.
const CROWD: u16 = 150;

/// Asks for all at once: nothing is read before the last was sent.
async fn ask_at_once(agent: &Agent, names: impl Iterator<Item = String>) -> Vec<Message> {
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_nonblocking(true).unwrap();
    let mut open = HashSet::new();
    for (id, name) in names.enumerate() {
        let mut packet = query(&name, RecordType::A, Some(1232));
        let id = u16::try_from(id).unwrap();
        packet[..2].copy_from_slice(&id.to_be_bytes());
        client.send_to(&packet, agent.address).unwrap();
        open.insert(id);
    }
    let client = UdpSocket::from_std(client).unwrap();
    let mut buffer = [0; 4096];
    let mut replies = Vec::new();
    while !open.is_empty() {
        let length = timeout(DEADLINE, client.recv(&mut buffer)).await;
        let reply = Message::from_vec(&buffer[..length.unwrap().unwrap()]).unwrap();
        assert!(open.remove(&reply.metadata.id));
        replies.push(reply);
    }
    replies
}

fn different() -> impl Iterator<Item = String> {
    (0..CROWD).map(|number| format!("s{number}.service.prod.example"))
}

#[tokio::test]
async fn every_one_of_a_crowd_is_asked_of_a_consul_that_answers() {
    let fake = Fake::start();
    fake.says(ResponseCode::NoError, 2);
    let agent = Agent::asking(&fake).await;
    let replies = ask_at_once(&agent, different()).await;
    assert!(replies.iter().all(|reply| reply.answers.len() == 2));
    assert_eq!(agent.forwarder.seen().unwrap().stale, 0);
    assert_eq!(*fake.heard.borrow(), usize::from(CROWD));
}

#[tokio::test]
async fn a_crowd_that_asks_for_one_name_is_one_question_and_finds_every_instance_first() {
    let fake = Fake::start();
    let agent = Agent::asking(&fake).await;
    let name = || "web.service.prod.example".to_owned();
    let crowd = ask_at_once(&agent, std::iter::repeat_with(name).take(CROWD.into()));
    let consul = async {
        fake.heard
            .subscribe()
            .wait_for(|heard| *heard > 0)
            .await
            .unwrap();
        fake.says(ResponseCode::NoError, 3);
    };
    let (replies, ()) = tokio::join!(crowd, consul);
    assert_eq!(*fake.heard.borrow(), 1);
    let first: HashSet<_> = replies
        .iter()
        .map(|reply| data(&reply.answers)[0].clone())
        .collect();
    assert_eq!(first.len(), 3, "{first:?}");
}

#[tokio::test]
async fn a_crowd_that_asks_a_silent_consul_is_answered_out_of_memory_within_its_deadline() {
    let fake = Fake::start();
    fake.says(ResponseCode::NoError, 2);
    let agent = Agent::asking(&fake).await;
    ask_at_once(&agent, different()).await;
    fake.answer.send_replace(None);
    let began = Instant::now();
    let replies = ask_at_once(&agent, different()).await;
    // Half a second for a turn, half a second for an answer, and what a busy machine takes.
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert!(replies.iter().all(|reply| reply.answers.len() == 2));
    let seen = agent.forwarder.seen().unwrap();
    assert_eq!(seen.stale, u64::from(CROWD));
    assert!(seen.fault.is_some());
}
