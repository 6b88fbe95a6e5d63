//! `calvin status`: what is wrong, since when, what happens next, and what to type.

use std::time::{Duration, Instant};

use calvin_proto::wire::{StatusReply, StatusRequest};
use clap::Args;
use tonic::{Response, Status, Streaming};

use super::{
    caller::Caller,
    exit::Exit,
    failure::Failure,
    feed::{Feed, Step},
    live::{Live, SILENT},
    render,
    screen::{Format, Screen, Sink},
    setting::Setting,
    view::StatusView,
};

/// `status` answers within this, or says that nobody does: who types it has no time.
const STATUS_LIMIT: Duration = Duration::from_secs(2);

/// Arguments of `calvin status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    /// One fleet only.
    fleet: Option<String>,
    /// Show it again at each change, until Ctrl-C.
    #[arg(long, short)]
    watch: bool,
}

impl StatusArguments {
    fn request(&self) -> StatusRequest {
        StatusRequest {
            fleet: self.fleet.clone().unwrap_or_default(),
        }
    }
}

/// Shows the state of everything.
pub(crate) async fn run(arguments: StatusArguments, setting: &Setting) -> Result<Exit, Failure> {
    if arguments.watch {
        let caller = setting.connect_to_watch().await?;
        return watch(&arguments, setting, &caller).await;
    }
    let caller = setting.connect_within(STATUS_LIMIT).await?;
    let status = ask(&caller, arguments.request()).await?;
    setting.screen.show(&status, |status, canvas| {
        render::status::status(status, canvas)
    })?;
    Ok(match status.recovering {
        Some(_) => Exit::Recovering,
        None => Exit::Done,
    })
}

/// Asks for the state once.
pub(crate) async fn ask(caller: &Caller, request: StatusRequest) -> Result<StatusView, Failure> {
    let tried = match request.fleet.as_str() {
        "" => "could not ask for the status".to_owned(),
        fleet => format!("could not ask for the status of fleet {fleet}"),
    };
    ask_for(caller, &tried, request).await
}

/// Asks for the state once, to do something else; `tried` says what is not done without it.
pub(crate) async fn ask_for(
    caller: &Caller,
    tried: &str,
    request: StatusRequest,
) -> Result<StatusView, Failure> {
    let mut client = caller.client();
    let reply = caller.ask(tried, client.status(request)).await?;
    Ok(reply.into())
}

async fn watch(
    arguments: &StatusArguments,
    setting: &Setting,
    caller: &Caller,
) -> Result<Exit, Failure> {
    let request = arguments.request();
    let open = async || -> Result<Response<Streaming<StatusReply>>, Status> {
        caller.client().watch_status(request.clone()).await
    };
    let mut feed = Feed::new("could not watch the status", setting.timeout(), open)?;
    let screen = setting.screen;
    let mut live = Live::new(screen);
    let began = Instant::now();
    let mut newest: Option<(String, Instant)> = None;
    let mut remarked = false;
    loop {
        match feed.next().await? {
            Step::Item(reply) => {
                remarked = false;
                let status = StatusView::from(reply);
                let text = render::status::status(&status, screen.canvas());
                match (screen.format, screen.sink) {
                    (Format::Json, _) => screen.json(&status)?,
                    (Format::Table, Sink::Pipe) => screen.text(&format!("{text}\n"))?,
                    (Format::Table, Sink::Terminal) => live.draw(&cut(&text, screen))?,
                }
                newest = Some((text, Instant::now()));
            }
            Step::Away(_) if on_terminal(screen) => not_heard(&mut live, screen, &newest, began)?,
            Step::Tick if on_terminal(screen) => {
                let heard = newest.as_ref().map_or(began, |(_, at)| *at);
                if heard.elapsed() >= SILENT {
                    not_heard(&mut live, screen, &newest, began)?;
                }
            }
            Step::Away(_) if !remarked => {
                remarked = true;
                screen.remark("the coordinator does not answer; asked again until it is back");
            }
            Step::Away(_) | Step::Tick | Step::Ended => {}
            Step::Interrupted => return Ok(Exit::Interrupted),
            Step::TimedOut => {
                return Err(
                    Failure::new(Exit::Timeout, "the watching of the status ended")
                        .reason("--timeout passed"),
                );
            }
        }
    }
}

/// Draws the newest state again, and above it how old it is.
fn not_heard(
    live: &mut Live,
    screen: Screen,
    newest: &Option<(String, Instant)>,
    began: Instant,
) -> Result<(), Failure> {
    let (text, at) = match newest {
        Some((text, at)) => (text.as_str(), *at),
        None => ("", began),
    };
    let top = render::live::last_heard(at.elapsed(), screen.canvas());
    live.draw(&cut(&format!("{top}{text}"), screen))
}

fn on_terminal(screen: Screen) -> bool {
    screen.format == Format::Table && screen.sink == Sink::Terminal
}

/// As much of a picture as a terminal has room for.
fn cut(text: &str, screen: Screen) -> String {
    let lines = screen.lines_max();
    text.split_inclusive('\n').take(lines).collect()
}
