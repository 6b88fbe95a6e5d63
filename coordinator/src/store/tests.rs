//! The store on a real disk: comparisons, crashes, full disks, copies and newer versions.

mod crash;

use std::{fs, path::Path, sync::Arc};

use calvin_engine::ports::{Batch, HistoryLine, RecoveringChange, Revision, Store, StoreError};
use calvin_model::{FleetName, FleetSpec};
use calvin_planner::{Event, EventKind, FleetState, Moment};
use redb::{ReadableTable, TableDefinition};

use super::*;

fn fleet(name: &str, count: u32) -> (FleetName, FleetState) {
    let text = format!("name = \"{name}\"\nimage = \"web@1.0\"\ncount = {count}\n");
    let spec = FleetSpec::parse("fleet.toml", &text).unwrap();
    let state = FleetState::new(spec);
    (state.spec.name.clone(), state)
}

fn batch(ms: u64, fleets: &[(FleetName, Option<FleetState>)]) -> Batch {
    let line = |text: String| HistoryLine {
        wall_ms: ms,
        who: "planner".to_owned(),
        event: Event {
            fleet: Some("web".parse().unwrap()),
            instance: None,
            kind: EventKind::Phase,
            text,
        },
    };
    Batch {
        environment: None,
        moment: Moment { ms },
        wall_ms: 1_000 + ms,
        fleets: fleets.iter().cloned().collect(),
        history: vec![
            line(format!("first at {ms}")),
            line(format!("second at {ms}")),
        ],
        ..Batch::default()
    }
}

fn set(fleet: (FleetName, FleetState)) -> (FleetName, Option<FleetState>) {
    (fleet.0, Some(fleet.1))
}

fn opened(path: &Path) -> (DataDirectory, Arc<Database>, FleetStore) {
    let (directory, database) = open(path, Copies::Refused).unwrap();
    let store = FleetStore::new(Arc::clone(&database));
    (directory, database, store)
}

fn text_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[test]
fn what_is_committed_is_there_after_the_store_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let web = fleet("web", 3);
    {
        let (_directory, _database, mut store) = opened(dir.path());
        assert_eq!(store.load().unwrap().revision, Revision(0));
        let mut old = fleet("old", 1);
        old.1.rollouts = 4;
        let first = batch(5, &[set(web.clone()), set(old)]);
        assert_eq!(store.commit(Revision(0), &first).unwrap(), Revision(1));
        let second = batch(9, &[("old".parse().unwrap(), None)]);
        assert_eq!(store.commit(Revision(1), &second).unwrap(), Revision(2));
    }
    let (_directory, _database, mut store) = opened(dir.path());
    let stored = store.load().unwrap();
    assert_eq!(stored.revision, Revision(2));
    assert_eq!((stored.moment, stored.wall_ms), (Moment { ms: 9 }, 1_009));
    assert_eq!(stored.fleets.into_iter().collect::<Vec<_>>(), [web]);
    let gone: Vec<_> = stored.gone.into_iter().collect();
    assert_eq!(gone, [("old".parse().unwrap(), 4)]);
}

#[test]
fn a_directory_is_free_when_it_is_given_up_also_while_a_child_begins() {
    let dir = tempfile::tempdir().unwrap();
    let (directory, database, store) = opened(dir.path());
    // What a child has between fork and exec, started by another thread at this very moment.
    let childs = directory.lock.0.try_clone().unwrap();
    drop((store, database, directory));
    opened(dir.path());
    drop(childs);
}

#[test]
fn a_commit_on_an_older_revision_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (_directory, database, mut store) = opened(dir.path());
    store
        .commit(Revision(0), &batch(1, &[set(fleet("web", 1))]))
        .unwrap();
    let error = store
        .commit(Revision(0), &batch(2, &[set(fleet("web", 9))]))
        .unwrap_err();
    let expected_conflict = matches!(
        error,
        StoreError::Conflict {
            expected: Revision(0),
            found: Revision(1)
        }
    );
    assert!(expected_conflict, "{error}");
    let stored = store.load().unwrap();
    assert_eq!(stored.fleets[&"web".parse().unwrap()].spec.count, 1);
    assert_eq!(History::new(database).verify().unwrap(), 2);
}

#[test]
fn a_full_disk_fails_the_commit_and_the_store_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (_directory, _database, mut store) = opened(dir.path());
        let first = batch(1, &[set(fleet("web", 1))]);
        store.commit(Revision(0), &first).unwrap();
    }
    // Opened anew: nothing but what the commits need is in memory.
    let (_directory, database, mut store) = opened(dir.path());
    database.fault().set_full(true);
    for _ in 0..2 {
        let error = store.commit(Revision(1), &batch(2, &[])).unwrap_err();
        let failed = matches!(error, StoreError::Failed { doing: "write", .. });
        assert!(failed, "{error}");
    }

    database.fault().set_full(false);
    let stored = store.load().unwrap();
    assert_eq!((stored.revision, stored.fleets.len()), (Revision(1), 1));
    let next = store.commit(Revision(1), &batch(3, &[])).unwrap();
    assert_eq!(next, Revision(2));
    assert_eq!(History::new(database).verify().unwrap(), 4);
}

