//! What people decide while machines run: freeze, veto, pause, approve by another person, protect.
//! Everything is typed as operators type it, one of them from afar with a certificate.

use std::process::{Command, Output, Stdio};

use crate::support::{Environment, environment::binary, files::Fleet};

/// `calvin` as bob types it, on the same machine but over mutual TLS.
fn as_bob(environment: &Environment, arguments: &[&str]) -> Output {
    Command::new(binary("calvin"))
        .args(["--context", "bob"])
        .args(arguments)
        .env("HOME", environment.home())
        .env_remove("XDG_CONFIG_HOME")
        .stdin(Stdio::null())
        .output()
        .expect("calvin runs")
}

fn make_bob(environment: &Environment) {
    let folder = environment.home().join("bob-was-handed");
    let folder = folder.to_str().unwrap();
    taken(environment.calvin(&[
        "operator", "add", "bob", "--role", "operator", "--out", folder,
    ]));
    let added = Command::new(binary("calvin"))
        .args(["context", "add", "bob", "--from", folder])
        .env("HOME", environment.home())
        .env_remove("XDG_CONFIG_HOME")
        .output()
        .expect("calvin runs");
    taken(added);
}

/// What was said about an order that was taken.
fn taken(output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}{wrong}");
    said
}

/// What was said about an order that was refused.
fn refused(output: Output) -> String {
    let wrong = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{wrong}");
    wrong
}

fn with_gate(fleet: &Fleet) -> String {
    let gate = "[replace]\napprove = [\"switch\"]\napprover = \"other\"\n";
    let toml = fleet.toml();
    assert!(toml.contains("[replace]\n"), "{toml}");
    toml.replace("[replace]\n", gate)
}

#[tokio::test]
async fn people_hold_a_rollout_and_another_person_lets_it_pass() {
    let environment = Environment::start().await;
    environment
        .add_web_images(&[("1.0", ""), ("2.0", "")])
        .await;
    let fleet = Fleet {
        bake: "500ms",
        ..Fleet::new("web", "web@1.0", 2)
    };
    environment.bring_up(&fleet).await;
    make_bob(&environment);
    environment
        .operator
        .apply(&with_gate(&fleet))
        .await
        .unwrap();
    let start = ["rollout", "start", "web", "web@2.0", "--detach"];

    let why = ["--reason", "the sale"];
    taken(environment.calvin(&[&["freeze", "--for", "1h"][..], &why].concat()));
    let said = refused(environment.calvin(&start));
    assert!(said.contains("the sale"), "{said}");
    let said = taken(environment.calvin(&["freeze", "show"]));
    assert!(
        said.contains("everything") && said.contains("calvin unfreeze"),
        "{said}"
    );
    taken(environment.calvin(&["unfreeze"]));

    taken(environment.calvin(&[&["image", "veto", "web@2.0"][..], &why].concat()));
    let said = refused(environment.calvin(&start));
    assert!(said.contains("veto"), "{said}");
    let said = taken(environment.calvin(&["image", "list"]));
    assert!(said.contains("web@2.0 is vetoed by"), "{said}");
    taken(environment.calvin(&["image", "unveto", "web@2.0"]));

    taken(environment.calvin(&start));
    environment.until_phase("web", "awaiting_switch").await;
    let said = taken(environment.calvin(&["status"]));
    assert!(
        said.contains("0 of 1 approved the switch; anybody but"),
        "{said}"
    );
    refused(environment.calvin(&["rollout", "approve", "web"]));

    taken(environment.calvin(&["rollout", "pause", "web", "--reason", "looking"]));
    let said = taken(environment.calvin(&["status"]));
    assert!(
        said.contains("paused") && said.contains("looking"),
        "{said}"
    );
    taken(environment.calvin(&["rollout", "resume", "web"]));

    taken(as_bob(&environment, &["rollout", "approve", "web"]));
    let ended = environment.until_ended("web").await;
    assert_eq!(ended.phase, "done", "{ended:?}");
    let history = environment.operator.history("web").await;
    assert!(
        history.iter().any(|line| line.text.contains("bob")),
        "nobody remembers bob: {history:?}"
    );

    let green = environment.until_whole("web", 2).await;
    let id = green[0].id.as_str();
    taken(environment.calvin(&[&["instance", "protect", id][..], &why].concat()));
    let said = refused(environment.calvin(&["instance", "replace", id]));
    assert!(said.contains("protect"), "{said}");
    let said = taken(environment.calvin(&["instance", "show", id]));
    assert!(
        said.contains("protected") && said.contains("the sale"),
        "{said}"
    );
    taken(environment.calvin(&["instance", "unprotect", id]));
}
