//! `calvin serve`: runs a coordinator until it is told to end.

mod logs;

use std::{
    cell::Cell,
    path::{Path, PathBuf},
};

use calvin_proto::machine::descriptors::raise_limit;
use clap::Args;
use serde::Serialize;
use tracing::{debug, warn};

use super::{
    exit::Exit,
    failure::Failure,
    setting::Setting,
    style::{Canvas, Tone},
    target::{CONFIG_DEFAULT, SOCKET_DEFAULT},
};
use crate::{
    config::{self, ServeConfig},
    runtime::{self, AtEnd, Ready},
    store::Copies,
};

/// Arguments of `calvin serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// The coordinator's configuration.
    #[arg(long, value_name = "FILE", default_value = CONFIG_DEFAULT, conflicts_with = "dev")]
    config: PathBuf,
    /// An environment on this machine to try things in, without a file written by hand; its
    /// machines end with it.
    #[arg(long)]
    dev: bool,
    /// Where --dev keeps its data; `~/.local/state/calvin/dev` unless given.
    #[arg(long, value_name = "DIRECTORY", requires = "dev")]
    data: Option<PathBuf>,
    /// Start on a copy of a store or on a restored backup: decide nothing, and show what differs
    /// from the world, until a person approves it (`calvin recover`).
    #[arg(long, conflicts_with = "dev")]
    adopt: bool,
}

/// Runs a coordinator.
pub(crate) async fn run(arguments: ServeArguments, setting: &Setting) -> Result<Exit, Failure> {
    let config = configuration(&arguments)?;
    logs::to_standard_error(&config.log)?;
    // Each agent and each probe has one, and each machine that is made some for a moment.
    match raise_limit() {
        Ok((before, now)) => debug!(?before, ?now, "raised the limit of descriptors"),
        Err(error) => warn!(%error, "could not raise the limit of descriptors"),
    }
    let started = Cell::new(false);
    let failed = |error: runtime::ServeError| {
        let what = if started.get() {
            "the coordinator could not go on"
        } else {
            "could not start a coordinator"
        };
        Failure::new(Exit::Failed, what).because(error)
    };
    let shutdown = runtime::told_to_end().map_err(failed)?;
    let environment = config.environment.to_string();
    let at_end = if arguments.dev {
        AtEnd::MachinesEnd
    } else {
        AtEnd::MachinesGoOn
    };
    let copies = if arguments.adopt {
        Copies::Adopted
    } else {
        Copies::Refused
    };
    let say = |ready: &Ready| {
        started.set(true);
        let view = ReadyView::new(ready);
        // Nobody needs to read it: the coordinator serves all the same.
        let _ = setting
            .screen
            .show(&view, |view, canvas| text(view, at_end, setting, canvas));
    };
    runtime::run(config, copies, at_end, say, shutdown)
        .await
        .map_err(failed)?;
    let what = match at_end {
        AtEnd::MachinesGoOn => "the coordinator has ended; its machines and their agents go on",
        AtEnd::MachinesEnd => {
            "the coordinator and its machines have ended; the next start makes its fleets again"
        }
    };
    setting.screen.remark(&format!("[{environment}] {what}"));
    Ok(Exit::Done)
}

fn configuration(arguments: &ServeArguments) -> Result<ServeConfig, Failure> {
    if arguments.dev {
        return config::dev(arguments.data.clone()).map_err(|error| {
            Failure::new(Exit::Usage, "could not prepare an environment to try").because(error)
        });
    }
    ServeConfig::load(&arguments.config).map_err(|error| {
        Failure::new(Exit::Usage, "could not start a coordinator")
            .because(error)
            .next(
                "name another file with --config; to try things on this machine without one: \
                 calvin serve --dev",
            )
    })
}

/// Where a coordinator that is ready is reached, as JSON.
#[derive(Debug, Serialize)]
struct ReadyView {
    environment: String,
    version: &'static str,
    epoch: u64,
    socket: PathBuf,
    agents: String,
    operators: Option<String>,
    http: Option<String>,
}

impl ReadyView {
    fn new(ready: &Ready) -> Self {
        Self {
            environment: ready.environment.clone(),
            version: env!("CARGO_PKG_VERSION"),
            epoch: ready.epoch,
            socket: ready.socket.clone(),
            agents: ready.agents.to_string(),
            operators: ready.operators.map(|address| address.to_string()),
            http: ready.http.map(|address| address.to_string()),
        }
    }
}

fn text(view: &ReadyView, at_end: AtEnd, setting: &Setting, canvas: Canvas) -> String {
    let heading = canvas
        .paint
        .tone(Tone::Bold, &format!("[{}]", view.environment));
    let mut text = format!(
        "{heading} coordinator {} is ready (epoch {})\n",
        view.version, view.epoch
    );
    let mut line = |label: &str, value: &str| {
        text.push_str(&canvas.labelled(LABEL, &format!("  {label}"), Tone::Dim, value));
    };
    line("socket", &view.socket.display().to_string());
    line("agents", &view.agents);
    if let Some(operators) = &view.operators {
        line("operators", operators);
    }
    if let Some(http) = &view.http {
        line("health", &format!("http://{http}/healthz"));
    }
    line("ask it", &ask(&view.socket, setting));
    let end = match at_end {
        AtEnd::MachinesGoOn => "Ctrl-C or SIGTERM; its machines go on",
        AtEnd::MachinesEnd => "Ctrl-C or SIGTERM; its machines end with it",
    };
    line("end it", end);
    text
}

/// Columns of the labels.
const LABEL: usize = 13;

/// The shortest command that asks exactly this coordinator.
fn ask(socket: &Path, setting: &Setting) -> String {
    let found = setting.target().ok();
    let found = found.as_ref().and_then(|target| target.socket());
    if found == Some(socket) || socket == Path::new(SOCKET_DEFAULT) {
        "calvin status".to_owned()
    } else {
        format!("calvin --socket {} status", socket.display())
    }
}