#[test]
fn a_fleet_of_a_newer_version_is_refused_with_the_unknown_phase() {
    let dir = tempfile::tempdir().unwrap();
    let (_directory, database, mut store) = opened(dir.path());
    store
        .commit(Revision(0), &batch(1, &[set(fleet("web", 1))]))
        .unwrap();
    let table: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("fleets");
    let write = database.begin_write().unwrap();
    {
        let mut fleets = write.open_table(table).unwrap();
        let bytes = fleets.get("web").unwrap().unwrap().value().to_vec();
        let text = String::from_utf8(bytes).unwrap();
        let newer = text.replace("\"deleting\":false", "\"deleting\":false,\"frozen\":true");
        assert_ne!(text, newer);
        fleets.insert("web", newer.as_bytes()).unwrap();
    }
    write.commit().unwrap();
    let text = text_of(&store.load().unwrap_err());
    assert!(
        text.contains("fleet web") && text.contains("frozen"),
        "{text}"
    );
}

#[test]
fn a_second_coordinator_is_refused_with_the_process_that_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_directory, _database) = open(dir.path(), Copies::Refused).unwrap();
    let text = open(dir.path(), Copies::Refused).unwrap_err().to_string();
    let holder = format!("process {}", std::process::id());
    assert!(text.contains(&holder), "{text}");
}

#[test]
fn a_copy_of_a_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (original, copy) = (dir.path().join("a"), dir.path().join("b"));
    drop(open(&original, Copies::Refused).unwrap());
    fs::create_dir(&copy).unwrap();
    fs::copy(original.join("store.redb"), copy.join("store.redb")).unwrap();
    let error = open(&copy, Copies::Refused).unwrap_err();
    assert!(matches!(error, OpenError::Copy { .. }), "{error}");
    assert!(error.to_string().contains("--adopt"), "{error}");
    drop(open(&original, Copies::Refused).unwrap());
}

#[test]
fn a_copy_that_is_adopted_is_known_from_then_on_and_decides_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (original, copy) = (dir.path().join("a"), dir.path().join("b"));
    drop(open(&original, Copies::Refused).unwrap());
    fs::create_dir(&copy).unwrap();
    fs::copy(original.join("store.redb"), copy.join("store.redb")).unwrap();
    drop(open(&copy, Copies::Adopted).unwrap());
    let (_directory, database) = open(&copy, Copies::Refused).unwrap();
    let mut store = FleetStore::new(database);
    let stored = store.load().unwrap();
    let reason = stored.recovering.unwrap().reason;
    assert!(reason.contains("inode"), "{reason}");
    let ends = Batch {
        recovering: Some(RecoveringChange::Ends),
        ..Batch::default()
    };
    store.commit(stored.revision, &ends).unwrap();
    assert_eq!(store.load().unwrap().recovering, None);
}

#[test]
fn a_store_that_was_moved_on_its_file_system_is_no_copy() {
    let dir = tempfile::tempdir().unwrap();
    let (before, after) = (dir.path().join("a"), dir.path().join("b"));
    drop(open(&before, Copies::Refused).unwrap());
    fs::rename(&before, &after).unwrap();
    drop(open(&after, Copies::Refused).unwrap());
}

#[test]
fn a_store_of_a_newer_version_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (_directory, database) = open(dir.path(), Copies::Refused).unwrap();
        let table: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("about");
        let write = database.begin_write().unwrap();
        {
            let newer = br#"{"format":1,"value":{"format":7,"made_by":"calvin 9.1.0"}}"#;
            let mut about = write.open_table(table).unwrap();
            about.insert("version", newer.as_slice()).unwrap();
        }
        write.commit().unwrap();
    }
    let text = open(dir.path(), Copies::Refused).unwrap_err().to_string();
    assert!(
        text.contains("calvin 9.1.0") && text.contains("format 7"),
        "{text}"
    );
    assert!(text.contains("start that version"), "{text}");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let text = text_of(&open(&file.join("data"), Copies::Refused).unwrap_err());
    assert!(text.contains("file/data"), "{text}");
}

#[test]
fn a_history_line_that_was_changed_breaks_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let (_directory, database, mut store) = opened(dir.path());
    for revision in 0..3 {
        store
            .commit(Revision(revision), &batch(revision, &[]))
            .unwrap();
    }
    let history = History::new(Arc::clone(&database));
    assert_eq!(history.verify().unwrap(), 6);
    let newest = history.newest(2, |_| true).unwrap();
    let texts = newest.iter().map(|(line, _)| line.line.event.text.as_str());
    assert_eq!(texts.collect::<Vec<_>>(), ["first at 2", "second at 2"]);

    let table: TableDefinition<'_, u64, (&[u8], &[u8])> = TableDefinition::new("history");
    let write = database.begin_write().unwrap();
    {
        let mut lines = write.open_table(table).unwrap();
        let (hash, bytes) = {
            let found = lines.get(3).unwrap().unwrap();
            let (hash, bytes) = found.value();
            (hash.to_vec(), bytes.to_vec())
        };
        let forged = String::from_utf8(bytes)
            .unwrap()
            .replace("planner", "nobody!");
        lines
            .insert(3, (hash.as_slice(), forged.as_bytes()))
            .unwrap();
    }
    write.commit().unwrap();
    let error = history.verify().unwrap_err();
    assert!(
        matches!(error, StoreFailure::Broken { number: 3 }),
        "{error}"
    );
}
