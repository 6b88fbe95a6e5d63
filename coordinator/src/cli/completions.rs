//! `calvin completions`: what a shell needs to complete commands and flags.

use clap::{Args, CommandFactory as _};
use clap_complete::{Shell, generate};

use super::{arguments::Arguments, exit::Exit, failure::Failure, setting::Setting};

/// Arguments of `calvin completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArguments {
    /// For which shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Writes the completions to standard output.
pub(crate) fn run(arguments: &CompletionsArguments, setting: &Setting) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    generate(
        arguments.shell,
        &mut Arguments::command(),
        "calvin",
        &mut script,
    );
    setting.screen.bytes(&script)?;
    Ok(Exit::Done)
}
