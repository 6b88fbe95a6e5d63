//! What a coordinator says of what it cannot do at Consul, and what it does once Consul lets it again.

use std::{fs, time::Duration};

use calvin_consul::{Client, Consistency, Key};

use crate::{
    coordinator::{add_web, datacenter, environment, tokens},
    support::{
        environment::Environment, files::Fleet, home::ENVIRONMENT, operator::fleet_request,
        player::Player, until,
    },
};

const POLICY: &str = "calvin-coordinator";
/// Much sooner than the next list of all tokens.
const SOON: Duration = Duration::from_secs(60);

/// Writes a rule of the coordinator's policy otherwise.
async fn rewrite(consul: &Client, from: &str, to: &str) {
    let policy = consul.policy(POLICY).await.unwrap().unwrap();
    assert!(policy.rules.contains(from), "{}", policy.rules);
    let rules = policy.rules.replace(from, to);
    consul.policy_update(&policy, &rules).await.unwrap();
}

/// What a status says.
#[derive(Debug)]
struct Said {
    /// Nothing of what is missing keeps others waiting.
    held: String,
    notices: Vec<String>,
    /// What the fleet waits for.
    waiting: Vec<String>,
}

async fn said(environment: &Environment) -> Said {
    let status = environment.operator.status().await.unwrap();
    let fleets = status.fleets.into_iter();
    let waiting = fleets.flat_map(|fleet| fleet.waiting);
    Said {
        held: status.held,
        notices: status.notices,
        waiting: waiting.map(|one| one.what).collect(),
    }
}

/// Waits until this is said to people, by the doctor too, and that the fleet waits for it.
async fn until_said(environment: &Environment, what: &str, rule: &str) {
    let says = |text: &String| text.contains(what) && text.contains(rule);
    until(what, async || {
        let said = said(environment).await;
        let everywhere = said.notices.iter().any(says) && said.waiting.iter().any(says);
        if everywhere && said.held.is_empty() {
            Ok(())
        } else {
            Err(said)
        }
    })
    .await;
    let doctor = environment.calvin(&["doctor"]);
    let text = String::from_utf8_lossy(&doctor.stdout).replace('\n', " ");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains(rule), "{text}");
    assert!(
        text.contains("calvin consul policies coordinator"),
        "{text}"
    );
}

async fn until_quiet(environment: &Environment) {
    until("nothing to be said", async || {
        let said = said(environment).await;
        if said.notices.is_empty() && said.held.is_empty() {
            Ok(())
        } else {
            Err(said)
        }
    })
    .await;
}

