//! What went wrong, as it is told to people: what was tried on which object, why it failed, what
//! to do next. The one place where a failure becomes text, and where gRPC's codes become exits.

use std::error::Error;

use serde_json::json;
use tonic::{Code, Status};

use super::{
    exit::Exit,
    screen::Format,
    style::{Canvas, Tone},
};
use crate::{api::operator::RULE_HEADER, identity::REASON_HEADER};

/// Why a command ended without being done.
#[derive(Debug, thiserror::Error)]
#[error("{tried}")]
pub(crate) struct Failure {
    tried: String,
    #[source]
    cause: Option<anyhow::Error>,
    next: Option<String>,
    /// The coordinator's rule that an order would have broken.
    rule: Option<String>,
    exit: Exit,
    audience: Audience,
}

/// Whether there is somebody to tell a failure to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Audience {
    /// As always.
    Present,
    /// Who read the output has left.
    Gone,
}

/// What the coordinator answered: its message alone, without gRPC's own words around it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Answer(String);

impl Failure {
    /// A failure to do `tried`, which ends with `exit`.
    pub(crate) fn new(exit: Exit, tried: impl Into<String>) -> Self {
        Self {
            tried: tried.into(),
            cause: None,
            next: None,
            rule: None,
            exit,
            audience: Audience::Present,
        }
    }

    /// Who read the output has seen enough, as in `| head`: what is shown ends here, and that is
    /// no error of anybody.
    pub(crate) fn reader_gone() -> Self {
        Self {
            audience: Audience::Gone,
            ..Self::new(Exit::Interrupted, "the reader of the output went away")
        }
    }

    /// Says why.
    pub(crate) fn because(mut self, cause: impl Into<anyhow::Error>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Says why, in words.
    pub(crate) fn reason(self, text: impl Into<String>) -> Self {
        self.because(Answer(text.into()))
    }

    /// Says what to do next.
    pub(crate) fn next(mut self, advice: impl Into<String>) -> Self {
        self.next = Some(advice.into());
        self
    }

    /// What the coordinator said instead of doing `tried`.
    pub(crate) fn answered(tried: impl Into<String>, status: &Status) -> Self {
        let (exit, next) = judged(status.code());
        let next = advice(status).or(next);
        let text = match status.message() {
            "" => status.code().description(),
            message => message,
        };
        let tried = tried.into();
        // The planner says what it refused, for those that ask by other ways. Here it is known.
        let text = match text.split_once(": ") {
            Some((said, why)) if same_attempt(&tried, said) => why,
            Some(_) | None => text,
        };
        let mut failure = Self::new(exit, tried).reason(text);
        failure.rule = header(status, RULE_HEADER).map(str::to_owned);
        match next {
            Some(next) => failure.next(next),
            None => failure,
        }
    }

    /// What to do next, where that is known.
    pub(crate) fn advice(&self) -> Option<&str> {
        self.next.as_deref()
    }

    /// How the program ends.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// The whole chain, once, for standard error.
    pub(crate) fn report(&self, format: Format, page: Page) -> String {
        if self.audience == Audience::Gone {
            return String::new();
        }
        let causes = self.causes();
        match format {
            Format::Json => {
                let object = json!({ "error": {
                    "exit": self.exit.name(),
                    "code": self.exit.code(),
                    "tried": self.tried,
                    "causes": causes,
                    "next": self.next,
                    "rule": self.rule,
                }});
                format!("{object}\n")
            }
            Format::Table => {
                let mut sentence = self.tried.clone();
                for cause in &causes {
                    sentence.push_str(": ");
                    sentence.push_str(cause);
                }
                let mut text = labelled(page, "error: ", Tone::Bad, &sentence);
                if let Some(next) = &self.next {
                    text.push_str(&labelled(page, " next: ", Tone::Bold, next));
                }
                text
            }
        }
    }

    fn causes(&self) -> Vec<String> {
        let mut causes: Vec<String> = Vec::new();
        let mut link = self.source();
        while let Some(cause) = link {
            // A status in full repeats what gRPC calls it; people need its message.
            let text = match cause.downcast_ref::<Status>() {
                Some(status) => status.message().to_owned(),
                None => cause.to_string(),
            };
            // Some libraries repeat their source in their own text.
            if causes.last().is_none_or(|last| !last.contains(&text)) {
                causes.push(text);
            }
            link = cause.source();
        }
        causes
    }
}

/// What a failure is written on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Page {
    /// A terminal: long lines are broken between words.
    Terminal(Canvas),
    /// A pipe or a file: one line for each thing that is said, for `grep`.
    Lines,
}

fn labelled(page: Page, label: &str, tone: Tone, text: &str) -> String {
    match page {
        // A mistake in a file is shown with its line and a mark below it: its lines stay.
        Page::Terminal(canvas) if !text.contains('\n') => {
            canvas.labelled(label.len(), label, tone, text)
        }
        Page::Terminal(canvas) => format!("{}{text}\n", canvas.paint.tone(tone, label)),
        Page::Lines => format!("{label}{text}\n"),
    }
}

