//! Into how many transactions operations must be split. Pure.

use std::ops::Range;

/// Operations of one transaction. Consul 1.22 takes 128; older ones, and the documentation, say 64.
pub const OPS_MAX: usize = 64;
/// Bytes of one transaction: Consul takes 512 KiB (`txn_max_req_len`), and raft likes less.
pub const SIZE_MAX: usize = 480 * 1024;

/// Why operations cannot be split.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// With so many guards nothing else has room.
    #[error("{count} guards leave no room for anything else")]
    Guards {
        /// How many there are.
        count: usize,
    },
    /// One operation is too large even alone.
    #[error("operation {index} has {size} bytes, at most {SIZE_MAX} fit with its guards")]
    TooLarge {
        /// Its place.
        index: usize,
        /// Its size.
        size: usize,
    },
}

/// Splits operations of these sizes, in their order, into as few transactions as there can be, each
/// with `guards` more operations of `guard_size` bytes together.
///
/// # Errors
/// Where that is not possible.
pub fn split(
    sizes: &[usize],
    guards: usize,
    guard_size: usize,
) -> Result<Vec<Range<usize>>, SplitError> {
    if guards >= OPS_MAX || guard_size >= SIZE_MAX {
        return Err(SplitError::Guards { count: guards });
    }
    let mut parts = Vec::new();
    let mut start = 0;
    let mut filled = guard_size;
    for (index, &size) in sizes.iter().enumerate() {
        if guard_size + size > SIZE_MAX {
            return Err(SplitError::TooLarge { index, size });
        }
        if index - start + guards >= OPS_MAX || filled + size > SIZE_MAX {
            parts.push(start..index);
            start = index;
            filled = guard_size;
        }
        filled += size;
    }
    if start < sizes.len() {
        parts.push(start..sizes.len());
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_hundred_with_one_guard_are_two_transactions() {
        assert_eq!(split(&[100; 100], 1, 100).unwrap(), [0..63, 63..100]);
        assert_eq!(split(&[100; 64], 0, 0).unwrap(), vec![0..64]);
        assert_eq!(split(&[], 1, 100).unwrap(), []);
    }

    #[test]
    fn what_can_never_fit_is_refused() {
        assert_eq!(
            split(&[1, SIZE_MAX + 1], 0, 0),
            Err(SplitError::TooLarge {
                index: 1,
                size: SIZE_MAX + 1
            })
        );
        assert_eq!(split(&[1], 64, 1), Err(SplitError::Guards { count: 64 }));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_doubled_or_moved_and_every_part_fits(
            sizes in proptest::collection::vec(0_usize..SIZE_MAX / 3, 0..300),
            guards in 0_usize..5,
            guard_size in 0_usize..1000,
        ) {
            let parts = split(&sizes, guards, guard_size).unwrap();
            let all: Vec<_> = parts.iter().cloned().flatten().collect();
            prop_assert_eq!(all, (0..sizes.len()).collect::<Vec<_>>());
            for (part, next) in parts.iter().zip(parts.iter().skip(1).map(Some).chain([None])) {
                let size = guard_size + sizes[part.clone()].iter().sum::<usize>();
                prop_assert!(part.len() + guards <= OPS_MAX && size <= SIZE_MAX);
                // As few as there can be: the next one's first would not have fitted.
                if let Some(next) = next {
                    prop_assert!(part.len() + guards == OPS_MAX || size + sizes[next.start] > SIZE_MAX);
                }
            }
        }
    }
}
