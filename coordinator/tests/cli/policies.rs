//! `calvin consul policies`: printed without a coordinator, one or both, as HCL or as an object.

use crate::run::{Ended, bare, finish};

const CONFIG: &str = "environment = \"prod\"\ndata = \"data\"\n[agents]\nlisten = \"127.0.0.1:7701\"\n\
    [provider.process]\nnetwork = \"127.77.0.0/16\"\n";

/// `calvin consul policies` with these arguments, beside a `calvin.toml`.
async fn policies(arguments: &[&str]) -> Ended {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("calvin.toml"), CONFIG).unwrap();
    let mut command = bare(home.path());
    command.args(["consul", "policies"]).args(arguments);
    finish(command).await
}

/// What is no comment.
fn rules(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

#[tokio::test]
async fn the_coordinator_s_policy_is_printed_without_one() {
    let ended = policies(&["coordinator", "--config", "calvin.toml", "--service", "web"]).await;
    assert_eq!((ended.code, &*ended.err), (0, ""));
    assert_eq!(
        rules(&ended.out),
        [
            "acl = \"write\"",
            "agent_prefix \"\" { policy = \"read\" }",
            "node_prefix \"\" { policy = \"write\" }",
            "service \"web\" { policy = \"write\" }",
            "service \"web-standby\" { policy = \"write\" }",
            "service_prefix \"\" { policy = \"read\" }",
            "key_prefix \"calvin/\" { policy = \"write\" }",
            "session_prefix \"\" { policy = \"write\" }",
        ]
    );
    assert!(
        ended.out.contains("the coordinator of prod"),
        "{}",
        ended.out
    );
}

#[tokio::test]
async fn an_agent_s_policy_is_about_its_own_node_and_services() {
    let ended = policies(&["agent", "--instance", "web-0a1b2c3d", "--service", "web"]).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    let rules = rules(&ended.out);
    assert!(
        rules.contains(&"node \"web-0a1b2c3d\" { policy = \"write\" }"),
        "{rules:#?}"
    );
    assert!(
        rules.contains(&"service \"web\" { policy = \"write\" }"),
        "{rules:#?}"
    );
    assert!(
        rules
            .iter()
            .all(|rule| !rule.starts_with("acl") && !rule.starts_with("key")),
        "{rules:#?}"
    );
}

#[tokio::test]
async fn an_agent_of_an_exclusive_fleet_may_hold_that_one_s_lock() {
    let arguments = [
        "agent",
        "--config",
        "calvin.toml",
        "--instance",
        "db-0a1b2c3d",
        "--exclusive",
        "db",
    ];
    let ended = policies(&arguments).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    let locks = [
        "key \"calvin/prod/locks/db\" { policy = \"write\" }",
        "session \"db-0a1b2c3d\" { policy = \"write\" }",
    ];
    let printed = rules(&ended.out);
    assert!(printed.ends_with(&locks), "{printed:#?}");
}

#[tokio::test]
async fn programs_get_both_as_one_object() {
    let both = policies(&["--output", "json"]).await.json();
    let [coordinator, agent] = ["coordinator", "agent"].map(|whose| both[whose].as_str().unwrap());
    assert!(rules(coordinator).contains(&"acl = \"write\""));
    assert!(!rules(agent).contains(&"acl = \"write\""));
    assert!(both["environment"].is_null());
    let one = policies(&["agent", "--output", "json"]).await.json();
    assert!(one["coordinator"].is_null() && one["agent"].is_string());
    let text = policies(&[]).await.out;
    assert_eq!(text, format!("{coordinator}\n{agent}"));
}

#[tokio::test]
async fn what_cannot_be_meant_ends_as_a_usage_error() {
    for (arguments, reason) in [
        (
            &["coordinator", "--instance", "web-0a1b2c3d"][..],
            "is about an agent",
        ),
        (&["--config", "no.toml"], "could not read"),
        (&["--service", "We_b"], "may hold only"),
        (&["--instance", "No"], "instance id"),
        (&["agent", "--exclusive", "db"], "--config"),
        (
            &[
                "coordinator",
                "--config",
                "calvin.toml",
                "--exclusive",
                "db",
            ],
            "is about agents",
        ),
        (&["vault"], "possible values"),
    ] {
        let ended = policies(arguments).await;
        assert_eq!(ended.code, 2, "{arguments:?}: {}", ended.out);
        assert!(ended.err.contains(reason), "{arguments:?}: {}", ended.err);
        assert_eq!(ended.out, "", "{arguments:?}");
    }
}
