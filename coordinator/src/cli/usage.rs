//! A command line that cannot be read: told as the argument parser tells it, or as an object to
//! programs that asked for objects.

use std::{env, process::ExitCode};

use clap::error::{ContextKind, ContextValue, Error};

use super::{
    exit::Exit,
    failure::{Failure, Page},
    screen::{Format, Screen},
};

/// Tells what is wrong with the arguments of this process; `--help` and `--version` end here too.
pub(crate) fn refuse(error: &Error) -> ExitCode {
    if !error.use_stderr() || !wants_json(env::args_os().map(|one| one.into_string())) {
        // Help is for people, whoever asks. There is nobody left to tell when standard error is
        // gone.
        let _ = error.print();
        return if error.use_stderr() {
            Exit::Usage.into()
        } else {
            Exit::Done.into()
        };
    }
    Screen::detect(Format::Json).say(&failure(error).report(Format::Json, Page::Lines));
    Exit::Usage.into()
}

/// Whether `--output json` is among the arguments: they could not be read, so it is looked for in
/// them as they are.
fn wants_json<E>(arguments: impl Iterator<Item = Result<String, E>>) -> bool {
    let known: Vec<String> = arguments.flatten().collect();
    known
        .windows(2)
        .any(|pair| pair[0] == "--output" && pair[1] == "json")
        || known.iter().any(|one| one == "--output=json")
}

fn failure(error: &Error) -> Failure {
    let text = error.render().to_string();
    let first: Vec<&str> = text
        .split("\n\n")
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let first = first.join(" ");
    let reason = first.strip_prefix("error: ").unwrap_or(&first);
    let failure = Failure::new(Exit::Usage, "could not read the command line").reason(reason);
    match suggestion(error) {
        Some(meant) => failure.next(format!("did you mean {meant}?")),
        None => failure.next("calvin --help, or --help after the command, tells what there is"),
    }
}

fn suggestion(error: &Error) -> Option<String> {
    let kinds = [
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedArg,
        ContextKind::SuggestedValue,
    ];
    kinds.into_iter().find_map(|kind| {
        let context = error.get(kind)?;
        if let ContextValue::String(one) = context {
            return Some(one.clone());
        }
        let ContextValue::Strings(many) = context else {
            // What else there is are counts and styled texts, which suggest nothing.
            return None;
        };
        many.first().cloned()
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn json(arguments: &[&str]) -> bool {
        wants_json(
            arguments
                .iter()
                .map(|one| Ok::<_, Infallible>((*one).to_owned())),
        )
    }

    #[test]
    fn the_wish_for_objects_is_found_in_arguments_that_cannot_be_read() {
        assert!(json(&["calvin", "--output", "json", "stauts"]));
        assert!(json(&["calvin", "stauts", "--output=json"]));
        assert!(!json(&["calvin", "stauts", "--output", "table"]));
        assert!(!json(&["calvin", "json", "--output"]));
    }
}
