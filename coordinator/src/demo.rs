//! `calvin demo`: what Calvinverse is for, in under a minute, with nothing pretended.
//!
//! A coordinator is started as a child process and is talked to as any operator would, over its
//! socket. Machines, agents, certificates, names, traffic and crashes are real; what the acts claim
//! is taken from the load generator's counters, the coordinator's own status and `/proc`.

pub mod workload;

mod acts;
mod coordinator;
mod files;
mod operator;
mod processes;
mod show;
mod stage;
mod summary;
mod traffic;
mod world;

use std::{io, path::PathBuf, time::Duration};

use self::{
    show::{Manner, Show},
    stage::Stage,
    summary::Summary,
};

/// How to show the demo, and what to leave.
#[derive(Debug, Clone, Copy)]
pub struct DemoOptions {
    /// What becomes of the environment after the last act.
    pub afterwards: Afterwards,
    /// Whom it is shown to.
    pub output: DemoOutput,
}

/// What becomes of the environment after the last act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// Everything is ended.
    EndAll,
    /// It is left up, to be tried.
    KeepRunning,
}

/// Whom the demo is shown to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DemoOutput {
    /// A person: a screen on a terminal, lines in a pipe.
    People,
    /// A program: lines, and one JSON object as the last.
    Json,
}

/// How the demo ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DemoEnd {
    /// Every act ended as told.
    AsTold,
    /// At least one did not; which, and where its logs lie, was shown.
    NotAsTold,
    /// Somebody stopped it.
    Interrupted,
}

/// Why the demo could not go on.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A file or a folder of the demo.
    #[error("could not {doing} {}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// On which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something of the system.
    #[error("could not {doing}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The coordinator refused, or could not be asked.
    #[error("the coordinator did not {doing}: {}", source.message())]
    Asked {
        /// What was asked of it.
        doing: String,
        /// What it answered.
        #[source]
        source: Box<tonic::Status>,
    },
    /// The coordinator ended by itself.
    #[error("the coordinator ended by itself ({status}); its log is {}", log.display())]
    CoordinatorEnded {
        /// How.
        status: String,
        /// Its log.
        log: PathBuf,
    },
    /// Something did not come about in time.
    #[error("waited {waited:?} for {what}; last seen: {seen}")]
    TookTooLong {
        /// What.
        what: String,
        /// How long.
        waited: Duration,
        /// What was the case instead.
        seen: String,
    },
    /// Something came about that must not.
    #[error("{what}")]
    Unexpected {
        /// What.
        what: String,
    },
}

/// Plays the demo. Ends everything that it started, however it ends; only a demo that is played to
/// its end with [`Afterwards::KeepRunning`] leaves its environment up.
///
/// # Errors
/// When the stage cannot be set or standard output cannot be written. An act that does not end as
/// told is no error of this function: it is shown, and the demo ends [`DemoEnd::NotAsTold`].
pub async fn run(options: DemoOptions) -> Result<DemoEnd, DemoError> {
    let show = Show::new(Manner::detect(options.output));
    let mut interrupted = Interruptions::watch()?;
    let mut stage = Stage::prepare()?;
    let played = tokio::select! {
        played = acts::play(&mut stage, &show) => Some(played),
        () = interrupted.next() => None,
    };
    let Some(mut played) = played else {
        show.close();
        stage.end_all().await;
        show.line("stopped; nothing is left running");
        show.line(&format!("its files stay in {}", stage.home().display()));
        return Ok(DemoEnd::Interrupted);
    };
    let keep = options.afterwards == Afterwards::KeepRunning && played.trouble.is_none();
    if !keep {
        played.leaked += stage.end_all().await;
    }
    show.close();
    let summary = Summary::new(&played);
    if let Some(trouble) = &played.trouble {
        show.trouble(trouble);
    }
    for line in summary.lines(
        &stage,
        if keep {
            Afterwards::KeepRunning
        } else {
            Afterwards::EndAll
        },
    ) {
        show.line(&line);
    }
    if options.output == DemoOutput::Json {
        show.line(&summary.json());
    }
    if keep {
        stage.leave_running();
    }
    Ok(if summary.ok() {
        DemoEnd::AsTold
    } else {
        DemoEnd::NotAsTold
    })
}

/// The signals by which somebody stops the demo.
#[derive(Debug)]
struct Interruptions {
    signals: [tokio::signal::unix::Signal; 3],
}

impl Interruptions {
    fn watch() -> Result<Self, DemoError> {
        use tokio::signal::unix::{SignalKind, signal};
        let watch = |kind| {
            signal(kind).map_err(|source| DemoError::System {
                doing: "watch for signals",
                source,
            })
        };
        Ok(Self {
            signals: [
                watch(SignalKind::interrupt())?,
                watch(SignalKind::terminate())?,
                watch(SignalKind::hangup())?,
            ],
        })
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
