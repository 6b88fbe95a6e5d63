//! `calvin backup`: everything that an environment needs to be restored, in one file.

use std::{
    fs::{self, File},
    io::{self, BufReader, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use calvin_proto::wire::CreateBackupRequest;
use clap::{Args, Subcommand};
use jiff::{Timestamp, tz::TimeZone};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use super::{
    caller::{CALL_LIMIT, refusal},
    exit::Exit,
    failure::Failure,
    render,
    setting::Setting,
    view::BackupView,
};
use crate::{
    runtime::wall_ms_now,
    store::{
        RecordError,
        backup::{self, BackupError},
    },
};

/// What can be done with backups.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Take one, from the running coordinator. It holds the keys of the CAs.
    Create(CreateArguments),
    /// Check one to its last line, and say what it holds.
    Verify(VerifyArguments),
}

/// Arguments of `calvin backup create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// The file to make; named by environment and time in this directory unless given.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Take it from this data directory, which no coordinator uses now.
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
}

/// Arguments of `calvin backup verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// The backup.
    file: PathBuf,
}

/// Carries out the command.
pub(crate) async fn run(command: BackupCommand, setting: &Setting) -> Result<Exit, Failure> {
    match command {
        BackupCommand::Create(arguments) => create(arguments, setting).await,
        BackupCommand::Verify(arguments) => {
            show(&arguments.file, setting)?;
            Ok(Exit::Done)
        }
    }
}

async fn create(arguments: CreateArguments, setting: &Setting) -> Result<Exit, Failure> {
    let to = match &arguments.to {
        Some(to) => Making::begin(to.clone())?,
        None => Making::begin(default_name(&arguments, setting).await?)?,
    };
    let written = async {
        match arguments.data {
            Some(data) => offline(data, &to).await,
            None => online(setting, &to).await,
        }
    };
    tokio::select! {
        written = written => written?,
        () = told_to_end() => {
            return Err(Failure::new(Exit::Interrupted, to.tried())
                .reason("it was told to end before it was whole; nothing is left of it"));
        }
    }
    let file = to.finish()?;
    show(&file, setting)?;
    Ok(Exit::Done)
}

/// Comes at Ctrl-C and at SIGTERM: what is half made is removed then too.
async fn told_to_end() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        // Then they end this process as they always do.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

async fn default_name(arguments: &CreateArguments, setting: &Setting) -> Result<PathBuf, Failure> {
    let environment = match arguments.data {
        Some(_) => "offline".to_owned(),
        None => setting.connect().await?.about().await?.environment,
    };
    let now = Timestamp::now().to_zoned(TimeZone::UTC);
    let time = now.strftime("%Y%m%dT%H%M%SZ");
    Ok(PathBuf::from(format!("calvin-{environment}-{time}.backup")))
}

async fn online(setting: &Setting, to: &Making) -> Result<(), Failure> {
    let caller = setting.connect().await?;
    let tried = to.tried();
    let mut stream = caller
        .ask(
            &tried,
            caller.client().create_backup(CreateBackupRequest {}),
        )
        .await?;
    let mut file = &to.file;
    // Of each part: a backup may be large, and a disk that hangs sends none.
    let limit = setting.timeout().unwrap_or(CALL_LIMIT);
    let late = |_| {
        Failure::new(Exit::Timeout, tried.clone())
            .reason(format!("nothing more came for {limit:?}"))
            .next("look at its disk: calvin doctor")
    };
    while let Some(chunk) = timeout(limit, stream.message())
        .await
        .map_err(late)?
        .map_err(|status| refusal(&tried, &status))?
    {
        file.write_all(&chunk.data)
            .map_err(|error| to.failed(error))?;
    }
    Ok(())
}

