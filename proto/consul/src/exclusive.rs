//! The lock of an exclusive fleet: never two of its instances are at work at once. Pure, and read by
//! both sides.
//!
//! 1. Who is to be active makes a session (no node checks, behaviour "release") and acquires the
//!    fleet's lock with it. Its workload starts only with the lock, and gets the lock's index as a
//!    fencing number in [`FENCE_VARIABLE`]: each later holder has a higher one.
//! 2. The agent renews the session every [`RENEW_EVERY`]. From when a renewal that succeeded was *sent*
//!    the runner's lease lasts [`LEASE`], by a clock that runs through suspend; when it is over the
//!    runner kills the workload, whether the agent lives or not.
//! 3. Consul ends a session that is not renewed no earlier than [`TTL`] after it received the last
//!    renewal: later than the end of the lease, by more than a kill takes. A session that is ended
//!    otherwise (its node leaves, a person ends it) can have been renewed a moment ago; so a lock that
//!    was lost is kept from everybody for [`LOCK_DELAY`], which is longer than a lease. **That an
//!    instance has not had the lock for as long as a lease says that its workload does not run.**
//! 4. Who is no longer to be active gives the lock back after its workload has ended, and then ends
//!    the session: the next one gets the lock at once.
//! 5. The coordinator moves the tags in one transaction that checks that the new active's session
//!    holds the lock.

use std::time::Duration;

use calvin_model::{EnvironmentName, FleetName, InstanceId};

use crate::names::{InvalidName, Key};

/// TTL of the session that holds the lock.
pub const TTL: Duration = Duration::from_secs(15);
/// How long a renewal lets the workload run, from when it was sent.
pub const LEASE: Duration = Duration::from_secs(12);
/// How long nobody gets a lock that a session has lost and not given back: sessions end with their node
/// at once, however new their last renewal.
pub const LOCK_DELAY: Duration = Duration::from_secs(13);
/// From one renewal to the next.
pub const RENEW_EVERY: Duration = Duration::from_secs(3);
/// The workload's variable that holds the lock's index, in decimal.
pub const FENCE_VARIABLE: &str = "CALVIN_FENCE";

/// The key of a fleet's lock. Its value is the id of the instance that acquired it last.
///
/// # Errors
/// Never but for names that are none.
pub fn lock_key(environment: &EnvironmentName, fleet: &FleetName) -> Result<Key, InvalidName> {
    format!("calvin/{environment}/locks/{fleet}").parse()
}

/// What all those keys of an environment begin with.
#[must_use]
pub fn locks_prefix(environment: &EnvironmentName) -> String {
    format!("calvin/{environment}/locks/")
}

/// The name of the session of an instance, for people.
#[must_use]
pub fn session_name(instance: &InstanceId) -> String {
    format!("calvin {instance} is at work")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lease_is_over_before_the_lock_can_be_given_away() {
        assert!(LEASE < TTL && RENEW_EVERY * 3 < LEASE && LEASE < LOCK_DELAY);
        let key = lock_key(&"prod".parse().unwrap(), &"db".parse().unwrap()).unwrap();
        assert_eq!(key.as_str(), "calvin/prod/locks/db");
        assert!(
            key.as_str()
                .starts_with(&locks_prefix(&"prod".parse().unwrap()))
        );
    }
}
