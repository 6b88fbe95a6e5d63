//! Identities that a restored backup does not know, or knows in an older state.

use calvin_model::FleetName;

use super::{records::InstanceRecord, *};

fn fleet() -> FleetName {
    "web".parse().unwrap()
}

fn shown(enrolled: &Enrolled) -> PeerCertificate {
    let der = CertificateDer::from_pem_slice(enrolled.certificate_pem.as_bytes()).unwrap();
    PeerCertificate::parse(&der).unwrap()
}

#[test]
fn one_that_came_after_the_backup_is_known_by_what_it_shows_and_may_renew() {
    let bench = Bench::new();
    let key = new_key().unwrap();
    let token = bench.token("web-a");
    let enrolled = bench.enrol("web-a", &token, &key).unwrap();
    // The backup knows nothing of it.
    bench
        .identity
        .inner
        .records
        .remove_instances(&[id("web-a")])
        .unwrap();
    let bench = bench.restart();
    let peer = peer(&enrolled.certificate_pem);
    assert!(bench.identity.instance(&peer, Expired::Refused).is_err());
    let (instance, certificate) = bench.identity.unrecorded_instance(&peer).unwrap();
    assert_eq!(instance, id("web-a"));
    for _ in 0..2 {
        bench
            .identity
            .adopt(&instance, &fleet(), &certificate)
            .unwrap();
    }
    assert!(bench.identity.instance(&peer, Expired::Refused).is_ok());
    let csr = signing_request(&new_key().unwrap()).unwrap();
    bench.identity.renew(&peer, &csr).unwrap();
    let adopted = bench.audit().into_iter().map(|entry| entry.what);
    let adopted = adopted.filter(|what| what == "instance_adopted").count();
    assert_eq!(adopted, 1, "asking again is harmless");
    // Its token stays spent: another key is an alarm, as ever.
    let other = new_key().unwrap();
    assert_eq!(word(bench.enrol("web-a", &token, &other)), "token_spent");
}

#[test]
fn the_key_that_spent_the_token_gets_a_certificate_again_although_its_text_is_not_known() {
    let bench = Bench::new();
    let key = new_key().unwrap();
    let token = bench.token("web-a");
    let enrolled = bench.enrol("web-a", &token, &key).unwrap();
    bench
        .identity
        .inner
        .records
        .remove_instances(&[id("web-a")])
        .unwrap();
    let bench = bench.restart();
    bench
        .identity
        .adopt(&id("web-a"), &fleet(), &shown(&enrolled))
        .unwrap();
    let again = bench.enrol("web-a", &token, &key).unwrap();
    assert_eq!(shown(&again).key, shown(&enrolled).key);
}

#[test]
fn one_that_renewed_after_the_backup_is_no_second_holder_of_an_old_certificate() {
    let bench = Bench::new();
    let first = bench.enrolled("web-a");
    let before = InstanceRecord::clone(&bench.identity.known().instances[&id("web-a")]);
    let csr = signing_request(&new_key().unwrap()).unwrap();
    let second = bench
        .identity
        .renew(&peer(&first.certificate_pem), &csr)
        .unwrap();
    let csr = signing_request(&new_key().unwrap()).unwrap();
    let third = bench
        .identity
        .renew(&peer(&second.certificate_pem), &csr)
        .unwrap();
    // The backup is of before both.
    bench
        .identity
        .inner
        .records
        .put_instance(&id("web-a"), &before)
        .unwrap();
    let bench = bench.restart();
    bench
        .identity
        .adopt(&id("web-a"), &fleet(), &shown(&third))
        .unwrap();
    let csr = signing_request(&new_key().unwrap()).unwrap();
    bench
        .identity
        .renew(&peer(&third.certificate_pem), &csr)
        .unwrap();
    assert!(bench.identity.alarms().is_empty());
}

#[test]
fn one_that_is_revoked_on_record_stays_so() {
    let bench = Bench::new();
    let enrolled = bench.enrolled("web-a");
    bench.identity.revoke(&id("web-a")).unwrap();
    bench
        .identity
        .adopt(&id("web-a"), &fleet(), &shown(&enrolled))
        .unwrap();
    let peer = peer(&enrolled.certificate_pem);
    assert!(bench.identity.unrecorded_instance(&peer).is_err());
}

#[test]
fn while_recovering_no_ca_is_forgotten_that_somebody_unknown_may_rest_on() {
    let bench = Bench::new();
    bench.identity.keep_cas(CasKept::All);
    bench.identity.rotate_ca("ann").unwrap();
    bench.identity.maintain().unwrap();
    assert_eq!(bench.identity.ca().trusted.len(), 2);
    bench.identity.keep_cas(CasKept::Needed);
    bench.identity.maintain().unwrap();
    assert_eq!(bench.identity.ca().trusted.len(), 1);
}
