//! Agents over real TLS on loopback: the test plays them, and looks at what the engine would see,
//! what an agent is told, and what the audit holds.

mod bench;
mod joining;
mod listening;

use std::time::{Duration, Instant};

use calvin_engine::ports::{AgentLink as _, AgentSeen};
use calvin_model::{CatalogueRole, Generation, Role};
use calvin_planner::SessionObserved;
use calvin_proto::{
    convert::{FromAgent, ToAgent},
    wire,
};
use tonic::{Code, Status};

use self::bench::{Bench, DEADLINE, Key, id, reason, until};
use crate::{catalogue::AgentNames as _, identity::IdentityOptions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_enrols_is_told_what_is_wanted_and_its_report_is_seen() {
    let mut bench = Bench::start().await;
    let agent = bench.enrolled("web-a").await;
    let mut session = bench.session(&agent, bench.hello("web-a")).await.unwrap();
    let ToAgent::Welcome(welcome) = session.next().await.unwrap() else {
        panic!("the first message is no welcome");
    };
    assert_eq!(welcome.epoch, Bench::epoch());
    let ToAgent::Wanted(order) = session.next().await.unwrap() else {
        panic!("the second message is not what is wanted");
    };
    assert_eq!(order.wanted.role, Role::Standby);
    let ToAgent::Trust(trust) = session.next().await.unwrap() else {
        panic!("the third message is not whom to trust");
    };
    assert_eq!(trust.ca_pem, bench.identity.ca_pem());

    session.report(1).await;
    bench
        .until(|seen| seen["web-a"].agent.is_some(), "the report")
        .await;
    let before = bench.pokes();
    for stale in [1, 0] {
        session.report(stale).await;
    }
    session.report(7).await;
    bench
        .until(
            |seen| seen["web-a"].agent.as_ref().unwrap().report.sequence == 7,
            "the newest",
        )
        .await;
    assert_eq!(
        bench.pokes(),
        before,
        "a report without news wakes the engine"
    );

    bench.want("web-a", 2, Role::Active);
    let ToAgent::Wanted(order) = session.next().await.unwrap() else {
        panic!("not what is wanted");
    };
    assert_eq!(order.wanted.generation, Generation(2));
    assert!(bench.audit().is_empty());
    assert!(matches!(
        bench.agents.observe()[&id("web-a")].session,
        SessionObserved::Alive(_)
    ));
    drop(session);
    bench
        .until(
            |seen| matches!(seen["web-a"].session, SessionObserved::Ended(_)),
            "the end",
        )
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_reach_every_agent_and_the_newest_that_it_serves_is_read_back() {
    let bench = Bench::start().await;
    let agent = bench.enrolled("web-a").await;
    let mut session = bench.begun(&agent, "web-a").await;
    assert_eq!(bench.agents.live_names()[&id("web-a")], None);
    for number in 1..=3 {
        bench.publish(number);
    }
    let names = loop {
        match session.next().await.unwrap() {
            // Those in between may be left out.
            ToAgent::Names(names) if names.version.number < 3 => {}
            ToAgent::Names(names) => break names,
            ToAgent::Welcome(_)
            | ToAgent::Wanted(_)
            | ToAgent::Trust(_)
            | ToAgent::Join(_)
            | ToAgent::Registration(_) => panic!("not the names"),
        }
    };
    assert_eq!(names.entries[0].role, CatalogueRole::Active);
    session.report_names(1, 3).await;
    let read_back = || bench.agents.live_names()[&id("web-a")].map(|names| names.number);
    bench::until(|| read_back() == Some(3), "the read-back").await;
    drop(session);
    bench::until(|| bench.agents.live_names().is_empty(), "no live agent").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_reply_is_no_theft_and_another_key_is() {
    let bench = Bench::start().await;
    let token = bench.token("web-a");
    let key = Key::new();
    let first = bench.enrol("web-a", &token, &key).await.unwrap();
    let again = bench.enrol("web-a", &token, &key).await.unwrap();
    assert_eq!(first.certificate_pem, again.certificate_pem);
    assert!(bench.audit().is_empty());
    let refused = bench.enrol("web-a", &token, &Key::new()).await.unwrap_err();
    assert_eq!(reason(&refused), "token_spent");
    assert!(refused.message().contains("alarm"), "{refused:?}");
    assert_eq!(bench.audit(), ["token_spent"]);
    let alarm = bench.agents.observe()[&id("web-a")].alarm.clone();
    assert!(alarm.unwrap().contains("another key"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bad_token_is_refused_with_a_reason_and_one_line() {
    let bench = Bench::start().await;
    let (mine, other) = (bench.token("web-a"), bench.token("web-b"));
    let key = Key::new();
    let mut lines = Vec::new();
    for (instance, token, word) in [
        ("web-a", "0".repeat(64), "token_forged"),
        ("web-a", other, "token_foreign"),
        ("web-z", mine.clone(), "instance_unknown"),
        ("web-a", "x".repeat(257), "message_not_valid"),
    ] {
        let refused = bench.enrol(instance, &token, &key).await.unwrap_err();
        assert_eq!(reason(&refused), word);
        lines.push(word);
        assert_eq!(bench.audit(), lines);
    }
    bench.pass(2 * 3600);
    let refused = bench.enrol("web-a", &mine, &key).await.unwrap_err();
    assert_eq!(reason(&refused), "token_expired");
    lines.push("token_expired");
    assert_eq!(bench.audit(), lines);
    let foreign = Bench::start().await;
    foreign.token("web-a");
    let refused = foreign.enrol("web-a", &mine, &key).await.unwrap_err();
    assert_eq!(
        reason(&refused),
        "token_forged",
        "a token of another environment's key"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_certificate_is_good_for_renewal_only() {
    // Enrolled three days ago; the handshake is judged by the real clock.
    let bench = Bench::start_days_ago(3).await;
    let mut agent = bench.enrolled("web-a").await;
    bench.pass(3 * 86_400);
    let refused = bench
        .session(&agent, bench.hello("web-a"))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "certificate_expired");
    assert_eq!(bench.audit(), ["certificate_expired"]);
    agent = bench.renewed(&agent).await.unwrap();
    bench.begun(&agent, "web-a").await;
    assert_eq!(bench.audit(), ["certificate_expired"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_environment_does_not_pass_the_handshake() {
    let (bench, foreign) = (Bench::start().await, Bench::start().await);
    let mut agent = foreign.enrolled("web-a").await;
    agent.ca_pem = bench.identity.ca_pem();
    let error = bench.connect(&agent).await.unwrap_err();
    let words = error.explain().unwrap();
    assert!(words.contains("not of this environment's CA"), "{words}");
    bench::until(|| bench.audit() == ["handshake"], "the audit line").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_instance_or_another_one_is_refused() {
    let bench = Bench::start().await;
    let operator = bench.operator("ann");
    let refused = bench
        .session(&operator, bench.hello("web-a"))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "not_an_instance");
    let refused = bench.renewed(&operator).await.unwrap_err();
    assert_eq!(reason(&refused), "not_an_instance");

    let nobody = bench.nobody();
    let refused = bench
        .session(&nobody, bench.hello("web-a"))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "certificate_missing");

    let agent = bench.enrolled("web-a").await;
    let refused = bench
        .session(&agent, bench.hello("web-b"))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "instance_mismatch");
    let words = [
        "not_an_instance",
        "not_an_instance",
        "certificate_missing",
        "instance_mismatch",
    ];
    assert_eq!(bench.audit(), words);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retired_instance_loses_its_session_and_does_not_come_back() {
    let mut bench = Bench::start().await;
    let agent = bench.enrolled("web-a").await;
    let mut session = bench.begun(&agent, "web-a").await;
    bench.agents.revoke(&id("web-a"));
    let end = session.end().await;
    assert_eq!(reason(&end), "instance_retired");
    drop(session);
    bench.until(|seen| seen["web-a"].revoked, "the end").await;
    let refused = bench
        .session(&agent, bench.hello("web-a"))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "instance_retired");
    let refused = bench.renewed(&agent).await.unwrap_err();
    assert_eq!(reason(&refused), "instance_retired");
    // One for the revocation, one for each refusal.
    let words = ["instance_revoked", "instance_retired", "instance_retired"];
    assert_eq!(bench.audit(), words);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_session_ends_the_older_and_an_instance_that_is_no_more_loses_its() {
    let mut bench = Bench::start().await;
    let agent = bench.enrolled("web-a").await;
    let mut older = bench.begun(&agent, "web-a").await;
    let mut newer = bench.begun(&agent, "web-a").await;
    assert_eq!(older.end().await.code(), Code::Aborted);
    older.report(99).await;
    newer.report(1).await;
    bench
        .until(|seen| seen["web-a"].agent.is_some(), "the newer's report")
        .await;
    let seen = bench.agents.observe();
    assert_eq!(
        seen[&id("web-a")].agent.as_ref().unwrap().report.sequence,
        1
    );
    assert!(matches!(
        seen[&id("web-a")].session,
        SessionObserved::Alive(_)
    ));
    bench.agents.admit(&std::collections::BTreeMap::new());
    assert_eq!(newer.end().await.code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_has_heard_of_a_newer_coordinator_is_not_told_anything() {
    let bench = Bench::start().await;
    let agent = bench.enrolled("web-a").await;
    let mut hello = bench.hello("web-a");
    hello.epoch_seen = Some(wire::Epoch {
        number: 9,
        run: "ff".into(),
    });
    let refused = bench.session(&agent, hello).await.unwrap_err();
    assert_eq!(reason(&refused), "behind_the_world");
    assert!(bench.agents.notices()[0].contains("behind the world"));
    let mut hello = bench.hello("web-a");
    hello.epoch_seen = Some(wire::Epoch {
        number: 5,
        run: "ff".into(),
    });
    let refused = bench.session(&agent, hello).await.unwrap_err();
    assert_eq!(
        reason(&refused),
        "behind_the_world",
        "an equal number of another run"
    );
    let mut hello = bench.hello("web-a");
    hello.generation_seen = 2;
    let refused = bench.session(&agent, hello).await.unwrap_err();
    assert_eq!(
        reason(&refused),
        "behind_the_world",
        "a generation that we never gave"
    );
    bench.begun(&agent, "web-a").await;
    assert!(
        bench.agents.notices().is_empty(),
        "the notice goes when it is over"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_runs_something_else_than_it_was_made_from_is_refused() {
    let bench = Bench::start().await;
    let agent = bench.enrolled("web-a").await;
    let mut hello = bench.hello("web-a");
    hello.manifest_digest = format!("sha256:{}", "0".repeat(64));
    let refused = bench.session(&agent, hello).await.unwrap_err();
    assert_eq!(reason(&refused), "image_differs");
    let mut hello = bench.hello("web-a");
    hello.build_id = "another".into();
    let refused = bench.session(&agent, hello).await.unwrap_err();
    assert_eq!(reason(&refused), "image_differs");
    let alarm = bench.agents.observe()[&id("web-a")].alarm.clone();
    assert!(alarm.unwrap().contains("build id is another"));
    let mut hello = bench.hello("web-a");
    (hello.protocol_min, hello.protocol_max) = (70, 71);
    let refused = bench.session(&agent, hello).await.unwrap_err();
    assert_eq!(reason(&refused), "protocol_unknown");
    assert_eq!(
        bench.audit(),
        ["image_differs", "image_differs", "protocol_unknown"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_cannot_be_understood_ends_the_session_with_its_reason() {
    let bench = Bench::start().await;
    let agent = bench.enrolled("web-a").await;
    let refused = bench
        .session_with(&agent, Bench::report_message(1))
        .await
        .unwrap_err();
    assert_eq!(reason(&refused), "message_not_valid");
    let mut session = bench.begun(&agent, "web-a").await;
    let mut bad = Bench::report_message(1);
    if let Some(wire::from_agent::Message::Report(report)) = &mut bad.message {
        report.health = 42;
    }
    session.send(bad).await;
    let end = session.end().await;
    assert_eq!(reason(&end), "message_not_valid");
    assert!(end.message().contains("the value 42"), "{end:?}");
    let mut session = bench.begun(&agent, "web-a").await;
    session.send(wire::FromAgent { message: None }).await;
    assert_eq!(reason(&session.end().await), "message_not_valid");
    let mut session = bench.begun(&agent, "web-a").await;
    let mut other_boot = Bench::report_message(1);
    if let Some(wire::from_agent::Message::Report(report)) = &mut other_boot.message {
        report.boot_id = "ee".into();
    }
    assert!(FromAgent::try_from(other_boot.clone()).is_ok());
    session.send(other_boot).await;
    assert_eq!(reason(&session.end().await), "message_not_valid");
    assert_eq!(bench.audit(), ["message_not_valid"; 4]);
    assert!(bench.agents.observe()[&id("web-a")].agent.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_with_its_certificate() {
    let life = Duration::from_secs(2);
    let bench = Bench::start_with(|options: &mut IdentityOptions| {
        options.certificate_life = life;
    })
    .await;
    let agent = bench.enrolled("web-a").await;
    let mut session = bench.begun(&agent, "web-a").await;
    let end = tokio::time::timeout(DEADLINE, session.end()).await.unwrap();
    assert_eq!(end.code(), Code::Unauthenticated);
    assert!(end.message().contains("renew"), "{end:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_was_away_during_a_rotation_comes_back_and_learns_of_it() {
    let bench = Bench::start().await;
    let away = bench.enrolled("web-a").await;
    let mut here = bench.begun(&bench.enrolled("web-b").await, "web-b").await;
    bench.identity.rotate_ca("ann").unwrap();
    let ToAgent::Trust(trust) = here.next().await.unwrap() else {
        panic!("not whom to trust");
    };
    assert_eq!(trust.ca_pem.matches("BEGIN CERTIFICATE").count(), 2);
    // It trusts only the old CA, and is let in and told.
    let mut session = bench.session(&away, bench.hello("web-a")).await.unwrap();
    let trust = loop {
        if let ToAgent::Trust(trust) = session.next().await.unwrap() {
            break trust;
        }
    };
    assert_eq!(trust.ca_pem, bench.identity.ca_pem());
    // The old CA goes only when the other has renewed, too.
    let renewed = bench.renewed(&away).await.unwrap();
    assert_eq!(renewed.ca_pem.matches("BEGIN CERTIFICATE").count(), 2);
    bench.identity.revoke(&id("web-b")).unwrap();
    // And has shown it: had the answer been lost, the old one would be all that it has.
    let cas = || bench.identity.ca_pem().matches("BEGIN CERTIFICATE").count();
    assert_eq!(cas(), 2);
    bench.connect(&away).await.unwrap();
    bench.begun(&renewed, "web-a").await;
    let dropped = async {
        while cas() > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, dropped).await.unwrap();
    let mut renewed = renewed;
    renewed.ca_pem = bench.identity.ca_pem();
    bench.begun(&renewed, "web-a").await;
    let error = bench.connect(&away).await.unwrap_err();
    assert!(error.explain().unwrap().contains("CA"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_let_in_before_the_engine_has_spoken_and_all_are_told_when_it_ends() {
    let mut bench = Bench::start_silent().await;
    let agent = bench.enrolled("web-a").await;
    let early = bench
        .session(&agent, bench.hello("web-a"))
        .await
        .unwrap_err();
    assert_eq!(early.code(), Code::Unavailable);
    bench.speak();
    let mut session = bench.begun(&agent, "web-a").await;
    bench.stop().await;
    assert_eq!(session.end().await.code(), Code::Unavailable);
    assert!(bench.audit().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_disk_that_hangs_holds_up_who_enrols_and_nobody_who_is_enrolled() {
    let bench = Bench::start().await;
    let agent = bench.enrolled("web-b").await;
    let token = bench.token("web-a");
    let key = Key::new();
    let hung = bench.fault.hang_now();
    let others = async {
        until(|| hung.holds_somebody(), "an enrolment at the disk").await;
        let began = Instant::now();
        let mut session = bench.begun(&agent, "web-b").await;
        assert!(bench.identity.alarms().is_empty());
        let took = began.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
        bench.agents.registry().end_all(&Status::aborted("enough"));
        assert_eq!(session.end().await.code(), Code::Aborted);
        drop(hung);
    };
    let (enrolled, ()) = tokio::join!(bench.enrol("web-a", &token, &key), others);
    enrolled.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_takes_no_data_is_gone_when_it_has_ended_or_its_certificate_has() {
    // Far longer than the test takes until both are there.
    let life = Duration::from_secs(5);
    let bench = Bench::start_with(|options: &mut IdentityOptions| {
        options.certificate_life = life;
    })
    .await;
    let half = bench.enrolled("web-a").await;
    let half = bench.deaf_session(&half, bench.hello("web-a")).await;
    let quiet = bench.enrolled("web-b").await;
    let quiet = bench.deaf_session(&quiet, bench.hello("web-b")).await;
    quiet.report(1).await;
    let alive = |seen: &AgentSeen| matches!(seen.session, SessionObserved::Alive(_));
    bench
        .until(
            |seen| alive(&seen["web-a"]) && alive(&seen["web-b"]),
            "both",
        )
        .await;

    let _half = half.close_half();
    let over = |seen: &AgentSeen| matches!(seen.session, SessionObserved::Ended(_));
    bench
        .until(
            |seen| over(&seen["web-a"]) && alive(&seen["web-b"]),
            "the end of who ended, before that of any certificate",
        )
        .await;
    bench
        .until(|seen| over(&seen["web-b"]), "the end of a certificate")
        .await;
    // What it says now counts no more.
    quiet.report(2).await;
    let seen = bench.agents.observe();
    assert_eq!(
        seen[&id("web-b")].agent.as_ref().unwrap().report.sequence,
        1
    );
}
