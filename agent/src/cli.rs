//! The command line of `calvin-agent`: arguments, dispatch and exit codes.

mod check_config;
mod logs;
mod render;
mod status;

use std::path::{Path, PathBuf};

use calvin_proto::machine::{MACHINE_VARIABLE, descriptors::raise_limit};
use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use tracing::{debug, warn};

use crate::{
    exit::{self, Exit},
    init::{self, InitError},
    run::{self, RunError},
};

#[derive(Debug, Parser)]
#[command(
    name = "calvin-agent",
    version,
    about = "The agent of Calvinverse: one per machine",
    after_help = exit::HELP,
    max_term_width = 80,
    arg_required_else_help = true
)]
struct Arguments {
    /// How to print: text for people, json for programs.
    #[arg(long, global = true, value_enum, default_value = "text")]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check image.toml and provision.toml files, and say where they are wrong
    CheckConfig {
        /// The files; which kind each is shows from its name or its content
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Run the agent of a machine; its runner starts it
    Run(MachineArgument),
    /// Show how the machine's agent is
    Status(MachineArgument),
    /// Say what the machine's agent waits for, and since when
    Explain(MachineArgument),
    /// Run a machine: start the agent and its workload, and keep both running
    Init(init::InitArguments),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

#[derive(Debug, clap::Args)]
struct MachineArgument {
    /// The machine's directory
    #[arg(long, value_name = "DIR", env = MACHINE_VARIABLE)]
    machine: PathBuf,
}

/// Runs the program with the arguments of the process.
#[must_use]
pub fn main() -> Exit {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let output = arguments.output;
    match arguments.command {
        Command::CheckConfig { files } => check_config::run(&files, output),
        Command::Run(MachineArgument { machine }) => run_agent(&machine),
        Command::Status(MachineArgument { machine }) => status::status(&machine, output),
        Command::Explain(MachineArgument { machine }) => status::explain(&machine, output),
        Command::Init(arguments) => run_init(&arguments),
        Command::Completions { shell } => completions(shell),
    }
}

/// Runs the machine on this thread, before there is any other.
fn run_init(arguments: &init::InitArguments) -> Exit {
    match init::run(arguments) {
        Ok(()) => Exit::Done,
        Err(error) => {
            let exit = match error {
                InitError::Provision(_) => Exit::Config,
                InitError::Threads { .. }
                | InitError::System { .. }
                | InitError::File { .. }
                | InitError::Record(_)
                | InitError::Running { .. }
                | InitError::Leftovers(_)
                | InitError::AddressTaken { .. }
                | InitError::Dns { .. } => Exit::Failed,
            };
            render::failure(&error, exit)
        }
    }
}

fn run_agent(machine: &Path) -> Exit {
    if let Err(error) = logs::start() {
        return render::failure(&error, Exit::Usage);
    }
    match raise_limit() {
        Ok((before, now)) => debug!(?before, ?now, "raised the limit of descriptors"),
        Err(error) => warn!(%error, "could not raise the limit of descriptors"),
    }
    match run::run(machine) {
        Ok(()) => Exit::Done,
        Err(error) => {
            let exit = match &error {
                RunError::Provision(_) | RunError::Workload(_) | RunError::Domain(_) => {
                    Exit::Config
                }
                RunError::Disk(_)
                | RunError::Record(_)
                | RunError::Keeper(_)
                | RunError::Boot(_)
                | RunError::Running { .. }
                | RunError::System { .. }
                | RunError::Ended { .. } => Exit::Failed,
            };
            render::failure(&error, exit)
        }
    }
}

fn usage(error: &clap::Error) -> Exit {
    // `--help` and `--version` come as errors that are none.
    let exit = match u8::try_from(error.exit_code()) {
        Ok(0) => Exit::Done,
        Ok(_) | Err(_) => Exit::Usage,
    };
    // A closed pipe is no reason to fail louder.
    let _ = error.print();
    exit
}

fn completions(shell: Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(
        shell,
        &mut Arguments::command(),
        "calvin-agent",
        &mut script,
    );
    render::bytes(&script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
