//! Every `calvin ...` that the sources and the pages tell people to type, against the arguments:
//! its words are commands, and its flags are flags of that command.

use std::{fs, path::Path};

use clap::{Command, CommandFactory as _};

use super::arguments::Arguments;

/// Where such hints are written, from this crate's directory.
const PLACES: [&str; 4] = ["src", "planner/src", "docs", "../README.md"];

/// The words after each `calvin ` of a text, up to what ends a command there.
fn hints(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().flat_map(|line| {
        let pieces = line.split("calvin ").skip(1);
        pieces.map(|rest| {
            let end = rest.find(['"', '`', ';', ',', '(', '|', '#', '?', '\\']);
            let command = &rest[..end.unwrap_or(rest.len())];
            command.split_whitespace().collect()
        })
    })
}

/// What is wrong with a hint, if anything is. Prose that begins with no command is not one.
fn mistake(whole: &Command, words: &[&str]) -> Option<String> {
    let global = |flag: &str| flags(whole).any(|known| known == flag);
    let mut command = whole;
    let mut words = words.iter().copied().peekable();
    while let Some(inner) = words.peek().and_then(|word| command.find_subcommand(word)) {
        command = inner;
        words.next();
    }
    if command.get_name() == whole.get_name() {
        return None;
    }
    if let (true, Some(word)) = (command.is_subcommand_required_set(), words.peek()) {
        return Some(format!("{} has no command {word}", command.get_name()));
    }
    let given = words.filter_map(|word| word.strip_prefix("--"));
    let mut unknown = given
        .map(|flag| flag.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()))
        .filter(|flag| !global(flag) && flags(command).all(|known| known != *flag));
    let flag = unknown.next()?;
    Some(format!("{} has no flag --{flag}", command.get_name()))
}

fn flags(command: &Command) -> impl Iterator<Item = &str> {
    command
        .get_arguments()
        .filter_map(|argument| argument.get_long())
}

fn read(path: &Path, check: &mut impl FnMut(&Path, &str)) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            read(&entry.unwrap().path(), check);
        }
        return;
    }
    let extension = path.extension().and_then(|it| it.to_str());
    // This file holds wrong ones on purpose.
    if matches!(extension, Some("rs" | "md")) && !path.ends_with("cli/hints.rs") {
        check(path, &fs::read_to_string(path).unwrap());
    }
}

#[test]
fn what_people_are_told_to_type_is_a_command() {
    let whole = Arguments::command();
    let mut found = 0;
    let mut wrong = Vec::new();
    for place in PLACES {
        let place = Path::new(env!("CARGO_MANIFEST_DIR")).join(place);
        read(&place, &mut |path, text| {
            for words in hints(text) {
                found += 1;
                if let Some(mistake) = mistake(&whole, &words) {
                    wrong.push(format!("{}: {words:?}: {mistake}", path.display()));
                }
            }
        });
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(found > 100, "only {found} hints were found");
}

#[test]
fn a_hint_with_a_command_or_a_flag_that_is_not_there_is_found() {
    let whole = Arguments::command();
    let about = |text| hints(text).find_map(|words| mistake(&whole, &words));
    assert_eq!(about("type: calvin rollout start web web@2.0"), None);
    assert_eq!(
        about("calvin rollout start web --image web@2.0").as_deref(),
        Some("start has no flag --image")
    );
    assert_eq!(
        about("`calvin rollout undo web`").as_deref(),
        Some("rollout has no command undo")
    );
}
