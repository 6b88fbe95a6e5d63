//! Names, tags, meta and numbers that cannot be sent are refused before anything goes out.

use std::{collections::BTreeMap, time::Duration};

use calvin_consul::{
    Client, Consistency, Error, Reason, WatchOptions,
    acl::{NodeIdentity, ServiceIdentity, TokenRequest},
    agent::{CheckKind, Maintenance},
    catalog::{CatalogService, TaggedAddress, Weights},
    health::CheckStatus,
    roles::TagChange,
    txn::Op,
};

use crate::{
    registration::{service, ttl},
    support::stranger::Stranger,
};

fn refused<T: std::fmt::Debug>(what: &str, result: Result<T, Error>) {
    match result {
        Err(error) => {
            assert!(
                matches!(error.reason, Reason::Invalid(_)),
                "{what}: {error:?}"
            );
            assert!(!error.is_transient());
        }
        Ok(value) => panic!("{what} was taken: {value:?}"),
    }
}

async fn registrations(client: &Client) {
    let good = || service("web", vec![ttl("web-agent", CheckStatus::Passing)]);
    for name in [
        "",
        "we_b",
        "Web",
        "web.",
        "-web",
        "web\n",
        "web/../x",
        &"a".repeat(64),
        "wéb",
    ] {
        let mut bad = good();
        bad.name = name.to_owned();
        refused(name, client.register(&bad).await);
        refused(
            name,
            client.service_health(name, Consistency::Default).await,
        );
        refused(name, client.watch_service(name, WatchOptions::default()));
    }
    for tag in [
        "",
        " ",
        "a\u{0}b",
        "tab\t",
        "line\nfeed",
        "\u{1b}[31m",
        &"t".repeat(256),
    ] {
        let mut bad = good();
        bad.tags.push(tag.to_owned());
        refused(tag, client.register(&bad).await);
    }
    for (key, value) in [
        ("", "v"),
        ("a b", "v"),
        ("ä", "v"),
        ("consul-x", "v"),
        ("k", "a\nb"),
        ("k", &"v".repeat(513)),
    ] {
        let mut bad = good();
        bad.meta.insert(key.to_owned(), value.to_owned());
        refused(key, client.register(&bad).await);
    }
    let mut many = good();
    many.meta = (0..65).map(|n| (format!("k{n}"), String::new())).collect();
    refused("65 pairs of meta", client.register(&many).await);
    let mut twice = good();
    twice.checks.push(ttl("web-agent", CheckStatus::Passing));
    refused("a check twice", client.register(&twice).await);
    let mut weightless = good();
    weightless.weights = Weights {
        passing: 0,
        warning: 0,
    };
    refused("no weight", client.register(&weightless).await);
    let mut odd = good();
    odd.tagged_addresses = BTreeMap::from([("wan".to_owned(), TaggedAddress::default())]);
    refused("an empty address", client.register(&odd).await);
    for url in ["ftp://a/", "http://a/\r\nX: y", "", "file:///etc/passwd"] {
        let mut bad = good();
        bad.checks[0].kind = CheckKind::Http {
            url: url.to_owned(),
            method: String::new(),
            headers: BTreeMap::new(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
        };
        refused(url, client.register(&bad).await);
    }
    let mut hasty = good();
    hasty.checks[0].kind = CheckKind::Ttl {
        ttl: Duration::from_millis(10),
    };
    refused("a TTL of 10 ms", client.register(&hasty).await);
}

#[tokio::test]
async fn nothing_odd_goes_out() {
    let stranger = Stranger::new(Vec::new(), Duration::from_secs(5)).await;
    let client = &stranger.client;
    registrations(client).await;
    let out = Maintenance::On { reason: "a\nb" };
    refused("a reason", client.node_maintenance(out).await);
    for id in ["", "..", "a/b", "a b", "a\n", &"i".repeat(256)] {
        refused(id, client.deregister(id).await);
        refused(id, client.deregister_check(id).await);
        refused(id, client.update_check(id, CheckStatus::Passing, "").await);
        refused(id, client.service_maintenance(id, Maintenance::Off).await);
        refused(
            id,
            client
                .register_check(&ttl(id, CheckStatus::Passing), None)
                .await,
        );
        refused(id, client.node_services(id, Consistency::Default).await);
        refused(id, client.node_checks(id, Consistency::Default).await);
        // Without its id Consul would take the whole node out.
        refused(
            id,
            client.deregister_ghost_service("calvin-node-1", id).await,
        );
        refused(id, client.deregister_ghost_service(id, "web-1").await);
        refused(id, client.deregister_ghost_node(id).await);
        let op = Op::ServiceGet {
            node: id.to_owned(),
            id: "web-1".to_owned(),
        };
        refused(id, client.transaction(&[op]).await);
        let op = Op::NodeDeleteCas {
            node: id.to_owned(),
            index: 1,
        };
        refused(id, client.transaction(&[op]).await);
        refused(id, client.token(id).await);
        refused(id, client.token_revoke(id).await);
        refused(id, client.policy(id).await);
        refused(id, client.policy_create(id, "", "").await);
        let node = NodeIdentity {
            node_name: id.to_owned(),
            datacenter: "a".to_owned(),
        };
        let token = TokenRequest {
            node_identities: vec![node],
            ..TokenRequest::default()
        };
        refused(id, client.token_create(&token).await);
        let of = ServiceIdentity {
            service_name: id.to_owned(),
            datacenters: vec![],
        };
        let token = TokenRequest {
            service_identities: vec![of],
            ..TokenRequest::default()
        };
        refused(id, client.token_create(&token).await);
    }
    let change = |service, tags| TagChange {
        node: "n".to_owned(),
        service,
        tags,
    };
    let plain = CatalogService {
        id: "web-1".to_owned(),
        service: "web".to_owned(),
        ..CatalogService::default()
    };
    // Its agent would undo it.
    refused(
        "no override",
        client
            .change_tags(&[], &[change(plain.clone(), vec![])])
            .await,
    );
    let overrides = CatalogService {
        enable_tag_override: true,
        ..plain
    };
    refused(
        "a tag",
        client
            .change_tags(&[], &[change(overrides, vec!["\n".to_owned()])])
            .await,
    );
    assert_eq!(stranger.connections(), 0, "{:?}", stranger.asked());
}
