//! How `calvin-agent` ends: every exit code in one place, listed in `--help`.

use std::process::ExitCode;

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// What was asked for is done.
    Done,
    /// It could not be done; the reason is on standard error.
    Failed,
    /// The command line was not understood. The same as clap's own.
    Usage,
    /// A file that a person wrote is wrong.
    Config,
    /// No agent answered on the machine's socket.
    Unreachable,
}

impl Exit {
    /// The number that the shell sees.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Config => 3,
            Self::Unreachable => 4,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The table of `--help`.
pub const HELP: &str = "\
Exit codes:
  0  done
  1  could not be done; the reason is on standard error
  2  the command line was not understood
  3  a file is wrong
  4  no agent answered on the machine's socket";
