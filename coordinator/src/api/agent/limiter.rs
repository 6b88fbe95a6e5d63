//! Bounds how fast one address may ask for certificates. Each ask costs a signature check before
//! anything is known of who asks.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Asks of one address at once: a host full of machines, or a site behind one address, that is
/// switched on.
const BURST: f64 = 256.0;
/// Asks a second of one address after that. Each costs below 1 ms of a core.
const PER_SECOND: f64 = 32.0;
/// Addresses that are remembered: 4,096 of 40 bytes. Beyond it those at rest are forgotten, and
/// if none is, newcomers wait.
const ADDRESSES: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Limiter {
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn filled(self, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.at);
        (self.left + since.as_secs_f64() * PER_SECOND).min(BURST)
    }
}

impl Limiter {
    /// Whether `address` may ask now; counts it if so.
    pub(super) fn take(&self, address: IpAddr, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= ADDRESSES && !buckets.contains_key(&address) {
            buckets.retain(|_, bucket| bucket.filled(now) < BURST);
            if buckets.len() >= ADDRESSES {
                return false;
            }
        }
        let bucket = buckets.entry(address).or_insert(Bucket {
            left: BURST,
            at: now,
        });
        let left = bucket.filled(now);
        let allowed = left >= 1.0;
        *bucket = Bucket {
            left: if allowed { left - 1.0 } else { left },
            at: now,
        };
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_address_that_floods_is_slowed_down_and_no_other_is() {
        let limiter = Limiter::default();
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let now = Instant::now();
        let allowed = (0..1000).filter(|_| limiter.take(one, now)).count();
        assert_eq!(allowed, 256);
        assert!(limiter.take(other, now));
        let later = now + Duration::from_secs(1);
        let allowed = (0..1000).filter(|_| limiter.take(one, later)).count();
        assert_eq!(allowed, 32);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let limiter = Limiter::default();
        let now = Instant::now();
        for number in 0..10_000u32 {
            limiter.take(IpAddr::from(number.to_be_bytes()), now);
        }
        assert_eq!(limiter.buckets.lock().unwrap().len(), ADDRESSES);
        // Those at rest make room.
        let later = now + Duration::from_secs(60);
        assert!(limiter.take(IpAddr::from([192, 0, 2, 1]), later));
    }
}
