//! A coordinator that is killed between any two instructions loses nothing that it was told was
//! committed, and the next one opens the store as it is.

use std::{
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use super::*;

/// Set for the child: the data directory to write to until it is killed.
const CHILD: &str = "CALVIN_TEST_STORE_CHILD";

#[test]
fn a_store_whose_process_is_killed_holds_all_that_was_committed() {
    if let Some(path) = env::var_os(CHILD) {
        commit_for_ever(Path::new(&path));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for kill_after in [1, 2, 7, 20] {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([
                "store::tests::crash::a_store_whose_process_is_killed_holds_all_that_was_committed",
                "--exact",
                "--nocapture",
            ])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let revisions = lines
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("committed ")?.parse::<u64>().ok());
        for revision in revisions.take(kill_after) {
            acknowledged = revision;
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let (_directory, database, mut store) = opened(dir.path());
        let stored = store.load().unwrap();
        assert!(stored.revision.0 >= acknowledged, "{stored:?}");
        assert_eq!(stored.moment.ms, stored.revision.0);
        assert_eq!(
            History::new(database).verify().unwrap(),
            2 * stored.revision.0
        );
    }
    assert!(acknowledged >= 30, "{acknowledged}");
}

fn commit_for_ever(path: &Path) -> ! {
    let (_directory, _database, mut store) = opened(path);
    let mut revision = store.load().unwrap().revision;
    loop {
        let next = batch(revision.0 + 1, &[set(fleet("web", 5))]);
        revision = store.commit(revision, &next).unwrap();
        println!("committed {}", revision.0);
    }
}
