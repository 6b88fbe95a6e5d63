//! Every subcommand of `calvin`, one file each: arguments become a request, the operator service
//! answers, a pure function renders. Nothing here decides anything about a fleet.

mod arguments;
mod backup;
mod ca;
mod caller;
mod certificate;
mod completions;
mod consul;
mod context;
mod contexts;
mod demo;
mod doctor;
mod exit;
mod failure;
mod feed;
mod fleet;
mod follow;
mod freeze;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod hints;
mod image;
mod instance;
mod live;
mod moment;
mod operator;
mod order;
mod recover;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod refused;
mod render;
mod repair;
mod restore;
mod rollout;
mod screen;
mod serve;
mod setting;
mod simulate;
mod status;
mod style;
mod table;
mod target;
mod undo;
mod usage;
mod view;
mod zone;

use std::process::ExitCode;

use clap::Parser as _;
use tokio::runtime::{Builder, Runtime};

pub use exit::Exit;

use self::{
    arguments::{Arguments, Command},
    failure::Failure,
    setting::Setting,
};

/// Runs `calvin` with the arguments of this process.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage::refuse(&error),
    };
    let setting = Setting::new(arguments.global);
    let exit = match carry_out(arguments.command, &setting) {
        Ok(exit) => exit,
        Err(failure) => {
            setting.screen.fail(&failure);
            failure.exit()
        }
    };
    exit.into()
}

fn carry_out(command: Command, setting: &Setting) -> Result<Exit, Failure> {
    // A client waits for one connection; servers have a runtime of their own size.
    match command {
        Command::Status(arguments) => asking()?.block_on(status::run(arguments, setting)),
        Command::Fleet(command) => asking()?.block_on(fleet::run(command, setting)),
        Command::Rollout(command) => asking()?.block_on(rollout::run(command, setting)),
        Command::Undo(arguments) => asking()?.block_on(undo::run(arguments, setting)),
        Command::Instance(command) => asking()?.block_on(instance::run(command, setting)),
        Command::Image(command) => asking()?.block_on(image::run(command, setting)),
        Command::Freeze(arguments) => asking()?.block_on(freeze::run(arguments, setting)),
        Command::Unfreeze(arguments) => asking()?.block_on(freeze::unfreeze(arguments, setting)),
        Command::Zone(command) => asking()?.block_on(zone::run(command, setting)),
        Command::Repair(command) => asking()?.block_on(repair::run(command, setting)),
        Command::Operator(command) => asking()?.block_on(operator::run(command, setting)),
        Command::Backup(command) => asking()?.block_on(backup::run(command, setting)),
        Command::Restore(arguments) => restore::run(&arguments, setting),
        Command::Recover(command) => asking()?.block_on(recover::run(command, setting)),
        Command::Ca(command) => asking()?.block_on(ca::run(command, setting)),
        Command::Doctor => asking()?.block_on(doctor::run(setting)),
        Command::Simulate(arguments) => simulate::run(&arguments, setting),
        Command::Consul(command) => consul::run(command, setting),
        Command::Context(command) => context::run(command, setting),
        Command::Completions(arguments) => completions::run(&arguments, setting),
        Command::Serve(arguments) => serving(serve::run(arguments, setting))?,
        Command::Demo(arguments) => serving(demo::run(arguments, setting))?,
        Command::Workload(command) => {
            serving(crate::demo::workload::run(command))?
                .map_err(|error| Failure::new(Exit::Failed, "the workload ended").because(error))?;
            Ok(Exit::Done)
        }
    }
}

fn asking() -> Result<Runtime, Failure> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(not_started)
}

fn serving<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    crate::runtime::block_on(work).map_err(not_started)
}

fn not_started(error: std::io::Error) -> Failure {
    Failure::new(Exit::Failed, "could not start").because(error)
}
