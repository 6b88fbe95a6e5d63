//! Whose turn it is, and for how long one look goes on. Pure, but for the clock.

use std::{borrow::Borrow, collections::BTreeSet, ops::Bound, time::Duration};

use tokio::time::Instant;

/// One look begins nothing more after this: what is read meanwhile waits, and so does whatever the engine
/// wants. With the last request, which ends after `timeout` of `[consul]`, it is a few seconds.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// How long a look has gone on.
#[derive(Debug)]
pub(super) struct Pace {
    began: Instant,
}

impl Pace {
    pub(super) fn begin() -> Self {
        let began = Instant::now();
        Self { began }
    }

    /// Whether nothing more is to be begun.
    pub(super) fn is_over(&self) -> bool {
        self.began.elapsed() > LOOK_MAX
    }
}

/// All of them, from the one after the last that had its turn: one that fails or takes long keeps no other
/// from it for ever.
pub(super) fn in_turn<T, Q>(all: &BTreeSet<T>, last: Option<&Q>) -> Vec<T>
where
    T: Ord + Clone + Borrow<Q>,
    Q: Ord,
{
    let Some(last) = last else {
        return all.iter().cloned().collect();
    };
    let after = all.range((Bound::Excluded(last), Bound::Unbounded));
    let until = all.range((Bound::Unbounded, Bound::Included(last)));
    after.chain(until).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_had_its_turn_last_is_the_last_one_next_time() {
        let all = BTreeSet::from([1, 3, 5]);
        assert_eq!(in_turn(&all, None::<&i32>), [1, 3, 5]);
        for (last, order) in [
            (1, [3, 5, 1]),
            (3, [5, 1, 3]),
            (5, [1, 3, 5]),
            // It is gone meanwhile.
            (2, [3, 5, 1]),
            (9, [1, 3, 5]),
        ] {
            assert_eq!(in_turn(&all, Some(&last)), order, "after {last}");
        }
    }
}
