//! What every command is given: the flags that all share, the screen, and the way to a coordinator.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use calvin_model::HumanDuration;
use clap::Args;

use super::{
    caller::{CALL_LIMIT, Caller},
    contexts::Home,
    exit::Exit,
    failure::Failure,
    screen::{Answer, Format, Screen},
    target::{Target, Wish},
};

/// The flags that every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Ask the coordinator of this context; see `calvin context list`. Also: CALVIN_CONTEXT.
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "socket")]
    context: Option<String>,
    /// Ask the coordinator that listens on this unix socket. Also: CALVIN_SOCKET.
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// For people, or for programs.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    output: Format,
    /// Wait at most this long, such as 30s or 10m: for an answer (30s unless given, 2s for
    /// `status`), or for the end of what is watched (no limit unless given).
    #[arg(long, global = true, value_name = "DURATION")]
    timeout: Option<HumanDuration>,
    /// Ask nothing before something is deleted or replaced.
    #[arg(long, short = 'y', global = true)]
    yes: bool,
}

/// Whether a change must be confirmed where nobody can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confirm {
    /// Never without a word: a pipe needs `--yes`.
    Always,
    /// Only where somebody can be asked.
    OnTerminal,
}

/// What every command is given.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    global: Global,
    wish: Wish,
    /// Where output goes.
    pub(crate) screen: Screen,
}

impl Setting {
    /// Looks at the flags and where output goes.
    pub(crate) fn new(global: Global) -> Self {
        let wish = Wish {
            socket_flag: global.socket.clone(),
            context_flag: global.context.clone(),
            ..Wish::default()
        };
        let screen = Screen::detect(global.output);
        Self {
            global,
            wish: wish.with_variables(),
            screen,
        }
    }

    /// Which coordinator is meant.
    pub(crate) fn target(&self) -> Result<Target, Failure> {
        self.wish.target(Home::find().as_ref())
    }

    /// Connects to it.
    pub(crate) async fn connect(&self) -> Result<Caller, Failure> {
        self.connect_within(CALL_LIMIT).await
    }

    /// Connects to it; `limit` counts unless `--timeout` says otherwise.
    pub(crate) async fn connect_within(&self, limit: Duration) -> Result<Caller, Failure> {
        Caller::connect(&self.target()?, self.timeout().unwrap_or(limit)).await
    }

    /// Connects for a watch: `--timeout` bounds the whole of it, so each call has its own limit.
    pub(crate) async fn connect_to_watch(&self) -> Result<Caller, Failure> {
        let limit = self
            .timeout()
            .map_or(CALL_LIMIT, |limit| limit.min(CALL_LIMIT));
        Caller::connect(&self.target()?, limit).await
    }

    /// `--socket`.
    pub(crate) fn socket_flag(&self) -> Option<&Path> {
        self.wish.socket_flag.as_deref()
    }

    /// `--timeout`.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.global.timeout.map(|duration| duration.0)
    }

    /// A command that reaches the same coordinator as this one did.
    pub(crate) fn command(&self, command: &str) -> String {
        match command.strip_prefix("calvin ") {
            Some(rest) => format!("calvin{} {rest}", self.wish.flags()),
            None => command.to_owned(),
        }
    }

    /// Asks before something is deleted or replaced.
    pub(crate) fn confirm(
        &self,
        environment: &str,
        what: &str,
        need: Confirm,
    ) -> Result<(), Failure> {
        let tried = || format!("[{environment}] {what}: not done");
        if self.global.yes {
            return Ok(());
        }
        if self.screen.can_ask() {
            let question = format!("[{environment}] {what}: do it?");
            return match self.screen.ask(&question)? {
                Answer::Yes => Ok(()),
                Answer::No => Err(Failure::new(Exit::Refused, tried()).reason("the answer was no")),
            };
        }
        match need {
            Confirm::OnTerminal => Ok(()),
            Confirm::Always => Err(Failure::new(Exit::Usage, tried())
                .reason("there is no terminal to ask on")
                .next("add --yes to do it without a question")),
        }
    }
}
