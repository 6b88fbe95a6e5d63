//! On a terminal: questions before something is deleted, a live view that is drawn in place.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    process::Stdio,
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use tokio::{process::Command, task::spawn_blocking, time::timeout};

use crate::{
    fake::Fake,
    run::{PATIENCE, command},
};

/// Runs a command on a terminal of 80 columns, types `keys`, and gives its exit code and all that
/// the terminal was told.
async fn on_terminal(mut command: Command, keys: &str) -> (i32, String) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let size = Winsize {
        ws_row: 24,
        ws_col: 80,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&master, size).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave = File::options()
        .read(true)
        .write(true)
        .open(name.to_str().unwrap())
        .unwrap();
    let end = || Stdio::from(slave.try_clone().unwrap());
    let mut child = command
        .env("TERM", "xterm")
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .unwrap();
    // The reading ends when nobody has the other end any more.
    drop((slave, command));
    let mut terminal = File::from(master);
    terminal.write_all(keys.as_bytes()).unwrap();
    let reading = spawn_blocking(move || {
        let mut said = Vec::new();
        // Linux ends the reading of a terminal that nobody has open with an error.
        let _ = terminal.read_to_end(&mut said);
        String::from_utf8(said).unwrap()
    });
    let status = timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    let said = timeout(PATIENCE, reading).await.unwrap().unwrap();
    (status.code().unwrap(), said)
}

#[tokio::test]
async fn a_terminal_is_asked_before_a_fleet_is_deleted() {
    let fake = Fake::start();
    let (code, said) = on_terminal(command(&fake, &["fleet", "delete", "web"]), "n\n").await;
    assert_eq!(code, 4, "{said}");
    let question = "[test] drain and delete fleet web with its 1 instance: do it? [y/N]";
    assert!(said.contains(question), "{said}");
    assert_eq!(fake.changes(), Vec::<String>::new());
    let (code, said) = on_terminal(command(&fake, &["fleet", "delete", "web"]), "y\n").await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(fake.changes(), ["delete web"]);
}

#[tokio::test]
async fn a_terminal_is_asked_before_an_instance_is_replaced_or_a_rollout_goes_back() {
    for arguments in [
        &["instance", "replace", "web-aaaa0001"][..],
        &["rollout", "abort", "bad"],
        &["rollout", "rollback", "bad"],
    ] {
        let fake = Fake::start();
        let (code, said) = on_terminal(command(&fake, arguments), "\n").await;
        assert_eq!(code, 4, "{said}");
        assert_eq!(fake.changes(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_rollout_is_drawn_in_place_and_its_last_picture_stays() {
    let fake = Fake::start();
    let (code, said) = on_terminal(command(&fake, &["rollout", "watch", "bad"]), "").await;
    assert_eq!(code, 3, "{said}");
    assert!(
        said.contains("A\r\x1b[J"),
        "nothing was drawn again: {said:?}"
    );
    let last = said.rsplit("\x1b[J").next().unwrap();
    assert!(
        last.contains("[rolled back]") && last.contains("was rolled back after"),
        "{last:?}"
    );
    assert!(!last.contains("Ctrl-C"), "{last:?}");
}

#[tokio::test]
async fn a_picture_says_above_itself_when_it_was_heard_while_the_coordinator_is_away() {
    let mut fake = Fake::start();
    let watching = command(&fake, &["rollout", "watch", "resumed"]);
    let watching = tokio::spawn(async move { on_terminal(watching, "").await });
    fake.wait_for_watchers(1).await;
    fake.stop();
    fake.begin();
    let (code, said) = watching.await.unwrap();
    assert_eq!(code, 0, "{said}");
    let pictures = said.split("\x1b[J");
    let away: Vec<&str> = pictures.filter(|one| one.contains("last heard")).collect();
    let first = away.first().expect("it says so");
    let picture = first.find("resumed-7").expect("the rollout is still shown");
    assert!(first.find("last heard") < Some(picture), "{first:?}");
    let last = said.rsplit("\x1b[J").next().unwrap();
    assert!(!last.contains("last heard"), "{last:?}");
}

#[tokio::test]
async fn a_status_that_is_watched_says_the_same() {
    let mut fake = Fake::start();
    let watch = ["status", "--watch", "--timeout", "3s"];
    let watching = command(&fake, &watch);
    let watching = tokio::spawn(async move { on_terminal(watching, "").await });
    fake.wait_for_watchers(1).await;
    fake.stop();
    let (code, said) = watching.await.unwrap();
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("last heard"), "{said:?}");
    let last = said.rsplit("last heard").next().unwrap();
    assert!(
        last.contains("1 fleet, ") && last.contains("web@1.0"),
        "{last:?}"
    );
}

#[tokio::test]
async fn colours_are_for_terminals_that_want_them() {
    let fake = Fake::start();
    let (_, said) = on_terminal(command(&fake, &["status"]), "").await;
    assert!(said.contains("\x1b[32m"), "{said:?}");
    let mut plain = command(&fake, &["status"]);
    plain.env("NO_COLOR", "1");
    let (_, said) = on_terminal(plain, "").await;
    assert!(!said.contains('\x1b'), "{said:?}");
}
