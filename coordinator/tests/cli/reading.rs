//! Commands that only read.

use crate::{
    fake::Fake,
    run::{bare, finish, run},
};

#[tokio::test]
async fn status_answers_for_people_and_for_programs() {
    let fake = Fake::start();
    let table = run(&fake, &["status"]).await;
    assert_eq!(table.code, 0, "{}", table.err);
    assert!(
        table.out.starts_with("[test]  1 fleet, all well"),
        "{}",
        table.out
    );
    let json = run(&fake, &["status", "--output", "json"]).await.json();
    assert_eq!(json["environment"], "test");
    assert_eq!(json["fleets"][0]["name"], "web");
    assert_eq!(
        json["fleets"][0]["instances"][0]["report"]["health"],
        "healthy"
    );
    assert_eq!(json["held"], serde_json::Value::Null);
}

#[tokio::test]
async fn a_pipe_gets_no_escapes() {
    let fake = Fake::start();
    for arguments in [
        &["status"][..],
        &["fleet", "list"],
        &["rollout", "explain", "web"],
    ] {
        let ended = run(&fake, arguments).await;
        assert!(
            ended.code == 0 && !ended.out.contains('\x1b'),
            "{}{}",
            ended.out,
            ended.err
        );
    }
}

#[tokio::test]
async fn a_fleet_that_is_not_there_is_refused_with_the_guess_of_the_coordinator() {
    let fake = Fake::start();
    let ended = run(&fake, &["fleet", "show", "wbe"]).await;
    assert_eq!(ended.code, 4);
    assert_eq!(
        ended.err,
        "error: could not show fleet wbe: there is no fleet wbe; did you mean web?\n"
    );
    let error = run(&fake, &["fleet", "show", "wbe", "--output", "json"])
        .await
        .json_error();
    assert_eq!(error["error"]["exit"], "refused");
    assert_eq!(error["error"]["code"], 4);
}

#[tokio::test]
async fn without_a_coordinator_it_says_that_nobody_could_be_asked() {
    let home = tempfile::tempdir().unwrap();
    let mut command = bare(home.path());
    command.args(["--socket", "nobody.sock", "status"]);
    let ended = finish(command).await;
    assert_eq!(ended.code, 6);
    assert!(
        ended
            .err
            .starts_with("error: could not reach the coordinator's socket nobody.sock: "),
        "{}",
        ended.err
    );
    assert!(
        ended.err.contains("No such file") && ended.err.contains("next:"),
        "{}",
        ended.err
    );
}

#[tokio::test]
async fn a_coordinator_that_does_not_answer_is_a_timeout() {
    let fake = Fake::start();
    let ended = run(&fake, &["status", "stuck", "--timeout", "200ms"]).await;
    assert_eq!(ended.code, 5, "{}", ended.err);
    assert!(
        ended.err.contains("did not answer within 200ms"),
        "{}",
        ended.err
    );
}

#[tokio::test]
async fn a_slip_in_a_command_is_guessed_and_asks_nobody() {
    let home = tempfile::tempdir().unwrap();
    let mut command = bare(home.path());
    command.arg("stauts");
    let ended = finish(command).await;
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("'status'"), "{}", ended.err);
}

#[tokio::test]
async fn help_lists_every_exit_code() {
    let home = tempfile::tempdir().unwrap();
    let mut command = bare(home.path());
    command.arg("--help");
    let ended = finish(command).await;
    assert_eq!(ended.code, 0);
    for exit in calvin_coordinator::cli::Exit::ALL {
        let line = format!("{:>3}  ", exit.code());
        assert!(
            ended.out.contains(&line),
            "{} is not in {}",
            exit.code(),
            ended.out
        );
    }
    for line in ended.out.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[tokio::test]
async fn a_plan_names_the_command_that_starts_it_on_the_same_coordinator() {
    let fake = Fake::start();
    let socket = fake.socket().display().to_string();
    let ended = run(
        &fake,
        &["--socket", &socket, "rollout", "plan", "web", "web@2.0"],
    )
    .await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    let joined: String = ended.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        joined.contains("rollout start web web@2.0 --plan p-1"),
        "{}",
        ended.out
    );
    assert!(joined.contains("--socket"), "{}", ended.out);
    assert!(joined.contains("another rollout runs"), "{}", ended.out);
    assert_eq!(fake.changes(), Vec::<String>::new());
    let plan = ["rollout", "plan", "web", "--output", "json"];
    let plan = run(&fake, &plan).await.json();
    assert_eq!(plan["remarks"][0], "another rollout runs");
}

