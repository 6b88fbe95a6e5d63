//! Follows a rollout to its end: a live view on a terminal, a line for each change in a pipe, an
//! object for each state as JSON.

use std::time::{Duration, Instant};

use calvin_proto::wire::{FleetRequest, RolloutStatus};
use tonic::{Response, Status, Streaming};

use super::{
    caller::Caller,
    exit::Exit,
    failure::Failure,
    feed::{Feed, Step},
    live::{Live, SILENT},
    render::{
        change::said,
        live::{advanced, ending, frame, last_heard, line},
        time::span,
    },
    screen::{Format, Sink},
    setting::Setting,
    view::RolloutView,
};

/// What the person who follows asked for: it decides which end is the good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aim {
    /// The new image is to serve.
    Forward,
    /// The old image is to serve again.
    Back,
}

/// What to follow.
#[derive(Debug, Clone)]
pub(crate) struct Course {
    /// The environment's name.
    pub(crate) environment: String,
    /// The fleet.
    pub(crate) fleet: String,
    /// Exactly this rollout; `None` for whichever is the newest.
    pub(crate) rollout: Option<String>,
    /// Which end is the good one.
    pub(crate) aim: Aim,
}

/// Follows it to its end.
pub(crate) async fn follow(
    setting: &Setting,
    caller: &Caller,
    course: Course,
) -> Result<Exit, Failure> {
    let tried = format!("could not watch the rollout of {}", course.fleet);
    let fleet = course.fleet.clone();
    let open = async || -> Result<Response<Streaming<RolloutStatus>>, Status> {
        let mut client = caller.client();
        client
            .watch_rollout(FleetRequest {
                fleet: fleet.clone(),
            })
            .await
    };
    let mut feed = Feed::new(&tried, setting.timeout(), open)?;
    let mut watcher = Watcher::new(setting, course);
    loop {
        match feed.next().await? {
            Step::Item(status) => {
                if let Some(exit) = watcher.state(status.into())? {
                    return Ok(exit);
                }
            }
            Step::Tick => watcher.tick()?,
            Step::Away(for_) => watcher.away(for_)?,
            // A restart of the coordinator may end a stream politely: ask again, until the
            // rollout says itself that it has ended.
            Step::Ended => watcher.ended()?,
            Step::Interrupted => return watcher.interrupted(),
            Step::TimedOut => return Err(watcher.timed_out()),
        }
    }
}

/// What there is besides a rollout's picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// It is as the coordinator says now.
    Now,
    /// It is as the coordinator said so long ago.
    Ago(Duration),
}

struct Watcher<'a> {
    setting: &'a Setting,
    course: Course,
    live: Live,
    newest: Option<(RolloutView, Instant)>,
    said: String,
    ends_without_news: u32,
}

/// Streams that may end without a single state before there is nothing to watch.
const EMPTY_STREAMS_MAX: u32 = 5;

impl<'a> Watcher<'a> {
    fn new(setting: &'a Setting, course: Course) -> Self {
        Self {
            setting,
            course,
            live: Live::new(setting.screen),
            newest: None,
            said: String::new(),
            ends_without_news: 0,
        }
    }

    fn state(&mut self, rollout: RolloutView) -> Result<Option<Exit>, Failure> {
        let wanted = self.course.rollout.as_ref();
        // The one before may still be the newest for a moment after a start.
        if rollout.id.is_empty()
            || wanted.is_some_and(|wanted| *wanted != rollout.id && rollout.ended)
        {
            return Ok(None);
        }
        self.ends_without_news = 0;
        let ended = rollout.ended.then(|| self.exit_of(&rollout));
        self.show(&rollout)?;
        if ended.is_some() {
            self.finish(&rollout)?;
        }
        self.newest = Some((rollout, Instant::now()));
        Ok(ended)
    }

    fn show(&mut self, rollout: &RolloutView) -> Result<(), Failure> {
        match (self.setting.screen.format, self.setting.screen.sink) {
            (Format::Json, _) => self.setting.screen.json(rollout),
            (Format::Table, Sink::Terminal) => self.draw(rollout, Heard::Now),
            (Format::Table, Sink::Pipe) => {
                let text = line(&self.course.environment, rollout);
                if text == self.said {
                    return Ok(());
                }
                self.setting
                    .screen
                    .text(&format!("{text}; {}\n", span(rollout.total_ms)))?;
                self.said = text;
                Ok(())
            }
        }
    }

