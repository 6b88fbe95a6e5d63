//! One check: how its runs add up to passing or failing.

use std::time::Duration;

use crate::{input::CheckOutcome, spec::CheckRule};

/// What is known of one check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Check {
    verdict: Verdict,
    /// Runs in a row that ended the same way, up to the threshold they count towards.
    passes: u32,
    fails: u32,
    last_run: Option<Duration>,
    /// Why the last run failed, if it did.
    reason: Option<String>,
}

/// What a check says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not enough fresh runs.
    #[default]
    Open,
    Passing,
    Failing,
}

impl Check {
    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict
    }

    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Counts one run.
    pub(crate) fn record(&mut self, now: Duration, rule: &CheckRule, outcome: CheckOutcome) {
        self.last_run = Some(now);
        match outcome {
            CheckOutcome::Pass => {
                self.reason = None;
                self.fails = 0;
                self.passes = self.passes.saturating_add(1);
                if self.passes >= rule.rise {
                    self.verdict = Verdict::Passing;
                }
            }
            CheckOutcome::Fail(reason) => {
                self.reason = Some(reason);
                self.passes = 0;
                self.fails = self.fails.saturating_add(1);
                if self.fails >= rule.fall {
                    self.verdict = Verdict::Failing;
                }
            }
        }
    }

    /// When the last result stops to say anything; `None` if there is no verdict to lose.
    pub(crate) fn stale_at(&self, rule: &CheckRule) -> Option<Duration> {
        match self.verdict {
            Verdict::Open => None,
            Verdict::Passing | Verdict::Failing => self.last_run.map(|at| at + rule.stale_after),
        }
    }

    /// Forgets a verdict whose last run is too long ago.
    pub(crate) fn expire(&mut self, now: Duration, rule: &CheckRule) {
        if self.stale_at(rule).is_some_and(|at| at <= now) {
            self.forget();
        }
    }

    /// Starts anew: what it said was about another process or another role.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use calvin_model::image::CheckWhen;

    use super::*;

    fn rule(rise: u32, fall: u32) -> CheckRule {
        CheckRule {
            name: "http".into(),
            rise,
            fall,
            when: CheckWhen::Always,
            stale_after: Duration::from_secs(10),
        }
    }

    fn run(check: &mut Check, rule: &CheckRule, outcomes: &str) -> Verdict {
        for outcome in outcomes.chars() {
            let outcome = match outcome {
                '+' => CheckOutcome::Pass,
                _ => CheckOutcome::Fail("refused".into()),
            };
            check.record(Duration::from_secs(1), rule, outcome);
        }
        check.verdict()
    }

    #[test]
    fn runs_in_a_row_decide_and_a_single_slip_does_not() {
        for (rise, fall, runs, verdict) in [
            (1, 2, "", Verdict::Open),
            (1, 2, "+", Verdict::Passing),
            (1, 2, "-", Verdict::Open),
            (1, 2, "--", Verdict::Failing),
            (1, 2, "+-", Verdict::Passing),
            (1, 2, "+-+-", Verdict::Passing),
            (1, 2, "+--", Verdict::Failing),
            (2, 2, "+--+", Verdict::Failing),
            (2, 2, "+--++", Verdict::Passing),
            (3, 1, "++-++", Verdict::Failing),
            (3, 1, "++-+++", Verdict::Passing),
        ] {
            let mut check = Check::default();
            let found = run(&mut check, &rule(rise, fall), runs);
            assert_eq!(found, verdict, "rise {rise} fall {fall} runs {runs:?}");
        }
    }

    #[test]
    fn a_verdict_whose_last_run_is_long_ago_is_forgotten() {
        let rule = rule(1, 1);
        let mut check = Check::default();
        run(&mut check, &rule, "+");
        check.expire(Duration::from_millis(10_999), &rule);
        assert_eq!(check.verdict(), Verdict::Passing);
        check.expire(Duration::from_secs(11), &rule);
        assert_eq!(check.verdict(), Verdict::Open);
    }
}
