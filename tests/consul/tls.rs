//! TLS both ways: who is refused, and certificates replaced in place.

use calvin_consul::{Client, Key, Reason, Settings, WatchOptions};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Datacenter, certificates::Authority, datacenter::MANAGEMENT, shared, until};

#[tokio::test]
async fn whoever_shows_no_certificate_or_trusts_another_authority_gets_no_answer() {
    let datacenter = shared();
    let server = &datacenter.servers[0];
    let with = |change: &dyn Fn(&mut Settings)| {
        let mut settings = datacenter.settings(server, Some(MANAGEMENT));
        change(&mut settings);
        Client::new(settings).unwrap()
    };
    let other = Authority::new();
    let without = with(&|settings| settings.tls.as_mut().unwrap().identity = None);
    let foreign = with(&|settings| settings.tls.as_mut().unwrap().identity = other.tls().identity);
    let distrusts = with(&|settings| settings.tls.as_mut().unwrap().ca_pem.clone_from(&other.pem));
    let nobody = with(&|settings| settings.tls = None);
    let misnamed = with(&|settings| {
        settings.tls.as_mut().unwrap().server_name = Some("server.elsewhere.consul".to_owned());
    });
    for (what, client) in [
        ("no certificate", without),
        ("a foreign one", foreign),
        ("another authority", distrusts),
        ("no authority", nobody),
        ("another name", misnamed),
    ] {
        let error = client.token_self().await.unwrap_err();
        assert!(
            matches!(error.reason, Reason::Unreachable { .. }),
            "{what}: {error:?}"
        );
    }
    // The name may be another than the address.
    let named = with(&|settings| {
        settings.tls.as_mut().unwrap().server_name = Some("server.calvin-test.consul".to_owned());
    });
    named.token_self().await.unwrap();
}

#[tokio::test]
async fn certificates_are_replaced_in_place_on_both_sides() {
    let datacenter = Datacenter::start(1, json!({})).await;
    let server = &datacenter.servers[0];
    let client = datacenter.client(server, Some(MANAGEMENT));
    let key: Key = "a".parse().unwrap();
    client.kv_put(&key, vec![1]).await.unwrap();
    let mut watch = client.watch_key(&key, WatchOptions::default());
    watch.next().await.unwrap();

    // The datacenter moves to another authority; Consul reads its files anew at SIGHUP.
    let next = Authority::new();
    let identity = next.issue(
        &["server.calvin-test.consul", "localhost"],
        Some(server.address),
    );
    for (file, text) in [
        ("ca.pem", &next.pem),
        ("certificate.pem", &identity.certificate_pem),
        ("key.pem", &identity.key_pem),
    ] {
        std::fs::write(server.directory.join(file), text).unwrap();
    }
    server.signal(Signal::SIGHUP);
    let old = datacenter.settings(server, Some(MANAGEMENT));
    until("the old ones refused", async || {
        // A connection that is open already goes on; a new client makes a new one.
        match Client::new(old.clone()).unwrap().token_self().await {
            Err(error) if matches!(error.reason, Reason::Unreachable { .. }) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;

    // What cannot be used changes nothing.
    let mut broken = next.tls();
    broken.identity.as_mut().unwrap().key_pem = "no key".to_owned();
    client.reload_tls(&broken).unwrap_err();

    client.reload_tls(&next.tls()).unwrap();
    client.kv_put(&key, vec![2]).await.unwrap();
    // The watch goes on, by whichever connection it has.
    let seen = until("the change", async || watch.next().await).await;
    assert_eq!(seen.read.value.unwrap().value, [2]);
}