    fn draw(&mut self, rollout: &RolloutView, heard: Heard) -> Result<(), Failure> {
        let screen = self.setting.screen;
        // The first line and the last are ours.
        let lines = screen.lines_max().saturating_sub(2).max(1);
        let picture = frame(&self.course.environment, rollout, screen.canvas(), lines);
        let (top, footer) = match heard {
            Heard::Now => (
                String::new(),
                "Ctrl-C ends the watching; the rollout goes on",
            ),
            Heard::Ago(silent) => (
                last_heard(silent, screen.canvas()),
                "the coordinator does not answer; asked again until it is back",
            ),
        };
        self.live.draw(&format!("{top}{picture}  {footer}\n"))
    }

    fn finish(&mut self, rollout: &RolloutView) -> Result<(), Failure> {
        let screen = self.setting.screen;
        if screen.format == Format::Json {
            return Ok(());
        }
        let mut text = String::new();
        if screen.sink == Sink::Terminal {
            let lines = screen.lines_max();
            text = frame(&self.course.environment, rollout, screen.canvas(), lines);
        }
        text.push_str(&ending(&self.course.environment, rollout, screen.canvas()));
        if rollout.phase != "done" {
            let next = self
                .setting
                .command(&format!("calvin rollout explain {}", rollout.fleet));
            text.push_str(&format!("next: {next}\n"));
        }
        self.live.finish(&text)
    }

    fn exit_of(&self, rollout: &RolloutView) -> Exit {
        match (rollout.phase.as_str(), self.course.aim) {
            ("done", Aim::Forward) | ("rolled_back" | "failed", Aim::Back) => Exit::Done,
            ("rolled_back", Aim::Forward) => Exit::RolledBack,
            // `failed`, a going back that came too late, and what a newer coordinator may say.
            _ => Exit::Failed,
        }
    }

    fn tick(&mut self) -> Result<(), Failure> {
        let screen = self.setting.screen;
        let Some((rollout, at)) = self.newest.clone() else {
            return Ok(());
        };
        if screen.format == Format::Json || screen.sink == Sink::Pipe {
            return Ok(());
        }
        let silent = at.elapsed();
        if silent < SILENT {
            return self.draw(&advanced(rollout, silent), Heard::Now);
        }
        // It may be long over: what is not known is not counted on.
        self.draw(&rollout, Heard::Ago(silent))
    }

    fn away(&mut self, for_: Duration) -> Result<(), Failure> {
        let text = "the coordinator does not answer; asked again until it is back";
        let screen = self.setting.screen;
        if screen.format == Format::Table && screen.sink == Sink::Terminal {
            return match self.newest.clone() {
                Some((rollout, at)) => self.draw(&rollout, Heard::Ago(at.elapsed())),
                None => {
                    let remark = format!("  {text} ({}s)\n", for_.as_secs());
                    self.live.draw(&remark)
                }
            };
        }
        if self.said != text {
            screen.remark(text);
            text.clone_into(&mut self.said);
        }
        Ok(())
    }

    fn ended(&mut self) -> Result<(), Failure> {
        self.ends_without_news += 1;
        if self.ends_without_news > EMPTY_STREAMS_MAX {
            let fleet = &self.course.fleet;
            return Err(Failure::new(
                Exit::Refused,
                format!("could not watch the rollout of {fleet}"),
            )
            .reason("there is none")
            .next(
                self.setting
                    .command(&format!("calvin rollout plan {fleet}")),
            ));
        }
        Ok(())
    }

    /// The command that goes on watching.
    fn again(&self) -> String {
        self.setting
            .command(&format!("calvin rollout watch {}", self.course.fleet))
    }

    fn interrupted(&mut self) -> Result<Exit, Failure> {
        let sentence = format!(
            "the watching ended; the rollout goes on. Watch again with: {}",
            self.again()
        );
        let screen = self.setting.screen;
        match screen.format {
            Format::Table => {
                // A terminal has shown `^C` at the beginning of this line.
                let back = match screen.sink {
                    Sink::Terminal => "\r\x1b[K",
                    Sink::Pipe => "",
                };
                let text = said(&self.course.environment, &sentence, screen.canvas());
                screen.text(&format!("{back}{text}"))?;
            }
            Format::Json => screen.remark(&sentence),
        }
        Ok(Exit::Interrupted)
    }

    fn timed_out(&self) -> Failure {
        let tried = format!("the rollout of {} has not ended in time", self.course.fleet);
        let reason = match &self.newest {
            Some((rollout, _)) => format!("it is {} and goes on", rollout.phase),
            None => "the coordinator has not shown it yet".to_owned(),
        };
        Failure::new(Exit::Timeout, tried)
            .reason(reason)
            .next(self.again())
    }
}
