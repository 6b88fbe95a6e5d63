//! Commands that change something: they say where, and ask before they delete.

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::{
    fake::Fake,
    run::{bare, finish, run},
};

#[tokio::test]
async fn what_was_changed_begins_with_the_name_of_the_environment() {
    let fake = Fake::start();
    let ended = run(&fake, &["fleet", "scale", "web", "7"]).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(ended.out, "[test] fleet web is to have 7 instances\n");
    let json = run(&fake, &["fleet", "scale", "web", "8", "--output", "json"])
        .await
        .json();
    assert_eq!(json["environment"], "test");
    assert_eq!(json["lines"][0], "fleet web is to have 8 instances");
}

#[tokio::test]
async fn a_pipe_deletes_nothing_without_yes() {
    let fake = Fake::start();
    let ended = run(&fake, &["fleet", "delete", "web"]).await;
    assert_eq!(ended.code, 2);
    assert!(
        ended.err.contains("[test]") && ended.err.contains("--yes"),
        "{}",
        ended.err
    );
    assert_eq!(fake.changes(), Vec::<String>::new());
    let ended = run(&fake, &["fleet", "delete", "web", "--yes"]).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(fake.changes(), ["delete web"]);
}

#[tokio::test]
async fn a_fleet_file_is_sent_as_it_is_and_its_mistakes_are_a_usage_error() {
    let fake = Fake::start();
    fs::write(fake.directory().join("web.toml"), "name = \"web\"\n").unwrap();
    let ended = run(&fake, &["fleet", "apply", "web.toml"]).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(fake.changes(), ["apply web.toml name = \"web\""]);
    fs::write(fake.directory().join("bad.toml"), "broken").unwrap();
    let ended = run(&fake, &["fleet", "apply", "bad.toml"]).await;
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("bad.toml:1:7"), "{}", ended.err);
    let ended = run(&fake, &["fleet", "apply", "absent.toml"]).await;
    assert_eq!(ended.code, 2);
    assert!(
        ended.err.contains("could not read absent.toml"),
        "{}",
        ended.err
    );
}

#[tokio::test]
async fn an_image_directory_is_sent_with_its_full_path() {
    let fake = Fake::start();
    fs::create_dir(fake.directory().join("image")).unwrap();
    let ended = run(&fake, &["image", "add", "image"]).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    let full = fs::canonicalize(fake.directory().join("image")).unwrap();
    assert_eq!(fake.changes(), [format!("image {}", full.display())]);
}

#[tokio::test]
async fn an_operator_s_key_is_made_here_and_becomes_a_context() {
    let fake = Fake::start();
    let ended = run(&fake, &["operator", "add", "alice", "--role", "operator"]).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    let handed = fake.directory().join("alice@test");
    let mode = fs::metadata(handed.join("key.pem"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let key = fs::read_to_string(handed.join("key.pem")).unwrap();
    assert!(key.contains("PRIVATE KEY"));
    assert!(
        !format!("{:?}", fake.changes()).contains(&key),
        "the key was sent"
    );

    let mut command = bare(fake.directory());
    command.args(["context", "add", "test", "--from", "alice@test"]);
    let ended = finish(command).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    let copied = fake
        .directory()
        .join(".config/calvin/contexts/test/key.pem");
    assert_eq!(fs::read_to_string(&copied).unwrap(), key);
    assert_eq!(
        fs::metadata(&copied).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let mut command = bare(fake.directory());
    command.args(["context", "list", "--output", "json"]);
    let list = finish(command).await.json();
    assert_eq!(
        (&list[0]["name"], &list[0]["current"]),
        (&"test".into(), &true.into())
    );
    assert_eq!(list[0]["address"], "127.0.0.1:7443");

    let mut command = bare(fake.directory());
    command.args(["context", "use", "tset"]);
    let ended = finish(command).await;
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("did you mean test?"), "{}", ended.err);

    let mut command = bare(fake.directory());
    command.args(["context", "remove", "test"]);
    assert_eq!(finish(command).await.code, 0);
    assert!(!copied.exists());
}

#[tokio::test]
async fn a_refused_operator_leaves_no_key_behind() {
    let fake = Fake::start();
    let ended = run(&fake, &["operator", "add", "mallory", "--role", "admin"]).await;
    assert_eq!(ended.code, 4, "{}", ended.err);
    assert!(!fake.directory().join("mallory@test").exists());
}
