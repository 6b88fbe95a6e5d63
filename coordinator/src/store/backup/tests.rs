//! A backup is restored whole or not at all, whatever is given for one.

use std::{fs, io::Cursor, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use calvin_engine::ports::{Batch, HistoryLine, Store as _, Stored};
use calvin_model::{Epoch, FleetSpec};
use calvin_planner::{
    EnvironmentState, Event, EventKind, FleetState, Freeze, FreezeScope, Moment, Order,
};
use calvin_proto::transport::peer::hexadecimal;
use ring::digest::{SHA256, digest};

use super::*;
use crate::store::{Copies, FleetStore, History, open};

fn spec() -> FleetSpec {
    FleetSpec::parse(
        "web.toml",
        "name = \"web\"\nimage = \"web@1.0\"\ncount = 2\n",
    )
    .unwrap()
}

fn frozen() -> EnvironmentState {
    EnvironmentState {
        freeze: Some(Freeze {
            scope: FreezeScope::New,
            until_wall_ms: None,
            order: Order {
                by: "ann".to_owned(),
                reason: "friday".to_owned(),
                wall_ms: 5,
            },
        }),
        ..EnvironmentState::default()
    }
}

/// Makes a store with a fleet, an epoch and history.
fn filled(data: &Path) -> Stored {
    let (_directory, database) = open(data, Copies::Refused).unwrap();
    let mut store = FleetStore::new(Arc::clone(&database));
    let line = |text: &str| HistoryLine {
        wall_ms: 5,
        who: "ann".to_owned(),
        event: Event {
            fleet: Some("web".parse().unwrap()),
            instance: None,
            kind: EventKind::Command,
            text: text.to_owned(),
        },
    };
    let batch = Batch {
        moment: Moment { ms: 7 },
        epoch: Some(Epoch {
            number: 3,
            run: "aa".parse().unwrap(),
        }),
        fleets: [("web".parse().unwrap(), Some(FleetState::new(spec())))].into(),
        environment: Some(frozen()),
        history: vec![line("first"), line("a \"second\" line\n")],
        ..Batch::default()
    };
    let revision = store.load().unwrap().revision;
    store.commit(revision, &batch).unwrap();
    let ca = data.join("ca");
    fs::create_dir(&ca).unwrap();
    fs::write(ca.join("ca-1.key"), "a key").unwrap();
    fs::write(ca.join("ca-1.pem"), "a certificate").unwrap();
    fs::write(ca.join("token.key"), "another key").unwrap();
    fs::write(ca.join("notes.txt"), "no file of a CA").unwrap();
    store.load().unwrap()
}

fn backup_of(data: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    offline(data, &mut bytes).unwrap();
    bytes
}

/// Lines with a digest that fits them.
fn closed(lines: &[u8]) -> Vec<u8> {
    let sha256 = hexadecimal(digest(&SHA256, lines).as_ref());
    let mut all = lines.to_vec();
    all.extend(format!("{{\"kind\":\"end\",\"sha256\":\"{sha256}\"}}\n").bytes());
    all
}

/// A backup without its end.
fn without_end(backup: &[u8]) -> Vec<u8> {
    let text = backup.strip_suffix(b"\n").unwrap();
    let at = text.iter().rposition(|byte| *byte == b'\n').unwrap();
    backup[..=at].to_vec()
}

/// A backup with this line before its end.
fn with_line(backup: &[u8], line: &str) -> Vec<u8> {
    let mut lines = without_end(backup);
    lines.extend(line.bytes());
    lines.push(b'\n');
    closed(&lines)
}

#[test]
fn what_is_restored_is_what_was_backed_up_and_decides_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("a"), dir.path().join("b"));
    let before = filled(&from);
    let backup = backup_of(&from);
    // The machines of the process provider may be there; they outlive the store.
    fs::create_dir_all(to.join("machines")).unwrap();
    let summary = restore(Cursor::new(&backup), &to).unwrap();
    assert_eq!((summary.epoch, summary.history), (Some(3), 2));
    assert_eq!(summary.fleets[0].name, "web");
    assert_eq!(summary.authorities, 1);

    let error = open(&to, Copies::Refused).unwrap_err().to_string();
    assert!(error.contains("calvin serve --adopt"), "{error}");
    let (_directory, database) = open(&to, Copies::Adopted).unwrap();
    let after = FleetStore::new(Arc::clone(&database)).load().unwrap();
    let recovering = after.recovering.unwrap();
    assert!(
        recovering
            .reason
            .starts_with("it was restored from a backup of 20")
            && recovering.reason.ends_with('Z'),
        "{recovering:?}"
    );
    assert!(error.contains(&recovering.reason), "{error}");
    let after = Stored {
        recovering: None,
        ..after
    };
    assert_eq!(after, before);
    assert_eq!(History::new(database).verify().unwrap(), 2);
    let mode = |name: &str| {
        let metadata = fs::metadata(to.join("ca").join(name)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!((mode("ca-1.key"), mode("token.key")), (0o600, 0o600));
    assert!(!to.join("ca/notes.txt").exists());
}

#[test]
fn a_restore_that_died_between_its_moves_is_made_again_and_a_store_that_started_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("a"), dir.path().join("b"));
    filled(&from);
    let backup = backup_of(&from);
    restore(Cursor::new(&backup), &to).unwrap();
    let die_between = || {
        fs::create_dir(to.join(".restoring")).unwrap();
        fs::rename(to.join("ca"), to.join(".restoring/ca")).unwrap();
    };
    die_between();
    restore(Cursor::new(&backup), &to).unwrap();
    assert!(to.join("ca/token.key").exists() && !to.join(".restoring").exists());

    drop(open(&to, Copies::Adopted).unwrap());
    die_between();
    let error = restore(Cursor::new(&backup), &to).unwrap_err().to_string();
    assert!(error.contains("it holds store.redb"), "{error}");
    assert!(to.join("store.redb").exists());
}

