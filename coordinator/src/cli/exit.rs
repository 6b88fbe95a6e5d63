//! How `calvin` ends, in one enum: scripts must be able to tell "it was rolled back" from "nobody
//! could be asked" without reading prose. `--help` and `docs/exit-codes.md` are made from it.

use std::{fmt::Write as _, process::ExitCode};

/// Every way in which `calvin` ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// What was asked for is done, or was shown.
    Done,
    /// It was tried and failed.
    Failed,
    /// The command line or a file given to it is wrong; nothing was asked.
    Usage,
    /// A rollout went back to the image that served before.
    RolledBack,
    /// The coordinator said no.
    Refused,
    /// `--timeout` passed first.
    Timeout,
    /// No coordinator could be reached.
    CouldNotAsk,
    /// A simulation found a rule of the coordinator broken.
    RuleBroken,
    /// The coordinator decides nothing until a person approves what it found.
    Recovering,
    /// Ctrl-C ended the watching, or the reader of the output went away.
    Interrupted,
}

impl Exit {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 10] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::RolledBack,
        Self::Refused,
        Self::Timeout,
        Self::CouldNotAsk,
        Self::RuleBroken,
        Self::Recovering,
        Self::Interrupted,
    ];

    /// The process's exit code. 2 is what the argument parser uses itself; 130 is what shells use
    /// for Ctrl-C (128 and the number of SIGINT).
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::RolledBack => 3,
            Self::Refused => 4,
            Self::Timeout => 5,
            Self::CouldNotAsk => 6,
            Self::RuleBroken => 7,
            Self::Recovering => 8,
            Self::Interrupted => 130,
        }
    }

    /// The name in JSON errors.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::RolledBack => "rolled_back",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::CouldNotAsk => "could_not_ask",
            Self::RuleBroken => "rule_broken",
            Self::Recovering => "recovering",
            Self::Interrupted => "interrupted",
        }
    }

    /// What it means, for `--help`: at most 60 characters, so that it fits 80 columns.
    const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done as asked, or shown as asked",
            Self::Failed => "tried, and failed; or a check of `doctor` failed",
            Self::Usage => "the command line or a file is wrong; nothing was asked",
            Self::RolledBack => "the rollout went back to the old image",
            Self::Refused => "refused, by the coordinator or by you; nothing was changed",
            Self::Timeout => "--timeout passed first; what was begun goes on",
            Self::CouldNotAsk => "no coordinator could be reached",
            Self::RuleBroken => "a simulation found a rule of the coordinator broken",
            Self::Recovering => "the coordinator recovers: a person must approve first",
            Self::Interrupted => {
                "Ctrl-C; what was watched goes on, what was half made here is removed"
            }
        }
    }

    /// What to do about it, for the documentation.
    const fn advice(self) -> &'static str {
        match self {
            Self::Done => "Nothing.",
            Self::Failed => {
                "Read the error; `calvin rollout explain FLEET` says why a rollout failed."
            }
            Self::Usage => "Mend the command or the file; the error shows the place.",
            Self::RolledBack => {
                "The old image serves. `calvin rollout explain FLEET` says what was wrong with the new one."
            }
            Self::Refused => "Read the reason; asking again unchanged gives the same answer.",
            Self::Timeout => "Look with `calvin status` what became of it before asking again.",
            Self::CouldNotAsk => "Asking again is safe. `calvin doctor` looks for the cause.",
            Self::RuleBroken => {
                "Report it with the command that `calvin simulate` shows: it runs the same again."
            }
            Self::Recovering => {
                "`calvin recover show` says what was found; nothing is decided before `calvin recover approve`."
            }
            Self::Interrupted => "`calvin rollout watch FLEET` goes on watching.",
        }
    }

    /// The table at the end of `--help`.
    #[must_use]
    pub fn help() -> String {
        let mut text = String::from("Exit codes:\n");
        for exit in Self::ALL {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {:>3}  {}", exit.code(), exit.meaning());
        }
        text.trim_end().to_owned()
    }

    /// The page `docs/exit-codes.md`.
    #[must_use]
    pub fn page() -> String {
        let mut text = String::from(
            "# Exit codes of `calvin`\n\n\
             Made from `coordinator/src/cli/exit.rs`; a test compares them. With `--output json` an \
             error is one JSON object on standard error, and `exit` in it is the name below.\n\n\
             | code | name | meaning | what to do |\n|---|---|---|---|\n",
        );
        for exit in Self::ALL {
            let _ = writeln!(
                text,
                "| {} | `{}` | {} | {} |",
                exit.code(),
                exit.name(),
                exit.meaning(),
                exit.advice()
            );
        }
        text
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cli::golden;

    #[test]
    fn no_two_ends_share_a_code_or_a_name() {
        let codes: BTreeSet<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        let names: BTreeSet<&str> = Exit::ALL.iter().map(|exit| exit.name()).collect();
        assert_eq!(
            (codes.len(), names.len()),
            (Exit::ALL.len(), Exit::ALL.len())
        );
    }

    #[test]
    fn help_fits_eighty_columns() {
        for line in Exit::help().lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn the_page_in_docs_says_what_the_program_does() {
        golden::assert_file("docs/exit-codes.md", &Exit::page());
    }
}
