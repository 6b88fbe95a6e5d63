//! Several operations at once: all or none, and in parts where they are too many.

use std::time::Duration;

use calvin_consul::{
    Client, Consistency, Key, Prefix, Reason, SessionId,
    session::{Behavior, SessionRequest},
    txn::{OPS_MAX, Op, OpResult, Outcome},
};

use crate::support::{coordinator, shared};

/// A session that has the lock on `leader`, as a coordinator has.
pub(crate) async fn leader(consul: &Client, prefix: &Prefix) -> (Key, SessionId) {
    let session = consul
        .session_create(&SessionRequest {
            name: "leader".to_owned(),
            ttl: Some(Duration::from_secs(600)),
            lock_delay: Duration::ZERO,
            behavior: Behavior::Release,
            node_checks: Vec::new(),
        })
        .await
        .unwrap();
    let key = prefix.key("leader").unwrap();
    let _ = consul.kv_acquire(&key, vec![], &session).await.unwrap();
    (key, session)
}

fn sets(prefix: &Prefix, count: usize) -> Vec<Op> {
    let set = |n: usize| Op::KvSet {
        key: prefix.key(&format!("n{n:03}")).unwrap(),
        value: n.to_string().into_bytes(),
    };
    (0..count).map(set).collect()
}

async fn count(consul: &Client, prefix: &Prefix) -> usize {
    let read = consul
        .kv_list(prefix, Consistency::Consistent)
        .await
        .unwrap();
    read.value
        .iter()
        .filter(|entry| !entry.value.is_empty())
        .count()
}

#[tokio::test]
async fn all_of_it_is_done_or_nothing() {
    let consul = coordinator(shared(), "txn-all").await;
    let prefix: Prefix = "calvin/txn-all/".parse().unwrap();
    let key = |name: &str| prefix.key(name).unwrap();
    let set = |name: &str| Op::KvSet {
        key: key(name),
        value: b"x".to_vec(),
    };
    let conflict = [
        set("a"),
        Op::CheckIndex {
            key: key("b"),
            index: 7,
        },
    ];
    let Outcome::RolledBack(failures) = consul.transaction(&conflict).await.unwrap() else {
        panic!("it was done");
    };
    assert_eq!(failures[0].op_index, 1, "{failures:?}");
    assert_eq!(count(&consul, &prefix).await, 0);

    let all = [
        Op::CheckAbsent { key: key("a") },
        set("a"),
        Op::KvGet { key: key("a") },
    ];
    let Outcome::Done(results) = consul.transaction(&all).await.unwrap() else {
        panic!("it was not done");
    };
    let Some(OpResult::Kv(read)) = results.last() else {
        panic!("nothing was read: {results:?}");
    };
    assert_eq!(read.value, b"x");
    let index = read.modify_index;

    let cas = |index| Op::KvCas {
        key: key("a"),
        value: b"y".to_vec(),
        index,
    };
    assert!(matches!(
        consul.transaction(&[cas(index - 1)]).await.unwrap(),
        Outcome::RolledBack(_)
    ));
    assert!(matches!(
        consul.transaction(&[cas(index)]).await.unwrap(),
        Outcome::Done(_)
    ));
    let delete = |index| Op::KvDeleteCas {
        key: key("a"),
        index,
    };
    assert!(matches!(
        consul.transaction(&[delete(index)]).await.unwrap(),
        Outcome::RolledBack(_)
    ));
    let delete = [Op::KvDelete { key: key("a") }];
    assert!(matches!(
        consul.transaction(&delete).await.unwrap(),
        Outcome::Done(_)
    ));
    assert_eq!(count(&consul, &prefix).await, 0);
}

#[tokio::test]
async fn what_the_token_may_not_do_is_denied_and_not_a_conflict() {
    let consul = coordinator(shared(), "txn-deny").await;
    let ops = [Op::KvSet {
        key: "other/txn-deny".parse().unwrap(),
        value: vec![1],
    }];
    let error = consul.transaction(&ops).await.unwrap_err();
    let Reason::Denied {
        rule: Some(rule), ..
    } = &error.reason
    else {
        panic!("{error:?}");
    };
    assert_eq!(rule.hcl(), "key \"other/txn-deny\" { policy = \"write\" }");
}

#[tokio::test]
async fn more_than_fit_go_in_parts_that_each_check_the_lock() {
    let consul = coordinator(shared(), "txn-parts").await;
    let prefix: Prefix = "calvin/txn-parts/".parse().unwrap();
    let (key, session) = leader(&consul, &prefix).await;
    let guards = [Op::CheckSession {
        key: key.clone(),
        session: session.clone(),
    }];
    let ops = sets(&prefix, 150);
    let error = consul.transaction(&ops).await.unwrap_err();
    assert!(matches!(error.reason, Reason::TooLarge { .. }), "{error:?}");
    assert_eq!(count(&consul, &prefix).await, 0);

    let parts = consul.transactions(&guards, &ops).await.unwrap();
    assert!(parts.is_whole(), "{:?}", parts.stopped);
    let lengths: Vec<_> = parts.done.iter().map(ExactSizeIterator::len).collect();
    assert_eq!(lengths, [OPS_MAX - 1, OPS_MAX - 1, 150 - 2 * (OPS_MAX - 1)]);
    assert_eq!(count(&consul, &prefix).await, 150);

    // One in the second part is not as expected: the first stays, the rest is not done.
    let mut ops: Vec<_> = (0..150)
        .map(|n| Op::KvDelete {
            key: prefix.key(&format!("n{n:03}")).unwrap(),
        })
        .collect();
    ops[100] = Op::CheckAbsent {
        key: prefix.key("n100").unwrap(),
    };
    let parts = consul.transactions(&guards, &ops).await.unwrap();
    assert_eq!(parts.done, vec![0..OPS_MAX - 1]);
    assert_eq!(parts.stopped[0].op_index, 100, "{:?}", parts.stopped);
    assert_eq!(count(&consul, &prefix).await, 150 - (OPS_MAX - 1));

    // Without the lock nothing is done at all.
    let _ = consul.kv_release(&key, vec![], &session).await.unwrap();
    let parts = consul
        .transactions(&guards, &sets(&prefix, 3))
        .await
        .unwrap();
    assert!(parts.done.is_empty());
    assert_eq!(parts.stopped[0].op_index, usize::MAX, "{:?}", parts.stopped);
    assert_eq!(count(&consul, &prefix).await, 150 - (OPS_MAX - 1));
}

#[tokio::test]
async fn a_lock_can_change_hands_with_what_depends_on_it() {
    let consul = coordinator(shared(), "txn-lock").await;
    let prefix: Prefix = "calvin/txn-lock/".parse().unwrap();
    let (key, session) = leader(&consul, &prefix).await;
    let unlock = [
        Op::KvUnlock {
            key: key.clone(),
            value: b"gone".to_vec(),
            session: session.clone(),
        },
        sets(&prefix, 1).remove(0),
    ];
    assert!(matches!(
        consul.transaction(&unlock).await.unwrap(),
        Outcome::Done(_)
    ));
    let lock = [Op::KvLock {
        key,
        value: b"back".to_vec(),
        session,
    }];
    let Outcome::Done(results) = consul.transaction(&lock).await.unwrap() else {
        panic!("it was not done");
    };
    let [OpResult::Kv(entry)] = &results[..] else {
        panic!("{results:?}");
    };
    assert_eq!(entry.lock_index, 2);
}
