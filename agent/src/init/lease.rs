//! Until when work that needs a lease may run. Whoever holds the lock of its fleet next may begin when
//! that is over, so it ends here, whether an agent lives or not, and by a clock that runs on while the
//! host sleeps: a machine that was suspended finds it over when it wakes.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use calvin_consul::exclusive::LEASE;
use rustix::{
    io,
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};

/// What a lease may last beyond the longest that is given: both ends read one clock, so nothing but
/// what is read a moment apart.
const SLACK: Duration = Duration::from_secs(1);

/// Whether work that needs a lease may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeaseNow {
    /// It may.
    Holds,
    /// There is none, or it is over.
    Over,
}

/// The lease of the workload's work: an end, as the host's clock since its boot. None at first, and a
/// runner that is started again has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lease {
    until: Duration,
}

impl Lease {
    /// Lets it last until then, or as long as it does already: an order that comes late takes nothing
    /// back. Returns why not.
    pub(super) fn extend(&mut self, until: Duration, now: Duration) -> Option<String> {
        let ahead = until.saturating_sub(now);
        if ahead > LEASE + SLACK {
            return Some(format!(
                "a lease lasts {LEASE:?} at most, and this one would be over in {ahead:?}"
            ));
        }
        self.until = self.until.max(until);
        None
    }

    /// When it is over.
    pub(super) fn until(self) -> Duration {
        self.until
    }

    /// Time left of it.
    pub(super) fn left(self, now: Duration) -> Duration {
        self.until.saturating_sub(now)
    }

    /// How it is.
    pub(super) fn at(self, now: Duration) -> LeaseNow {
        if now < self.until {
            LeaseNow::Holds
        } else {
            LeaseNow::Over
        }
    }
}

/// Wakes the loop when a lease is over. `poll` cannot: its own timeout stands still during suspend.
#[derive(Debug)]
pub(super) struct LeaseTimer(OwnedFd);

impl LeaseTimer {
    /// One that is not set.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        timerfd_create(TimerfdClockId::Boottime, flags).map(Self)
    }

    /// Sets it to that moment, and to no other. One that has passed wakes at once.
    pub(super) fn set(&self, at: Duration) -> io::Result<()> {
        let never = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let at = Timespec {
            tv_sec: i64::try_from(at.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: at.subsec_nanos().into(),
        };
        let times = Itimerspec {
            it_interval: never,
            it_value: at,
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &times).map(drop)
    }

    /// Takes note that it woke the loop, so that it does not at once again.
    pub(super) fn clear(&self) {
        // It fails where it did not wake.
        let _ = io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for LeaseTimer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn there_is_none_before_the_first_and_none_when_it_is_over() {
        let mut lease = Lease::default();
        assert_eq!(lease.at(Duration::ZERO), LeaseNow::Over);
        assert_eq!(lease.extend(110 * S, 100 * S), None);
        assert_eq!(lease.at(109 * S), LeaseNow::Holds);
        assert_eq!(lease.left(109 * S), S);
        assert_eq!(lease.at(110 * S), LeaseNow::Over);
        assert_eq!(lease.left(200 * S), Duration::ZERO);
    }

    #[test]
    fn one_that_is_absurdly_long_is_refused_and_changes_nothing() {
        let mut lease = Lease::default();
        let refused = lease.extend(Duration::from_millis(u64::MAX), 100 * S);
        assert!(refused.unwrap().contains("at most"));
        assert!(lease.extend(100 * S + LEASE + 2 * S, 100 * S).is_some());
        assert_eq!(lease, Lease::default());
        assert_eq!(lease.extend(100 * S + LEASE, 100 * S), None);
    }

    #[test]
    fn the_timer_wakes_at_its_moment_and_once() {
        use rustix::event::{PollFd, PollFlags, poll};
        let timer = LeaseTimer::new().unwrap();
        let wakes = |timeout| {
            let timeout = Timespec {
                tv_sec: timeout,
                tv_nsec: 0,
            };
            let mut descriptors = [PollFd::new(&timer, PollFlags::IN)];
            poll(&mut descriptors, Some(&timeout)).unwrap() == 1
        };
        assert!(!wakes(0));
        timer.set(crate::clock::boottime() + S / 20).unwrap();
        assert!(!wakes(0));
        assert!(wakes(20));
        timer.clear();
        assert!(!wakes(0));
    }

    proptest! {
        #[test]
        fn no_order_makes_it_shorter_or_lets_it_last_beyond_the_longest(
            orders in prop::collection::vec((0_u64..60_000, 0_u64..5_000), 1..40),
        ) {
            let mut lease = Lease::default();
            let mut now = Duration::ZERO;
            for (until_ms, passed_ms) in orders {
                now += Duration::from_millis(passed_ms);
                let before = lease.until();
                let _ = lease.extend(Duration::from_millis(until_ms), now);
                prop_assert!(lease.until() >= before);
                prop_assert!(lease.left(now) <= LEASE + SLACK);
            }
        }
    }
}
