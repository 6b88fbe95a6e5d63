//! Tokens and policies: made, used, rotated in place, revoked and read back as gone.

use std::time::Duration;

use calvin_consul::{
    Consistency, Reason,
    acl::{NodeIdentity, ServiceIdentity, TokenRequest},
};

use crate::support::{coordinator, datacenter::NAME, shared, shared::NODE, until};

fn request(own: &str) -> TokenRequest {
    TokenRequest {
        description: format!("{own}: instance web-1"),
        node_identities: vec![NodeIdentity {
            node_name: NODE.to_owned(),
            datacenter: NAME.to_owned(),
        }],
        service_identities: vec![ServiceIdentity {
            service_name: own.to_owned(),
            datacenters: vec![],
        }],
        local: true,
        expires: Some(Duration::from_secs(3600)),
        ..TokenRequest::default()
    }
}

#[tokio::test]
async fn a_token_for_an_instance_is_made_once_and_read_back_as_gone() {
    let datacenter = shared();
    let consul = coordinator(datacenter, "tok-one").await;
    let mut wanted = request("tok-one");
    let accessor = "0c5f1c5e-0000-4000-8000-00000000a001";
    wanted.accessor = Some(accessor.to_owned());
    let made = consul.token_create(&wanted).await.unwrap();
    assert_eq!(made.info.accessor, accessor);
    assert_eq!(made.info.node_identities, wanted.node_identities);
    assert_eq!(made.info.service_identities, wanted.service_identities);
    assert!(made.info.local);
    assert!(!format!("{made:?}").contains(made.secret.secret()));
    // A second try, after an answer was lost, makes no second token.
    let error = consul.token_create(&wanted).await.unwrap_err();
    assert!(error.to_string().contains("tok-one"), "{error}");
    let read = consul.token(accessor).await.unwrap().unwrap();
    assert_eq!(read, made.info);
    let own: Vec<_> = consul.tokens().await.unwrap();
    let own = own
        .iter()
        .filter(|token| token.description == wanted.description);
    assert_eq!(own.count(), 1);

    let instance = datacenter.client(&datacenter.agents[0], Some(made.secret.secret()));
    assert_eq!(instance.token_self().await.unwrap().accessor, accessor);
    instance
        .register(&crate::registration::service("tok-one", vec![]))
        .await
        .unwrap();
    instance.deregister("tok-one-1").await.unwrap();

    for _ in 0..2 {
        consul.token_revoke(accessor).await.unwrap();
    }
    assert_eq!(consul.token(accessor).await.unwrap(), None);
    // The servers know at once; the Consul client may believe what it knew for up to 30 s.
    let at_server = datacenter.client(&datacenter.servers[0], Some(made.secret.secret()));
    let error = at_server.token_self().await.unwrap_err();
    assert!(matches!(error.reason, Reason::UnknownToken), "{error:?}");
    until("the client's refusal", async || {
        match instance.local_services().await {
            Err(error) if matches!(error.reason, Reason::UnknownToken) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_is_rotated_in_place() {
    let datacenter = shared();
    let consul = coordinator(datacenter, "tok-rot").await;
    let first = consul.token_create(&request("tok-rot")).await.unwrap();
    let second = consul.token_create(&request("tok-rot")).await.unwrap();
    let client = datacenter.client(&datacenter.servers[0], Some(first.secret.secret()));
    let held = client.clone();
    assert_eq!(
        held.token_self().await.unwrap().accessor,
        first.info.accessor
    );
    client.set_token(Some(second.secret.clone()));
    consul.token_revoke(&first.info.accessor).await.unwrap();
    assert_eq!(
        held.token_self().await.unwrap().accessor,
        second.info.accessor
    );
    // Also for what the given client does.
    let names = held.service_names().await.unwrap();
    assert!(names.contains(&"consul".to_owned()), "{names:?}");
    client.set_token(None);
    assert_eq!(held.service_names().await.unwrap(), Vec::<String>::new());
    let error = held.service_health("consul", Consistency::Default).await;
    // Without a token Consul does not say that it left something out: an environment that denies by
    // default is always asked with one.
    assert_eq!(error.unwrap().value, []);
}

#[tokio::test]
async fn a_policy_is_made_changed_and_deleted() {
    let consul = coordinator(shared(), "tok-pol").await;
    let rules = "key_prefix \"a/\" { policy = \"read\" }";
    consul
        .policy_create("tok-pol-x", "of a test", rules)
        .await
        .unwrap();
    let policy = consul.policy("tok-pol-x").await.unwrap().unwrap();
    assert_eq!((&*policy.rules, &*policy.description), (rules, "of a test"));
    let error = consul
        .policy_create("tok-pol-x", "", rules)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("make policy tok-pol-x"),
        "{error}"
    );
    let error = consul
        .policy_update(&policy, "key_prefix {")
        .await
        .unwrap_err();
    assert!(!error.is_denied(), "{error:?}");
    consul
        .policy_update(&policy, "acl = \"read\"")
        .await
        .unwrap();
    let changed = consul.policy("tok-pol-x").await.unwrap().unwrap();
    assert_eq!(
        (&*changed.rules, &*changed.description),
        ("acl = \"read\"", "of a test")
    );
    consul.policy_delete(&changed).await.unwrap();
    assert_eq!(consul.policy("tok-pol-x").await.unwrap(), None);
}
