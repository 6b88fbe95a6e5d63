//! A clock that was wrong and is set right.

use super::*;

impl Bench {
    /// The clock was ahead and is set right.
    fn set_back(&self, seconds: u64) {
        self.clock.fetch_sub(seconds, Ordering::SeqCst);
    }
}

#[test]
fn a_clock_that_was_ahead_and_is_set_back_leaves_nobody_with_a_certificate_of_the_future() {
    let bench = Bench::new();
    let begins = || {
        let pem = bench.identity.state().server_certificate();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        PeerCertificate::parse(&der).unwrap().not_before
    };
    let shown = bench.identity.tls().load_full();
    bench.set_back(HOUR / 2);
    bench.identity.maintain().unwrap();
    assert!(begins() <= bench.identity.now());
    assert!(
        Arc::ptr_eq(&shown, &bench.identity.tls().load_full()),
        "a certificate that is good was made anew"
    );
    bench.set_back(2 * HOUR);
    assert!(begins() > bench.identity.now());
    bench.identity.maintain().unwrap();
    assert!(begins() <= bench.identity.now());
    assert!(!Arc::ptr_eq(&shown, &bench.identity.tls().load_full()));
}
