//! Orders that people give and end again: what is sent, what is asked first, and what is refused
//! before anything is sent.

use crate::{
    fake::Fake,
    run::{Ended, run},
};

async fn refused_as_usage(arguments: &[&str]) -> Ended {
    let fake = Fake::start();
    let ended = run(&fake, arguments).await;
    assert_eq!(ended.code, 2, "{arguments:?}: {}{}", ended.out, ended.err);
    assert_eq!(fake.changes(), Vec::<String>::new(), "{arguments:?}");
    ended
}

#[tokio::test]
async fn every_order_is_sent_as_it_is_typed() {
    let why = ["--reason", "a word"];
    let orders: [(&[&str], &str); 15] = [
        (&["rollout", "pause", "web"], "pause_rollout web"),
        (&["rollout", "resume", "web"], "resume_rollout web"),
        (
            &["rollout", "promote", "web", why[0], why[1]],
            "promote_rollout web",
        ),
        (&["rollout", "approve", "web"], "approve_rollout web"),
        (
            &["rollout", "approve", "web", "--gate", "retire"],
            "approve_rollout web retire",
        ),
        (&["fleet", "pin", "web", why[0], why[1]], "pin_fleet web"),
        (&["fleet", "unpin", "web"], "unpin_fleet web"),
        (
            &["instance", "protect", "web-1", why[0], why[1]],
            "protect web-1",
        ),
        (&["instance", "unprotect", "web-1"], "unprotect web-1"),
        (
            &["image", "veto", "web@2.0", why[0], why[1]],
            "veto web@2.0",
        ),
        (&["image", "unveto", "web@2.0"], "unveto web@2.0"),
        (&["zone", "lost", "b", why[0], why[1]], "lose_zone b a word"),
        (&["zone", "found", "b"], "find_zone b"),
        (
            &["repair", "resume", "web", why[0], why[1]],
            "resume_repairs web",
        ),
        (&["unfreeze", "web"], "unfreeze \"web\""),
    ];
    let fake = Fake::start();
    for (arguments, sent) in orders {
        let ended = run(&fake, arguments).await;
        assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.err);
        assert!(
            ended.out.starts_with("[test] "),
            "{arguments:?}: {}",
            ended.out
        );
        let last = fake.changes().pop().unwrap_or_default();
        assert_eq!(last.trim_end(), sent);
    }
}

#[tokio::test]
async fn what_overrides_the_coordinator_needs_a_reason() {
    for arguments in [
        &["rollout", "promote", "web"][..],
        &["rollout", "start", "web", "web@2.0", "--emergency"],
        &["freeze", "web"],
        &["fleet", "pin", "web"],
        &["instance", "protect", "web-1"],
        &["image", "veto", "web@2.0"],
        &["zone", "lost", "b"],
        &["repair", "resume", "web"],
    ] {
        let ended = refused_as_usage(arguments).await;
        assert!(
            ended.err.contains("--reason"),
            "{arguments:?}: {}",
            ended.err
        );
    }
}

#[tokio::test]
async fn a_freeze_ends_after_a_span_or_at_a_moment_or_not_by_itself() {
    let fake = Fake::start();
    for (arguments, sent) in [
        (&["freeze"][..], "freeze \"\" new None sale"),
        (
            &["freeze", "web", "--for", "2h"],
            "freeze \"web\" new Some(120) sale",
        ),
        (
            &["freeze", "--scope", "all", "--for", "30m"],
            "freeze \"\" all Some(30) sale",
        ),
    ] {
        let arguments = [arguments, &["--reason", "sale"]].concat();
        let ended = run(&fake, &arguments).await;
        assert_eq!(ended.code, 0, "{}", ended.err);
        assert_eq!(fake.changes().pop().as_deref(), Some(sent));
    }
    let ended = run(
        &fake,
        &["freeze", "--until", "2999-01-01T00:00Z", "--reason", "sale"],
    )
    .await;
    assert_eq!(ended.code, 0, "{}", ended.err);
}

#[tokio::test]
async fn a_freeze_of_everything_without_an_end_is_refused_with_both_keys() {
    let ended = refused_as_usage(&["freeze", "--scope", "all", "--reason", "x"]).await;
    assert_eq!(
        ended.err,
        "error: could not freeze the environment: --scope all without --until or --for would hold \
         repairs too, for ever\n next: say when it ends, such as --for 2h; or leave --scope all \
         away\n"
    );
    let both = ["freeze", "--for", "1h", "--until", "17:00", "--reason", "x"];
    let ended = refused_as_usage(&both).await;
    assert!(ended.err.contains("cannot be used with"), "{}", ended.err);
}