async fn offline(data: PathBuf, to: &Making) -> Result<(), Failure> {
    let file = to.file.try_clone().map_err(|error| to.failed(error))?;
    let written = tokio::task::spawn_blocking(move || {
        let mut file = io::BufWriter::new(file);
        backup::offline(&data, &mut file)?;
        file.flush().map_err(BackupError::Write)
    });
    let failure = || Failure::new(Exit::Failed, to.tried());
    let written = written.await.map_err(|error| failure().because(error))?;
    written.map_err(|error| failure().because(error))
}

/// A file that has its name only when it is whole. What is not, is removed.
struct Making {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
}

impl Drop for Making {
    fn drop(&mut self) {
        // Once it has its name this one is gone. Why it failed is what matters, where it did.
        let _ = fs::remove_file(&self.temporary);
    }
}

impl Making {
    fn begin(path: PathBuf) -> Result<Self, Failure> {
        let tried = format!("could not make the backup {}", path.display());
        if fs::symlink_metadata(&path).is_ok() {
            return Err(Failure::new(Exit::Usage, tried)
                .reason("there is a file of this name already")
                .next("choose another name with --to"));
        }
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let temporary = PathBuf::from(name);
        // What was left of an earlier try may have another mode.
        let _ = fs::remove_file(&temporary);
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(|error| Failure::new(Exit::Failed, tried).because(error))?;
        Ok(Self {
            path,
            temporary,
            file,
        })
    }

    fn tried(&self) -> String {
        format!("could not make the backup {}", self.path.display())
    }

    fn failed(&self, error: io::Error) -> Failure {
        Failure::new(Exit::Failed, self.tried()).because(error)
    }

    /// Checks what was written, and gives it its name.
    fn finish(self) -> Result<PathBuf, Failure> {
        let whole = self
            .file
            .sync_all()
            .and_then(|()| File::open(&self.temporary))
            .map_err(BackupError::Read)
            .and_then(|file| backup::verify(BufReader::new(file)));
        let named = whole.map_err(anyhow::Error::from).and_then(|_| {
            fs::rename(&self.temporary, &self.path)?;
            Ok(())
        });
        match named {
            Ok(()) => Ok(self.path.clone()),
            Err(error) => Err(Failure::new(Exit::Failed, self.tried()).because(error)),
        }
    }
}

/// Checks a backup and shows what it holds.
fn show(path: &Path, setting: &Setting) -> Result<(), Failure> {
    let view = look(path)?;
    setting.screen.show(&view, render::recovery::backup)
}

/// Whether it is only this version that cannot read it.
fn is_newer(error: &BackupError) -> bool {
    match error {
        BackupError::Newer { .. }
        | BackupError::UnknownTable { .. }
        | BackupError::Record {
            source: RecordError::Newer { .. } | RecordError::UnknownField { .. },
            ..
        } => true,
        BackupError::Io { .. }
        | BackupError::Write(_)
        | BackupError::Read(_)
        | BackupError::Store(_)
        | BackupError::Open(_)
        | BackupError::NoBackup { .. }
        | BackupError::CutOff { .. }
        | BackupError::Damaged { .. }
        | BackupError::Line { .. }
        | BackupError::Record {
            source: RecordError::Unreadable { .. },
            ..
        }
        | BackupError::History { .. }
        | BackupError::NotEmpty { .. }
        | BackupError::NoStore { .. } => false,
    }
}

/// Checks a backup.
pub(crate) fn look(path: &Path) -> Result<BackupView, Failure> {
    let tried = || format!("could not verify the backup {}", path.display());
    let failed = |error: io::Error| Failure::new(Exit::Failed, tried()).because(error);
    let file = calvin_proto::machine::open_file(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let summary = backup::verify(BufReader::new(file)).map_err(|error| {
        let next = if is_newer(&error) {
            "use the version of calvin that made it, or a newer one"
        } else {
            "use another backup; this one cannot be restored"
        };
        Failure::new(Exit::Failed, tried())
            .because(error)
            .next(next)
    })?;
    Ok(BackupView::new(
        path.display().to_string(),
        metadata.len(),
        metadata.permissions().mode() & 0o077 != 0,
        summary,
        wall_ms_now(),
    ))
}