#[tokio::test]
async fn what_the_token_may_not_do_is_named_and_done_once_it_may() {
    let (datacenter, consul, token) = datacenter().await;
    rewrite(&consul, "acl = \"write\"", "acl = \"read\"").await;
    let writes = "service_prefix \"web\" { policy = \"write\" }";
    let reads = writes.replace("write", "read");
    rewrite(&consul, writes, &reads).await;
    let mut environment = environment(&datacenter, &token).await;
    add_web(&environment, "1.0").await;
    let _player = Player::start(&environment, &datacenter);
    let fleet = Fleet {
        healthy_deadline: "10m",
        ..Fleet::new("web", "web@1.0", 2)
    };
    environment.operator.apply(&fleet.toml()).await.unwrap();
    // The machines wait for their tokens, then the switch for the tags.
    let made = "no Consul token can be made for web-";
    until_said(&environment, made, "rule `acl = \"write\"` is missing").await;
    rewrite(&consul, "acl = \"read\"", "acl = \"write\"").await;
    let tags = "the role tags of fleet web cannot be changed in Consul";
    until_said(
        &environment,
        tags,
        "rule `service \"web\" { policy = \"write\" }` is missing",
    )
    .await;
    rewrite(&consul, &reads, writes).await;
    until("the switch", async || {
        let status = environment.operator.status().await.unwrap();
        let fleet = status.fleets.into_iter().find(|fleet| fleet.name == "web");
        let rollout = fleet.and_then(|fleet| fleet.rollout).unwrap();
        if rollout.phase == "done" {
            Ok(())
        } else {
            Err(rollout)
        }
    })
    .await;
    until_quiet(&environment).await;

    // What must go and cannot is a debt, also of the next run.
    rewrite(&consul, "acl = \"write\"", "acl = \"read\"").await;
    let mut operator = environment.operator.client.clone();
    operator.delete_fleet(fleet_request("web")).await.unwrap();
    let owes = async |environment: &Environment| {
        until("the debt", async || {
            let status = environment.operator.status().await.unwrap();
            let notices = status.notices;
            let owed = notices
                .iter()
                .any(|one| one.contains("is to be taken back"));
            let why = notices.iter().any(|one| one.contains("cannot be revoked"));
            if owed && why { Ok(()) } else { Err(notices) }
        })
        .await;
    };
    owes(&environment).await;
    environment.kill_coordinator();
    environment.start_coordinator().await;
    owes(&environment).await;
    rewrite(&consul, "acl = \"read\"", "acl = \"write\"").await;
    until("the tokens to go", async || match tokens(&consul).await {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    })
    .await;
    until_quiet(&environment).await;
    let lines = environment.operator.history("").await.into_iter();
    let revoked = lines.filter(|line| line.kind == "catalogue" && line.text.contains("revoked"));
    assert_eq!(revoked.count(), 2);
}

#[tokio::test]
async fn tokens_that_are_lost_are_made_again_at_once_and_a_full_disk_keeps_only_the_lock_away() {
    let (datacenter, consul, token) = datacenter().await;
    let environment = environment(&datacenter, &token).await;
    add_web(&environment, "1.0").await;
    let fleet = Fleet {
        healthy_deadline: "10m",
        ..Fleet::new("web", "web@1.0", 2)
    };
    environment.operator.apply(&fleet.toml()).await.unwrap();
    let made = async || {
        until("tokens of both", async || match tokens(&consul).await {
            both if both.len() == 2 => Ok(()),
            other => Err(other),
        })
        .await;
    };
    made().await;
    let key: Key = format!("calvin/{ENVIRONMENT}/coordinator").parse().unwrap();
    let session = async || {
        let read = consul.kv_get(&key, Consistency::Consistent).await.unwrap();
        read.value.and_then(|entry| entry.session)
    };
    // As servers that came back empty have them: neither tokens, nor their policy, nor the lock.
    let lose = async |what: &str| {
        for one in consul.tokens().await.unwrap() {
            if one
                .description
                .starts_with(&format!("calvin {ENVIRONMENT} "))
            {
                consul.token_revoke(&one.accessor).await.unwrap();
            }
        }
        if what == "policy" {
            let name = format!("calvin-{ENVIRONMENT}-machines");
            let policy = consul.policy(&name).await.unwrap().unwrap();
            consul.policy_delete(&policy).await.unwrap();
        } else {
            let session = session().await.unwrap();
            consul.session_destroy(&session).await.unwrap();
        }
    };
    for what in ["policy", "session"] {
        lose(what).await;
        let began = tokio::time::Instant::now();
        made().await;
        assert!(began.elapsed() < SOON, "{what}: {:?}", began.elapsed());
    }

    // The session of the lock cannot be written down.
    let file = environment.home().join("data/consul-session");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    lose("session").await;
    until("a hold", async || {
        let held = environment.operator.status().await.unwrap().held;
        let says = held.contains("could not be written down") && held.contains("make room");
        if says { Ok(()) } else { Err(held) }
    })
    .await;
    assert_eq!(session().await, None, "nothing is locked with it");
    fs::remove_dir(&file).unwrap();
    until("an end of the hold", async || {
        let held = environment.operator.status().await.unwrap().held;
        if held.is_empty() { Ok(()) } else { Err(held) }
    })
    .await;
    assert!(session().await.is_some());
    made().await;
}