#[test]
fn a_restored_store_that_is_copied_tells_both() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("a"), dir.path().join("b"));
    filled(&from);
    restore(Cursor::new(backup_of(&from)), &to).unwrap();
    drop(open(&to, Copies::Adopted).unwrap());
    fs::copy(to.join("store.redb"), to.join("copy")).unwrap();
    fs::rename(to.join("copy"), to.join("store.redb")).unwrap();
    let (_directory, database) = open(&to, Copies::Adopted).unwrap();
    let stored = FleetStore::new(database).load().unwrap();
    let reason = stored.recovering.unwrap().reason;
    assert!(
        reason.starts_with("it was restored from a backup"),
        "{reason}"
    );
    assert!(
        reason.contains("adopted: it was made as the file"),
        "{reason}"
    );
}

#[test]
fn a_store_that_recovers_goes_on_to_recover_at_its_next_start_without_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("a"), dir.path().join("b"));
    filled(&from);
    restore(Cursor::new(backup_of(&from)), &to).unwrap();
    drop(open(&to, Copies::Adopted).unwrap());
    let (_directory, database) = open(&to, Copies::Refused).unwrap();
    let stored = FleetStore::new(database).load().unwrap();
    assert!(stored.recovering.is_some());
}

#[test]
fn nothing_is_left_of_a_backup_that_is_no_good() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("a");
    filled(&from);
    let good = backup_of(&from);
    let mut damaged = good.clone();
    let at = good.iter().position(|byte| *byte == b'w').unwrap();
    damaged[at] = b'v';
    let mut half = good.clone();
    half.truncate(good.len() * 2 / 3);
    let newer = closed(b"{\"calvin_backup\":9,\"made_by\":\"calvin 9.0\"}\n");
    let path = r#"{"kind":"file","name":"../../etc/passwd","content":"x"}"#;
    let table = r#"{"kind":"record","table":"plans","key":"a","value":"{}"}"#;
    let number = r#"{"kind":"number","table":"fleets","key":"a","value":1}"#;
    let again = r#"{"kind":"file","name":"ca-1.key","content":"x"}"#;
    let history = r#"{"kind":"history","number":3,"hash":"00","line":"{}"}"#;
    let unknown = r#"{"kind":"record","table":"fleets","key":"db","value":"{\"format\":1,\"value\":{\"phase\":1}}"}"#;
    let cases: [(&str, Vec<u8>, &str); 14] = [
        ("nothing", Vec::new(), "it is empty"),
        (
            "something else",
            b"<html>\n".to_vec(),
            "no backup of calvin",
        ),
        ("binary", vec![0; 4096], "cut off"),
        ("damaged", damaged, "damaged"),
        ("half", half, "cut off"),
        ("without its end", without_end(&good), "its end"),
        (
            "more after its end",
            [good.as_slice(), b"{}\n"].concat(),
            "after its end",
        ),
        ("newer", newer, "calvin 9.0"),
        ("a path", with_line(&good, path), "no file of a CA"),
        ("a table", with_line(&good, table), "no such table"),
        ("a kind", with_line(&good, number), "no such table"),
        ("twice", with_line(&good, again), "comes twice"),
        ("history", with_line(&good, history), "history"),
        ("a record", with_line(&good, unknown), "line"),
    ];
    for (what, bytes, said) in cases {
        let verified = verify(Cursor::new(&bytes)).unwrap_err().to_string();
        assert!(verified.contains(said), "{what}: {verified}");
        let to = dir.path().join("to");
        restore(Cursor::new(&bytes), &to).unwrap_err();
        assert!(
            !to.join("store.redb").exists() && !to.join("ca").exists(),
            "{what}"
        );
        assert!(!to.join(".restoring").exists(), "{what}");
    }
    restore(Cursor::new(&good), &dir.path().join("to")).unwrap();
}

#[test]
fn a_directory_with_a_store_and_one_in_use_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("a");
    filled(&from);
    let backup = backup_of(&from);
    let error = restore(Cursor::new(&backup), &from)
        .unwrap_err()
        .to_string();
    assert!(error.contains("ca, store.redb"), "{error}");
    let used = dir.path().join("used");
    let _held = open(&used, Copies::Refused).unwrap();
    let error = restore(Cursor::new(&backup), &used)
        .unwrap_err()
        .to_string();
    assert!(error.contains("in use"), "{error}");
    let mut out = Vec::new();
    let error = offline(&used, &mut out).unwrap_err().to_string();
    assert!(error.contains("in use"), "{error}");
}

#[test]
fn an_output_that_takes_nothing_more_is_told() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let mut small = [0_u8; 100];
    let error = offline(dir.path(), &mut small.as_mut_slice()).unwrap_err();
    assert!(matches!(error, BackupError::Write(_)), "{error}");
}
