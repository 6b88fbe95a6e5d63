//! What the audience sees: a screen that is drawn again and again on a terminal, or one line for
//! each thing that happens in a pipe.

mod frame;
mod line;
mod scene;
mod terminal;

pub(super) use scene::{ActState, Verdict};

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use calvin_engine::chain;
use calvin_proto::wire::StatusReply;

use self::{scene::Scene, terminal::Terminal};
use super::{DemoError, DemoOutput, traffic::Traffic, world};

/// Time from one picture to the next: what an eye takes for movement.
const PICTURE_INTERVAL: Duration = Duration::from_millis(100);

/// How to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// A screen.
    Screen,
    /// Lines.
    Lines,
}

impl Manner {
    /// A screen only where somebody looks at one.
    pub(super) fn detect(output: DemoOutput) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if output == DemoOutput::People && io::stdout().is_terminal() && !dumb {
            Self::Screen
        } else {
            Self::Lines
        }
    }
}

/// Shows the demo. Clones show on the same screen.
#[derive(Debug, Clone)]
pub(super) struct Show {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    scene: Scene,
    /// Until it is closed, where there is a screen.
    terminal: Option<Terminal>,
    /// What was last said of the web servers' rollout, in lines.
    told: String,
}

impl Show {
    pub(super) fn new(manner: Manner) -> Self {
        let terminal = (manner == Manner::Screen).then(Terminal::open);
        let drawn = terminal.is_some();
        let show = Self {
            shared: Arc::new(Mutex::new(Shared {
                scene: Scene::new(),
                terminal,
                told: String::new(),
            })),
        };
        if drawn {
            tokio::spawn(show.clone().draw_again_and_again());
        }
        show
    }

    /// Says in one sentence what happens now.
    pub(super) fn say(&self, sentence: &str) {
        let mut shared = self.lock();
        sentence.clone_into(&mut shared.scene.sentence);
        shared.tell(sentence);
    }

    /// An act begins, or has ended.
    pub(super) fn act(&self, index: usize, state: ActState) {
        let mut shared = self.lock();
        let line = shared.scene.set_act(index, state);
        shared.tell(&line);
    }

    /// The coordinator's newest word.
    pub(super) fn status(&self, status: Arc<StatusReply>) {
        let mut shared = self.lock();
        if let Some(rollout) = world::web_rollout(&status) {
            let told = format!("rollout {}: {}", rollout.id, rollout.phase);
            if told != shared.told && !rollout.id.is_empty() {
                shared.tell(&told);
                shared.told = told;
            }
        }
        shared.scene.status = Some(status);
        shared.scene.coordinator_up = true;
    }

    /// The coordinator does not answer.
    pub(super) fn coordinator_away(&self) {
        self.lock().scene.coordinator_up = false;
    }

    /// The newest counters.
    pub(super) fn traffic(&self, traffic: Traffic) {
        self.lock().scene.traffic = traffic;
    }

    /// Ends the screen; what comes now are lines below its last picture.
    pub(super) fn close(&self) {
        let mut shared = self.lock();
        let Shared {
            scene, terminal, ..
        } = &mut *shared;
        if let Some(mut terminal) = terminal.take() {
            terminal.draw(|canvas| frame::picture(scene, canvas));
        }
    }

    /// Writes a line as it is.
    pub(super) fn line(&self, line: &str) {
        write_line(line);
    }

    /// Tells what went wrong, with its causes.
    pub(super) fn trouble(&self, error: &DemoError) {
        write_line(&format!("the demo could not go on: {}", chain(error)));
    }

    async fn draw_again_and_again(self) {
        let mut ticks = tokio::time::interval(PICTURE_INTERVAL);
        loop {
            ticks.tick().await;
            let mut shared = self.lock();
            let Shared {
                scene, terminal, ..
            } = &mut *shared;
            let Some(terminal) = terminal else { return };
            terminal.draw(|canvas| frame::picture(scene, canvas));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // What is shown may be half changed after a panic; that harms nobody.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Writes a line with the time, where there is no screen.
    fn tell(&self, text: &str) {
        if self.terminal.is_none() {
            let seconds = self.scene.started.elapsed().as_secs_f64();
            write_line(&format!("{seconds:5.1} s  {text}"));
        }
    }
}

fn write_line(line: &str) {
    // A reader that has gone (`| head`) is no reason to leave an environment running: the demo
    // plays on for nobody and ends everything.
    let _ = writeln!(io::stdout().lock(), "{line}");
}