#[tokio::test]
async fn a_freeze_that_would_have_ended_already_is_refused() {
    let past = ["freeze", "--until", "2020-01-01T00:00Z", "--reason", "x"];
    let ended = refused_as_usage(&past).await;
    let said = "could not freeze the environment: 2020-01-01T00:00Z is past";
    assert!(ended.err.contains(said), "{}", ended.err);
    let ended = refused_as_usage(&["freeze", "--until", "soon", "--reason", "x"]).await;
    assert!(ended.err.contains("such as 17:00"), "{}", ended.err);
}

#[tokio::test]
async fn freezes_are_shown_with_what_ends_them() {
    let fake = Fake::start();
    let nothing = run(&fake, &["freeze", "show"]).await;
    assert_eq!(nothing.out, "nothing is frozen\n");
    run(&fake, &["freeze", "--reason", "sale"]).await;
    let table = run(&fake, &["freeze", "show"]).await;
    assert_eq!(table.code, 0, "{}", table.err);
    assert!(
        table.out.contains("everything") && table.out.contains("calvin unfreeze"),
        "{}",
        table.out
    );
    let json = run(&fake, &["freeze", "show", "--output", "json"])
        .await
        .json();
    assert_eq!(json["freezes"][0]["freeze"]["scope"], "new");
    assert_eq!(json["freezes"][0]["freeze"]["order"]["by"], "alice");
}

#[tokio::test]
async fn zones_are_listed_with_who_says_that_they_are_lost() {
    let fake = Fake::start();
    let table = run(&fake, &["zone", "list"]).await;
    assert_eq!(table.code, 0, "{}", table.err);
    assert!(table.out.contains("lost, says alice"), "{}", table.out);
    let json = run(&fake, &["zone", "list", "--output", "json"])
        .await
        .json();
    assert_eq!(json[0]["lost"]["reason"], "the hall burns");
    assert_eq!(json[0]["healthy"], 0);
}

#[tokio::test]
async fn an_emergency_is_sent_with_its_reason() {
    let fake = Fake::start();
    let arguments = ["rollout", "start", "web", "web@2.0", "--emergency"];
    let arguments = [&arguments[..], &["--reason", "a hole", "--detach"]].concat();
    let ended = run(&fake, &arguments).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(fake.changes(), ["start web web@2.0, emergency: a hole"]);
    let ended = refused_as_usage(&["rollout", "start", "web", "--reason", "x"]).await;
    assert!(ended.err.contains("--emergency"), "{}", ended.err);
}

#[tokio::test]
async fn another_image_after_the_switch_needs_a_yes_because_clients_go_back() {
    let start = ["rollout", "start", "switched", "switched@3.0", "--detach"];
    let ended = refused_as_usage(&start).await;
    assert!(
        ended.err.contains(
            "[test] switch clients back from switched@2.0 to switched@1.0, because switched-7 is \
             in settling, then roll out switched@3.0: not done"
        ),
        "{}",
        ended.err
    );
    let fake = Fake::start();
    let ended = run(&fake, &[&start[..], &["--yes"]].concat()).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(fake.changes(), ["start switched switched@3.0"]);
}

#[tokio::test]
async fn a_refused_approval_says_why() {
    let fake = Fake::start();
    let ended = run(&fake, &["rollout", "approve", "mine"]).await;
    assert_eq!(ended.code, 4);
    assert_eq!(
        ended.err,
        "error: [test] could not approve the rollout of fleet mine: you started it; ask somebody \
         else\n"
    );
}

#[tokio::test]
async fn a_refusal_in_json_names_the_rule_that_the_order_would_break() {
    let fake = Fake::start();
    let refused = ["rollout", "approve", "mine", "--output", "json"];
    let error = run(&fake, &refused).await.json_error();
    assert_eq!(error["error"]["rule"], "ApprovedByEnough");
    // A name that nobody knows breaks none.
    let unknown = ["fleet", "show", "wbe", "--output", "json"];
    let error = run(&fake, &unknown).await.json_error();
    assert!(error["error"]["rule"].is_null(), "{error}");
}