#[tokio::test]
async fn history_console_and_records_are_read() {
    let fake = Fake::start();
    let history = run(&fake, &["rollout", "history", "web"]).await;
    assert!(
        history.out.contains("09:43:10  web: something was decided"),
        "{}",
        history.out
    );
    let console = run(&fake, &["instance", "console", "web-aaaa0001"]).await;
    assert_eq!(console.out, "first\nsecond\n");
    let images = run(&fake, &["image", "list", "--output", "json"])
        .await
        .json();
    assert_eq!(images[0]["image"], "web@1.0");
    assert_eq!(images[0]["added_by"], "alice");
    let images = run(&fake, &["image", "list"]).await;
    assert!(images.out.contains("alice"), "{}", images.out);
    let ca = run(&fake, &["ca", "show"]).await;
    assert!(ca.out.contains("abcdef"), "{}", ca.out);
}

#[tokio::test]
async fn doctor_fails_when_a_check_fails_and_shows_it_first() {
    let fake = Fake::start();
    let ended = run(&fake, &["doctor"]).await;
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(
        ended.out.starts_with("BAD  coordinator, disk: 99 % full"),
        "{}",
        ended.out
    );
    assert!(ended.out.contains("-> make room"), "{}", ended.out);
}

#[tokio::test]
async fn doctor_without_a_coordinator_says_so_among_its_checks() {
    let home = tempfile::tempdir().unwrap();
    let mut command = bare(home.path());
    command.args(["--socket", "nobody.sock", "doctor"]);
    let ended = finish(command).await;
    assert_eq!(ended.code, 6, "{}", ended.out);
    assert!(
        ended
            .out
            .contains("could not reach the coordinator's socket"),
        "{}",
        ended.out
    );
}

#[tokio::test]
async fn completions_know_the_commands() {
    let home = tempfile::tempdir().unwrap();
    let mut command = bare(home.path());
    command.args(["completions", "bash"]);
    let ended = finish(command).await;
    assert!(
        ended.code == 0 && ended.out.contains("rollout"),
        "{}",
        ended.err
    );
}

#[tokio::test]
async fn a_command_line_that_cannot_be_read_is_an_object_to_who_asked_for_objects() {
    let fake = Fake::start();
    for arguments in [
        &["stauts", "--output", "json"][..],
        &["fleet", "pin", "web", "--output=json"],
        &["rollout", "start", "--output", "json"],
    ] {
        let ended = run(&fake, arguments).await;
        assert_eq!(ended.code, 2, "{}", ended.err);
        let error = &ended.json_error()["error"];
        assert_eq!(
            (&error["exit"], &error["code"]),
            (&"usage".into(), &2.into())
        );
        assert!(
            !error["causes"][0].as_str().unwrap().is_empty(),
            "{}",
            ended.err
        );
    }
    let ended = run(&fake, &["stauts", "--output", "json"]).await;
    assert_eq!(ended.json_error()["error"]["next"], "did you mean status?");
    let people = run(&fake, &["stauts"]).await;
    assert_eq!(people.code, 2);
    assert!(
        people.err.starts_with("error: unrecognized"),
        "{}",
        people.err
    );
    let help = run(&fake, &["--help", "--output", "json"]).await;
    assert_eq!((help.code, help.err.as_str()), (0, ""));
}
