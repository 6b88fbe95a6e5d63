//! `calvin demo`: five acts on real machines of this host, and what became of them.

use clap::Args;

use super::{exit::Exit, failure::Failure, screen::Format, setting::Setting};
use crate::demo::{self, Afterwards, DemoEnd, DemoOptions, DemoOutput};

/// Arguments of `calvin demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// Leave everything up afterwards, and say what to type.
    #[arg(long)]
    keep: bool,
}

/// Shows the demo.
pub(crate) async fn run(arguments: DemoArguments, setting: &Setting) -> Result<Exit, Failure> {
    let options = DemoOptions {
        afterwards: if arguments.keep {
            Afterwards::KeepRunning
        } else {
            Afterwards::EndAll
        },
        output: match setting.screen.format {
            Format::Table => DemoOutput::People,
            Format::Json => DemoOutput::Json,
        },
    };
    match demo::run(options).await {
        Ok(DemoEnd::AsTold) => Ok(Exit::Done),
        Ok(DemoEnd::NotAsTold) => Ok(Exit::Failed),
        Ok(DemoEnd::Interrupted) => Ok(Exit::Interrupted),
        Err(error) => Err(Failure::new(Exit::Failed, "the demo could not go on").because(error)),
    }
}
