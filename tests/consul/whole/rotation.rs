//! The coordinator's certificate for Consul is replaced on disk, as whoever rotates it does.

use std::fs;

use super::{COUNT, COUNT_SIZE, outage::until_it_goes_on};
use crate::{
    stage::{
        front::Front,
        images::{GOOD, Pace},
        whole::Whole,
    },
    support::until,
};

/// Waits until the coordinator has said this since `from`.
async fn until_said(whole: &Whole, from: usize, words: &str) {
    until(words, async || {
        let log = whole.calvin.log();
        if log[from..].contains(words) {
            Ok(())
        } else {
            Err(log[from..].to_owned())
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_goes_on_with_another_certificate_for_consul() {
    let mut whole = Whole::start("rotated", 1).await;
    whole.bring_up(&GOOD[..2], COUNT, Pace::default()).await;
    let front = Front::start(&whole, COUNT_SIZE).await;
    let workloads = whole.workloads();
    let home = whole.calvin.home().to_owned();
    let identity = whole.datacenter.authority.issue(&["calvin"], None);

    // The key alone does not fit the certificate: what was read before goes on being used.
    let from = whole.calvin.log().len();
    fs::write(home.join("key.pem"), &identity.key_pem).unwrap();
    until_said(&whole, from, "the certificates for Consul").await;
    until_it_goes_on(&whole).await;
    fs::write(home.join("certificate.pem"), &identity.certificate_pem).unwrap();
    until_said(&whole, from, "took other certificates for Consul").await;

    // No connection of before is left: whoever it asks begins anew, and asks for a certificate.
    whole.datacenter.agents[0].start_again();
    until_it_goes_on(&whole).await;
    assert_eq!(whole.workloads(), workloads);
    whole.roll_out("2.0").await;
    let ended = whole.until_ended().await;
    assert_eq!(ended.phase, "done", "{ended:#?}");
    whole.until_active(&whole.instances("2.0").await).await;
    front.until_more(2_000).await;
    front.assert_none_failed("a certificate was rotated");
}
