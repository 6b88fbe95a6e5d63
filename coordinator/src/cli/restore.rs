//! `calvin restore`: puts a backup into a data directory in which there is no store.

use std::{io::BufReader, os::unix::fs::PermissionsExt as _, path::PathBuf};

use clap::Args;
use serde::Serialize;

use super::{
    exit::Exit,
    failure::Failure,
    render,
    setting::Setting,
    style::{Canvas, Tone},
    view::BackupView,
};
use crate::{runtime::wall_ms_now, store::backup};

/// Arguments of `calvin restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArguments {
    /// The backup.
    file: PathBuf,
    /// The data directory; there must be no store in it, and no coordinator that uses it.
    #[arg(long, value_name = "DIRECTORY")]
    data: PathBuf,
}

/// What was restored.
#[derive(Debug, Serialize)]
struct RestoredView {
    data: PathBuf,
    backup: BackupView,
}

/// Restores.
pub(crate) fn run(arguments: &RestoreArguments, setting: &Setting) -> Result<Exit, Failure> {
    let RestoreArguments { file, data } = arguments;
    let tried = format!(
        "could not restore {} into {}",
        file.display(),
        data.display()
    );
    let opened = calvin_proto::machine::open_file(file)
        .map_err(|error| Failure::new(Exit::Failed, &tried).because(error))?;
    let metadata = opened
        .metadata()
        .map_err(|error| Failure::new(Exit::Failed, &tried).because(error))?;
    let summary = backup::restore(BufReader::new(opened), data)
        .map_err(|error| Failure::new(Exit::Failed, &tried).because(error))?;
    let view = RestoredView {
        data: data.clone(),
        backup: BackupView::new(
            file.display().to_string(),
            metadata.len(),
            metadata.permissions().mode() & 0o077 != 0,
            summary,
            wall_ms_now(),
        ),
    };
    setting.screen.show(&view, text)?;
    Ok(Exit::Done)
}

fn text(view: &RestoredView, canvas: Canvas) -> String {
    let mut text = render::recovery::backup(&view.backup, canvas);
    let mut line = |label: &str, tone, what: &str| {
        text.push_str(&canvas.labelled(17, label, tone, what));
    };
    let data = view.data.display();
    line("restored", Tone::Good, &format!("into {data}"));
    line(
        "first",
        Tone::Bold,
        "be sure that the coordinator that this is a backup of does not run and cannot start",
    );
    line(
        "then type",
        Tone::Bold,
        "calvin serve --adopt, which decides nothing, and calvin recover show",
    );
    text
}
