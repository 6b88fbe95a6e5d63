//! The page `docs/commands.md`, made from the arguments themselves so that it cannot fall behind.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};

use super::{arguments::Arguments, golden};

/// Every command with its arguments.
fn page() -> String {
    let mut command = Arguments::command();
    command.build();
    let mut text = String::from(
        "# Every command of `calvin`\n\n\
         Made from the arguments in `coordinator/src/cli/`; a test compares them. \
         [cli.md](cli.md) shows how they are used together, [exit-codes.md](exit-codes.md) how \
         they end.\n\n## Flags that every command takes\n\n",
    );
    arguments(&command, Taken::Everywhere, &mut text);
    commands(&command, "calvin", &mut text);
    // A command without arguments leaves two blank lines.
    text.replace("\n\n\n", "\n\n")
}

fn commands(parent: &Command, path: &str, text: &mut String) {
    for command in parent
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
    {
        if command.get_name() == "help" {
            continue;
        }
        let path = format!("{path} {}", command.get_name());
        if command.has_subcommands() {
            commands(command, &path, text);
            // Some do something by themselves too: `calvin freeze`, `calvin freeze show`.
            if command.is_subcommand_required_set() {
                continue;
            }
        }
        let _ = writeln!(text, "\n## `{path}{}`\n", positionals(command));
        let about = command
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        let _ = writeln!(text, "{about}.\n");
        arguments(command, Taken::Here, text);
    }
}

fn positionals(command: &Command) -> String {
    let mut text = String::new();
    for argument in command.get_positionals() {
        let name = argument.get_id().as_str().to_uppercase();
        let _ = match argument.is_required_set() {
            true => write!(text, " {name}"),
            false => write!(text, " [{name}]"),
        };
    }
    text
}

/// Which arguments of a command are told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// Those of every command.
    Everywhere,
    /// Its own.
    Here,
}

fn arguments(command: &Command, taken: Taken, text: &mut String) {
    for argument in command.get_arguments() {
        let id = argument.get_id().as_str();
        let everywhere = argument.is_global_set();
        if argument.is_hide_set()
            || matches!(id, "help" | "version")
            || everywhere != (taken == Taken::Everywhere)
        {
            continue;
        }
        let help = argument
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let help = help.trim_end_matches('.');
        let _ = writeln!(text, "- `{}`: {help}.{}", form(argument), choices(argument));
    }
}

fn form(argument: &Arg) -> String {
    let Some(long) = argument.get_long() else {
        return argument.get_id().as_str().to_uppercase();
    };
    let value = argument
        .get_value_names()
        .filter(|_| argument.get_action().takes_values())
        .map_or_else(String::new, |names| format!(" {}", names.join(" ")));
    let short = argument
        .get_short()
        .map_or_else(String::new, |short| format!("`, `-{short}"));
    format!("--{long}{value}{short}")
}

fn choices(argument: &Arg) -> String {
    let values: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if values.is_empty() || !argument.get_action().takes_values() {
        return String::new();
    }
    format!(" One of {}.", values.join(", "))
}

#[test]
fn the_page_of_commands_says_what_the_program_takes() {
    golden::assert_file("docs/commands.md", &page());
}

#[test]
fn the_arguments_are_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn the_help_of_every_command_fits_eighty_columns() {
    fn check(command: &mut Command) {
        for line in command.render_long_help().to_string().lines() {
            let name = command.get_name();
            assert!(line.chars().count() <= 80, "calvin ... {name}: {line}");
        }
        // What is hidden is not for people.
        for inner in command.get_subcommands_mut().filter(|it| !it.is_hide_set()) {
            check(inner);
        }
    }
    let mut command = Arguments::command();
    command.build();
    check(&mut command);
}
