//! The first key asks again with the join token: what it gets must be of use, and no more than its
//! own certificate would get it.

use super::*;

struct Joined {
    bench: Bench,
    token: String,
    key: String,
    first: Enrolled,
}

fn joined() -> Joined {
    let bench = Bench::new();
    let (token, key) = (bench.token("web-a"), new_key().unwrap());
    let first = bench.enrol("web-a", &token, &key).unwrap();
    Joined {
        bench,
        token,
        key,
        first,
    }
}

impl Joined {
    fn ask_again(&self) -> Result<Enrolled, EnrolError> {
        self.bench.enrol("web-a", &self.token, &self.key)
    }

    /// Renews the certificate that `enrolled` holds, for `key`.
    fn renew(&self, enrolled: &Enrolled, key: &str) -> Result<Enrolled, EnrolError> {
        let csr = signing_request(key).unwrap();
        let peer = peer(&enrolled.certificate_pem);
        self.bench.identity.renew(&peer, &csr)
    }

    fn may_speak(&self, enrolled: &Enrolled) -> bool {
        let peer = peer(&enrolled.certificate_pem);
        self.bench
            .identity
            .instance(&peer, Expired::Refused)
            .is_ok()
    }
}

#[test]
fn a_certificate_that_has_ended_meanwhile_is_not_given_again() {
    let joined = joined();
    joined.bench.pass(25 * HOUR);
    assert!(!joined.may_speak(&joined.first));
    let again = joined.ask_again().unwrap();
    assert!(joined.may_speak(&again));
    assert!(again.renew_after > Duration::from_secs(9 * HOUR));
    assert_eq!(joined.ask_again().unwrap(), again, "a lost reply");
    assert!(joined.bench.identity.alarms().is_empty());
}

#[test]
fn a_renewal_for_the_same_key_is_given_again() {
    let joined = joined();
    joined.bench.pass(12 * HOUR);
    let renewed = joined.renew(&joined.first, &joined.key).unwrap();
    joined.bench.pass(13 * HOUR);
    let again = joined.ask_again().unwrap();
    assert_eq!(again.certificate_pem, renewed.certificate_pem);
    assert!(joined.may_speak(&again));
}

#[test]
fn a_key_whose_renewal_may_have_got_lost_gets_a_certificate_that_is_good() {
    let joined = joined();
    joined.bench.pass(23 * HOUR);
    let next_key = new_key().unwrap();
    let renewed = joined.renew(&joined.first, &next_key).unwrap();
    joined.bench.pass(2 * HOUR);
    let again = joined.ask_again().unwrap();
    assert!(joined.may_speak(&again));
    assert_eq!(joined.ask_again().unwrap(), again, "a lost reply");
    // Either of the two may be what the machine holds.
    joined.renew(&renewed, &new_key().unwrap()).unwrap();
    assert!(joined.bench.identity.alarms().is_empty());
}

#[test]
fn a_key_that_was_renewed_long_ago_gets_nothing_and_raises_an_alarm() {
    let joined = joined();
    let second = joined.renew(&joined.first, &new_key().unwrap()).unwrap();
    joined.renew(&second, &new_key().unwrap()).unwrap();
    assert_eq!(word(joined.ask_again()), "certificate_superseded");
    let alarm = &joined.bench.identity.alarms()[&id("web-a")];
    assert!(alarm.contains("two machines"), "{alarm}");
}
