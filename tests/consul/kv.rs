//! KV entries: bytes, compare-and-set, and deletes that delete one entry.

use calvin_consul::{
    Consistency, Key, Prefix, Reason,
    kv::{Expected, VALUE_MAX, Write},
};

use crate::support::{coordinator, datacenter::MANAGEMENT, shared};

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_value_is_bytes_of_any_kind() {
    let consul = coordinator(shared(), "kv-bytes").await;
    let every: Vec<u8> = (0..=255).collect();
    for (name, value) in [
        ("every", every),
        ("empty", Vec::new()),
        ("odd,name.of_a-key", b"\xff\x00\n".to_vec()),
        ("large", vec![7; VALUE_MAX]),
    ] {
        let key = key(&format!("calvin/kv-bytes/{name}"));
        consul.kv_put(&key, value.clone()).await.unwrap();
        let read = consul.kv_get(&key, Consistency::Consistent).await.unwrap();
        let entry = read.value.unwrap();
        assert!(entry.value == value, "{name}");
        assert_eq!(entry.key, key.as_str());
        assert!(read.index >= entry.modify_index && read.known_leader);
    }
    let large = key("calvin/kv-bytes/large");
    let error = consul
        .kv_put(&large, vec![7; VALUE_MAX + 1])
        .await
        .unwrap_err();
    assert!(matches!(error.reason, Reason::TooLarge { .. }), "{error:?}");
    let none = key("calvin/kv-bytes/none");
    assert_eq!(
        consul
            .kv_get(&none, Consistency::Default)
            .await
            .unwrap()
            .value,
        None
    );
}

#[tokio::test]
async fn a_write_with_a_condition_is_done_only_if_it_holds() {
    let consul = coordinator(shared(), "kv-cas").await;
    let key = key("calvin/kv-cas/a");
    let get = async || {
        let read = consul.kv_get(&key, Consistency::Consistent).await.unwrap();
        read.value.unwrap()
    };
    let cas =
        async |value: &[u8], expected| consul.kv_cas(&key, value.to_vec(), expected).await.unwrap();
    assert_eq!(cas(b"1", Expected::Index(1)).await, Write::Conflict);
    assert_eq!(cas(b"1", Expected::Absent).await, Write::Done);
    assert_eq!(cas(b"2", Expected::Absent).await, Write::Conflict);
    let first = get().await;
    assert_eq!(
        cas(b"2", Expected::Index(first.modify_index)).await,
        Write::Done
    );
    assert_eq!(
        cas(b"3", Expected::Index(first.modify_index)).await,
        Write::Conflict
    );
    // Zero is how Consul says absent: an index that nobody ever read must not mean that.
    assert_eq!(cas(b"3", Expected::Index(0)).await, Write::Conflict);
    let second = get().await;
    assert_eq!(second.value, b"2");

    let delete = async |index| consul.kv_delete_cas(&key, index).await.unwrap();
    assert_eq!(delete(first.modify_index).await, Write::Conflict);
    assert_eq!(get().await.value, b"2");
    assert_eq!(delete(second.modify_index).await, Write::Done);
    assert_eq!(
        consul
            .kv_get(&key, Consistency::Consistent)
            .await
            .unwrap()
            .value,
        None
    );
}

#[tokio::test]
async fn a_delete_takes_exactly_one_entry() {
    let consul = coordinator(shared(), "kv-del").await;
    let prefix: Prefix = "calvin/kv-del/".parse().unwrap();
    for name in ["lock", "lock2", "lock/a", "lock.b"] {
        consul
            .kv_put(&prefix.key(name).unwrap(), vec![])
            .await
            .unwrap();
    }
    let left = async || {
        let read = consul
            .kv_list(&prefix, Consistency::Consistent)
            .await
            .unwrap();
        let keys = read.value.into_iter();
        keys.map(|entry| entry.key.strip_prefix(prefix.as_str()).unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    for _ in 0..2 {
        consul
            .kv_delete(&prefix.key("lock").unwrap())
            .await
            .unwrap();
        assert_eq!(left().await, ["lock.b", "lock/a", "lock2"]);
    }
    // What would delete more cannot even be said.
    for text in [
        "",
        "/",
        "calvin/kv-del/",
        "calvin/kv-del//lock2",
        "calvin/kv-del/./lock2",
    ] {
        text.parse::<Key>().unwrap_err();
    }
    let none: Prefix = "calvin/kv-del/none/".parse().unwrap();
    let read = consul.kv_list(&none, Consistency::Default).await.unwrap();
    assert_eq!(read.value, []);
}

#[tokio::test]
async fn a_list_of_which_something_was_left_out_is_an_error() {
    let datacenter = shared();
    let consul = coordinator(datacenter, "kv-list").await;
    let management = datacenter.client(&datacenter.servers[0], Some(MANAGEMENT));
    for name in ["calvin/kv-list/own", "kv-list-other/secret"] {
        management.kv_put(&key(name), vec![]).await.unwrap();
    }
    let foreign: Prefix = "kv-list-other/".parse().unwrap();
    let error = consul
        .kv_list(&foreign, Consistency::Default)
        .await
        .unwrap_err();
    assert!(matches!(error.reason, Reason::Filtered { .. }), "{error:?}");
    let all: Prefix = "calvin/".parse().unwrap();
    // It may see its own entry and not the other one.
    management
        .kv_put(&key("calvin/kv-list-other"), vec![])
        .await
        .unwrap();
    let error = consul
        .kv_list(&all, Consistency::Consistent)
        .await
        .unwrap_err();
    assert!(matches!(error.reason, Reason::Filtered { .. }), "{error:?}");
}
