//! Keeps one address from washing everything else out of the audit: beyond a number of the same
//! refusals in a minute the rest are counted, and the count is written when the minute is over.

use std::{collections::BTreeMap, mem};

/// Lines of one kind from one address in a minute: more than a person or a broken agent (which
/// pauses between its tries) makes.
const LINES: u64 = 60;
/// The minute.
const WINDOW_MS: u64 = 60_000;
/// Kinds and addresses that are remembered: beyond it all counts are written at once and begin
/// anew, so that what is forgotten is never lost.
const KEYS: usize = 1024;

/// Counts refusals by word and address.
#[derive(Debug, Default)]
pub(super) struct Flood {
    began_wall_ms: u64,
    seen: BTreeMap<(String, String), u64>,
}

/// So many more of the same were not written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unwritten {
    pub(super) what: String,
    pub(super) address: String,
    pub(super) count: u64,
}

impl Flood {
    /// Counts one refusal. Gives whether it is to be written, and what is to be written of the
    /// minute that is over.
    pub(super) fn count(
        &mut self,
        wall_ms: u64,
        what: &str,
        address: &str,
    ) -> (bool, Vec<Unwritten>) {
        let key = (what.to_owned(), address.to_owned());
        let full = self.seen.len() >= KEYS && !self.seen.contains_key(&key);
        // A clock that was set back begins a new minute, too.
        let over = wall_ms.abs_diff(self.began_wall_ms) >= WINDOW_MS;
        let unwritten = if full || over {
            self.began_wall_ms = wall_ms;
            self.take()
        } else {
            Vec::new()
        };
        let seen = self.seen.entry(key).or_default();
        *seen += 1;
        (*seen <= LINES, unwritten)
    }

    /// What was counted and not written so far; begins anew.
    pub(super) fn take(&mut self) -> Vec<Unwritten> {
        mem::take(&mut self.seen)
            .into_iter()
            .filter(|(_, count)| *count > LINES)
            .map(|((what, address), count)| Unwritten {
                what,
                address,
                count: count - LINES,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_others_are_written() {
        let mut flood = Flood::default();
        let mut written = 0;
        for _ in 0..1000 {
            let (write, unwritten) = flood.count(100_000, "handshake", "10.0.0.1");
            written += u64::from(write);
            assert!(unwritten.is_empty());
        }
        assert_eq!(written, LINES);
        assert!(flood.count(100_000, "handshake", "10.0.0.2").0);
        assert!(flood.count(100_000, "token_spent", "10.0.0.1").0);
        let (write, unwritten) = flood.count(160_000, "handshake", "10.0.0.1");
        assert!(write);
        assert_eq!(
            unwritten,
            [Unwritten {
                what: "handshake".into(),
                address: "10.0.0.1".into(),
                count: 1000 - LINES
            }]
        );
    }

    #[test]
    fn what_is_remembered_is_bounded_and_no_count_is_lost() {
        let mut flood = Flood::default();
        let mut accounted = 0;
        for number in 0..10_000u64 {
            for _ in 0..LINES + 1 {
                let (write, unwritten) = flood.count(1, "handshake", &number.to_string());
                accounted += u64::from(write);
                accounted += unwritten.iter().map(|rest| rest.count).sum::<u64>();
            }
            assert!(flood.seen.len() <= KEYS);
        }
        accounted += flood.take().iter().map(|rest| rest.count).sum::<u64>();
        assert_eq!(accounted, 10_000 * (LINES + 1));
    }
}
