//! A bench that is interrupted ends what it started, too.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
};

use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// Ends an environment with the bench, at each signal by which somebody ends that.
pub(crate) fn end_at_signals(home: &Path, end_all: fn(&Path)) {
    for number in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        end_at(number, home.to_owned(), end_all);
    }
}

/// Ends the processes and the files of the environment at this signal, and then the bench with the
/// code that shells use for it (128 and the signal's number).
fn end_at(number: Signal, home: PathBuf, end_all: fn(&Path)) {
    let kind = SignalKind::from_raw(number as i32);
    let mut signals = signal(kind).expect("a signal can be listened to");
    tokio::spawn(async move {
        signals.recv().await;
        end_all(&home);
        // Left in the temporary directory, it would be in nobody's way.
        let _ = fs::remove_dir_all(&home);
        process::exit(128 + number as i32);
    });
}