/// The advice that belongs to the word by which a coordinator says why.
fn advice(status: &Status) -> Option<&'static str> {
    match header(status, REASON_HEADER)? {
        "image_not_found" => {
            Some("record it with: calvin image add DIRECTORY; which there are: calvin image list")
        }
        "operator_revoked" => Some("ask an admin for a new certificate: calvin operator add"),
        _ => None,
    }
}

fn header<'a>(status: &'a Status, name: &str) -> Option<&'a str> {
    status.metadata().get(name)?.to_str().ok()
}

/// Whether what a coordinator says it could not do is what was tried here. Of a file that is applied
/// it names the fleet.
fn same_attempt(tried: &str, said: &str) -> bool {
    let bare = match tried.split_once("] ") {
        Some((environment, bare)) if environment.starts_with('[') => bare,
        Some(_) | None => tried,
    };
    let applies = |text: &str| text.starts_with("could not apply ");
    bare == said || (applies(bare) && applies(said))
}

/// The exit and the advice that belong to a code of gRPC.
fn judged(code: Code) -> (Exit, Option<&'static str>) {
    match code {
        Code::Ok => (Exit::Done, None),
        Code::InvalidArgument | Code::OutOfRange => (Exit::Usage, None),
        Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::ResourceExhausted => (Exit::Refused, None),
        // The client's own timeout comes as `Cancelled`.
        Code::DeadlineExceeded | Code::Cancelled => (
            Exit::Timeout,
            Some("whether it was done is not known; look with: calvin status"),
        ),
        Code::Unavailable => (
            Exit::CouldNotAsk,
            Some("look for the cause with: calvin doctor"),
        ),
        Code::Unimplemented => (
            Exit::Failed,
            Some("the coordinator is of another version; compare with: calvin doctor"),
        ),
        Code::Unknown | Code::Internal | Code::DataLoss => (
            Exit::Failed,
            Some("the coordinator's log says more; then: calvin doctor"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::style::Paint, *};

    #[test]
    fn a_failure_says_what_was_tried_why_and_what_next() {
        let status = Status::not_found("no fleet is called wbe; did you mean web?");
        let failure =
            Failure::answered("could not scale fleet wbe", &status).next("calvin fleet list");
        assert_eq!(
            failure.report(Format::Table, Page::Lines),
            "error: could not scale fleet wbe: no fleet is called wbe; did you mean web?\n \
             next: calvin fleet list\n"
        );
        assert_eq!(failure.exit(), Exit::Refused);
    }

    #[test]
    fn a_revoked_operator_is_told_whom_to_ask() {
        let name = "alice".parse().unwrap();
        let status = crate::identity::Refusal::OperatorRevoked { name }.status();
        let failure = Failure::answered("could not ask", &status);
        let advice = failure.advice().unwrap_or_default();
        assert!(advice.contains("calvin operator add"), "{advice}");
    }

    #[test]
    fn what_was_tried_is_said_once_also_where_the_coordinator_says_it() {
        let said = "could not scale fleet web to 0: a count is from 1 to 500";
        let status = Status::failed_precondition(said);
        let failure = Failure::answered("[prod] could not scale fleet web to 0", &status);
        assert_eq!(
            failure.report(Format::Table, Page::Lines),
            "error: [prod] could not scale fleet web to 0: a count is from 1 to 500\n"
        );
    }

    #[test]
    fn on_a_terminal_a_failure_is_broken_between_words() {
        let failure = Failure::new(Exit::Failed, "could not do a thing with a long name indeed")
            .reason("it has no room");
        let canvas = Canvas {
            width: 40,
            paint: Paint::Plain,
        };
        assert_eq!(
            failure.report(Format::Table, Page::Terminal(canvas)),
            "error: could not do a thing with a long\n       name indeed: it has no room\n"
        );
    }

    #[test]
    fn a_failure_in_json_has_the_name_of_its_exit() {
        let failure = Failure::answered("could not ask", &Status::unavailable("gone"));
        let value: serde_json::Value =
            serde_json::from_str(&failure.report(Format::Json, Page::Lines)).unwrap();
        assert_eq!(value["error"]["exit"], "could_not_ask");
        assert_eq!(value["error"]["code"], 6);
        assert_eq!(value["error"]["causes"][0], "gone");
    }

    #[test]
    fn a_cause_that_repeats_its_source_is_told_once() {
        let failure = Failure::new(Exit::Failed, "could not read x")
            .because(anyhow::anyhow!("no such file").context("open: no such file"));
        let text = failure.report(Format::Table, Page::Lines);
        assert_eq!(text.matches("no such file").count(), 1, "{text}");
    }
}
