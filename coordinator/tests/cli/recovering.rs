//! Backups, and what a person says to what a coordinator that recovers has found.

use std::fs;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::timeout;

use crate::{
    fake::Fake,
    run::{PATIENCE, bare, command, finish, run, start},
};

#[tokio::test]
async fn what_was_found_is_shown_with_a_code_of_its_own() {
    let fake = Fake::start();
    let table = run(&fake, &["recover", "show"]).await;
    assert_eq!(table.code, 8, "{}", table.err);
    assert!(
        table.out.contains("calvin recover approve 00ff"),
        "{}",
        table.out
    );
    let json = run(&fake, &["recover", "show", "--output", "json"]).await;
    assert_eq!(json.code, 8);
    let json = json.json();
    assert_eq!(json["plan"], "00ff");
    assert_eq!(json["findings"][0]["verdict"], "adopt");
}

#[tokio::test]
async fn an_approval_names_the_plan_and_needs_a_reason() {
    let fake = Fake::start();
    let ended = run(&fake, &["recover", "approve", "00ff"]).await;
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("--reason"), "{}", ended.err);
    let ended = run(
        &fake,
        &[
            "recover",
            "approve",
            "00ff",
            "--reason",
            "the disk was lost",
        ],
    )
    .await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(fake.changes(), ["approve 00ff the disk was lost"]);
}

#[tokio::test]
async fn a_backup_that_was_cut_off_leaves_no_file() {
    let fake = Fake::start();
    let ended = run(&fake, &["backup", "create", "--to", "a.backup"]).await;
    assert_eq!(ended.code, 1, "{}", ended.out);
    assert!(ended.err.contains("cut off"), "{}", ended.err);
    let left: Vec<_> = fs::read_dir(fake.directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("backup"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    fs::write(fake.directory().join("there.backup"), "x").unwrap();
    let ended = run(&fake, &["backup", "create", "--to", "there.backup"]).await;
    assert_eq!(ended.code, 2, "{}", ended.err);
    let kept = fs::read_to_string(fake.directory().join("there.backup")).unwrap();
    assert_eq!(kept, "x");
}

#[tokio::test]
async fn a_backup_that_is_interrupted_leaves_no_file() {
    let fake = Fake::start();
    fake.stall_backups();
    for told in [Signal::SIGINT, Signal::SIGTERM] {
        let arguments = ["backup", "create", "--to", "a.backup"];
        let mut child = start(command(&fake, &arguments));
        fake.wait_for_watchers(1 + usize::from(told == Signal::SIGTERM))
            .await;
        assert!(fake.directory().join("a.backup.new").exists());
        let pid = i32::try_from(child.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), told).unwrap();
        let status = timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(130));
        assert!(!fake.directory().join("a.backup.new").exists());
    }
}

#[tokio::test]
async fn what_is_no_backup_is_neither_verified_nor_restored() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("no.backup"), "<html>\n").unwrap();
    let mut verify = bare(home.path());
    verify.args(["backup", "verify", "no.backup"]);
    let ended = finish(verify).await;
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("no backup of calvin"), "{}", ended.err);
    let mut restore = bare(home.path());
    restore.args(["restore", "no.backup", "--data", "data"]);
    let ended = finish(restore).await;
    assert_eq!(ended.code, 1);
    assert!(!home.path().join("data/store.redb").exists());
    let mut absent = bare(home.path());
    absent.args(["restore", "absent.backup", "--data", "data"]);
    let ended = finish(absent).await;
    assert!(ended.err.contains("absent.backup"), "{}", ended.err);
}
