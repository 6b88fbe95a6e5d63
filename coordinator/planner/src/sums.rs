//! The small sums on which small fleets depend: with one, two or three instances each rounding is
//! an outage or a rule that never holds. They stand in one place, and as a table in the tests and
//! in the documentation.

use std::time::Duration;

/// How long one that flapped for the first time stays hidden: five report intervals of 2 s.
const FLAP_FIRST: Duration = Duration::from_secs(10);
/// The longest that one stays hidden that is healthy: by then what serves beside it has carried its
/// share for long enough.
const FLAP_LONGEST: Duration = Duration::from_secs(120);
/// One that has been healthy for so long does not flap any more: well over [`FLAP_LONGEST`], so that
/// nothing is forgotten before it is found again.
pub(crate) const FLAPS_FORGOTTEN: Duration = Duration::from_secs(300);

/// How many of a fleet may be unmanaged while one of them is replaced: one, or 20 %.
#[must_use]
pub fn unmanaged_limit(fleet: usize) -> usize {
    (fleet / 5).max(1)
}

/// How many of a fleet may be replaced at a time because they are unhealthy: one, or 20 %.
#[must_use]
pub fn repair_limit(fleet: usize) -> usize {
    (fleet / 5).max(1)
}

/// How many of a fleet's active entries may be hidden for their health: half of them, and never
/// the last one.
#[must_use]
pub fn hidden_limit(active: usize) -> usize {
    (active / 2).min(active.saturating_sub(1))
}

/// How long an instance that failed `times` lately must be healthy before clients find it again: none
/// the first time, then 10 s, doubled each time, two minutes at most.
#[must_use]
pub fn flap_backoff(times: u32) -> Duration {
    let Some(doublings) = times.checked_sub(2) else {
        return Duration::ZERO;
    };
    // 10 s doubled four times is more than two minutes already.
    let doubled = FLAP_FIRST.saturating_mul(1 << doublings.min(4));
    doubled.min(FLAP_LONGEST)
}

/// How many of the other instances of an environment must answer for one that is only silent to
/// count as lost: more than half.
#[must_use]
pub fn witnesses_needed(others: usize) -> usize {
    others / 2 + 1
}

/// Whether so many failures within a window are too many for a fleet: at least `count`, and at
/// least `percent` of it. A fleet below `count` never melts down: what its repairs rest on then is
/// that each is made first, and made ever more slowly while none becomes healthy.
#[must_use]
pub fn melts(failed: usize, fleet: usize, count: u32, percent: u8) -> bool {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let share = failed.saturating_mul(100) >= fleet.saturating_mul(usize::from(percent));
    failed >= count && share
}

/// Whether so many of an environment's instances doing the same at once is rather the coordinator's
/// own fault: most of them, and at least three. With one or two there is nothing to compare with.
#[must_use]
pub fn most_at_once(same: usize, of: usize) -> bool {
    same >= 3 && same > of / 2
}

/// Whether a provider's list that lacks so many of its machines at once is short rather than true:
/// more than half, and more than one, which is as likely to be gone as to be left out.
#[must_use]
pub fn list_is_short(lacks: usize, of: usize) -> bool {
    lacks > 1 && lacks > of / 2
}

/// How many voters of a quorum of `count` members must agree: more than half.
#[must_use]
pub fn majority(count: u32) -> u32 {
    count / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_fleets_keep_at_least_one_and_never_wait_for_ever() {
        // fleet, unmanaged limit, hidden limit, witnesses among the others
        let table = [
            (1, 1, 0, 1),
            (2, 1, 1, 1),
            (3, 1, 1, 2),
            (5, 1, 2, 3),
            (10, 2, 5, 5),
            (100, 20, 50, 50),
        ];
        for (fleet, unmanaged, hidden, witnesses) in table {
            assert_eq!(unmanaged_limit(fleet), unmanaged, "{fleet}");
            assert_eq!(hidden_limit(fleet), hidden, "{fleet}");
            assert_eq!(witnesses_needed(fleet - 1), witnesses, "{fleet}");
        }
        // fleet, the least that must fail for a meltdown by default, and for distrust
        for (fleet, melt, together) in [
            (1, None, None),
            (2, None, None),
            (3, Some(3), Some(3)),
            (5, Some(3), Some(3)),
            (10, Some(3), Some(6)),
            (100, Some(30), Some(51)),
        ] {
            let least = |enough: &dyn Fn(usize) -> bool| (1..=fleet).find(|many| enough(*many));
            assert_eq!(least(&|many| melts(many, fleet, 3, 30)), melt, "{fleet}");
            assert_eq!(least(&|many| most_at_once(many, fleet)), together);
            assert!(repair_limit(fleet) >= 1 && repair_limit(fleet) <= fleet);
        }
        // A count of one makes also a fleet of one melt down.
        assert!(melts(1, 1, 1, 30));
        // machines that were up, the least that a list must lack to be doubted
        for (of, least) in [(2, 2), (3, 2), (5, 3), (10, 6), (100, 51)] {
            assert!(list_is_short(least, of), "{of}");
            assert!(!list_is_short(least - 1, of), "{of}");
        }
        for (members, least) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)] {
            assert_eq!(majority(members), least, "{members}");
        }
        assert!(!list_is_short(1, 1));
        let waits = [0, 1, 2, 3, 4, 5, 6, 7, u32::MAX].map(|times| flap_backoff(times).as_secs());
        assert_eq!(waits, [0, 0, 10, 20, 40, 80, 120, 120, 120]);
        assert!(FLAPS_FORGOTTEN > FLAP_LONGEST);
        // One alone has nobody to ask: its silence never counts.
        assert!(witnesses_needed(0) > 0);
        assert_eq!(hidden_limit(0), 0);
    }
}
