//! What a coordinator says of what it cannot do at Consul, and what it does once Consul lets it again.

use std::{fs, time::Duration};

use calvin_consul::{
    Client, Consistency, Key, SessionId,
    acl::{ServiceIdentity, TokenRequest},
    kv::Write,
    session::{Behavior, SessionRequest},
};

use crate::{
    coordinator::{add_web, add_web_that_works, datacenter, environment, tokens},
    support::{
        Datacenter,
        environment::Environment,
        files::Fleet,
        home::{ENVIRONMENT, prepare},
        operator::fleet_request,
        player::Player,
        until,
    },
};

const POLICY: &str = "calvin-coordinator";
/// Much sooner than the next list of all tokens.
const SOON: Duration = Duration::from_secs(60);
/// Two looks at a policy, and what follows from them.
const SECONDS: Duration = Duration::from_secs(25);

/// Writes a rule of the coordinator's policy otherwise.
async fn rewrite(consul: &Client, from: &str, to: &str) {
    let policy = consul.policy(POLICY).await.unwrap().unwrap();
    assert!(policy.rules.contains(from), "{}", policy.rules);
    let rules = policy.rules.replace(from, to);
    consul.policy_update(&policy, &rules).await.unwrap();
}

/// Every machine with a client that asks the server with its token, once so many were told it.
async fn machines(
    datacenter: &Datacenter,
    environment: &Environment,
    player: &Player,
    count: usize,
) -> Vec<(String, Client)> {
    until("tokens that are told", async || {
        let status = environment.operator.status().await.unwrap();
        let fleets = status.fleets.into_iter();
        let ids = fleets.flat_map(|fleet| fleet.instances).map(|one| one.id);
        let told = ids.filter_map(|id| {
            let consul = player.heard(&id).join?.consul?;
            Some((id, consul.token?.expose().to_owned()))
        });
        let told: Vec<_> = told.collect();
        if told.len() == count {
            Ok(told)
        } else {
            Err((told.len(), said(environment).await))
        }
    })
    .await
    .into_iter()
    .map(|(id, token)| (id, datacenter.client(&datacenter.servers[0], Some(&token))))
    .collect()
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
    // A line is there once the engine has committed it, a moment after the token is gone.
    until("a line of each", async || {
        let mut lines = environment.operator.history("").await;
        lines.retain(|line| line.kind == "catalogue" && line.text.contains("revoked"));
        if lines.len() == 2 { Ok(()) } else { Err(lines) }
    })
    .await;
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

/// Deletes a policy, as somebody does by hand; and makes it again, where it is only replaced.
async fn delete_policy(consul: &Client, name: &str, replaced: bool) {
    let policy = consul.policy(name).await.unwrap().unwrap();
    consul.policy_delete(&policy).await.unwrap();
    if replaced {
        consul
            .policy_create(name, "by hand", &policy.rules)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_policy_of_all_machines_that_is_deleted_alone_is_in_every_token_again_within_seconds() {
    let (datacenter, consul, token) = datacenter().await;
    let mut environment = prepare(&datacenter, &token);
    environment.use_silent_agent();
    environment.start_coordinator().await;
    add_web(&environment, "1.0").await;
    let player = Player::start(&environment, &datacenter);
    let fleet = Fleet {
        healthy_deadline: "10m",
        ..Fleet::new("web", "web@1.0", 2)
    };
    environment.operator.apply(&fleet.toml()).await.unwrap();
    let machines = machines(&datacenter, &environment, &player, 2).await;
    let name = format!("calvin-{ENVIRONMENT}-machines");
    for replaced in [false, true] {
        delete_policy(&consul, &name, replaced).await;
        let began = tokio::time::Instant::now();
        let denied = machines[0].1.agent_self().await.unwrap_err();
        assert!(denied.is_denied(), "{denied}");
        for (id, own) in &machines {
            until("the rights again", async || {
                own.agent_self().await.map(drop)
            })
            .await;
            let token = own.token_self().await.unwrap();
            assert_eq!(token.policies.len(), 1, "{id}");
        }
        let took = began.elapsed();
        assert!(took < SECONDS, "{replaced}: {took:?}");
    }
    until_quiet(&environment).await;
}

async fn session(consul: &Client) -> SessionId {
    let request = SessionRequest {
        name: "a test".to_owned(),
        ttl: None,
        lock_delay: Duration::ZERO,
        behavior: Behavior::Release,
        node_checks: Vec::new(),
    };
    consul.session_create(&request).await.unwrap()
}

#[tokio::test]
async fn a_right_to_a_lock_that_is_deleted_alone_comes_back_within_seconds() {
    let (datacenter, consul, token) = datacenter().await;
    let mut environment = prepare(&datacenter, &token);
    environment.use_silent_agent();
    environment.start_coordinator().await;
    add_web_that_works(&environment, "1.0", "on_active").await;
    let player = Player::start(&environment, &datacenter);
    let fleet = Fleet {
        healthy_deadline: "10m",
        ..Fleet::new("web", "web@1.0", 1)
    };
    let count = "count = 1\n";
    let text = fleet.toml();
    let text = text.replace(count, "count = 1\nkind = \"exclusive\"\n");
    environment.operator.apply(&text).await.unwrap();
    let machines = machines(&datacenter, &environment, &player, 1).await;
    let (id, own) = &machines[0];
    let key: Key = format!("calvin/{ENVIRONMENT}/locks/web").parse().unwrap();
    let held = session(&consul).await;
    let acquire = async || {
        let value = id.clone().into_bytes();
        own.kv_acquire(&key, value, &held).await
    };
    assert_eq!(acquire().await.unwrap(), Write::Done);
    let lock = format!("calvin-{ENVIRONMENT}-lock-{id}");
    let shared = format!("calvin-{ENVIRONMENT}-machines");
    for (names, replaced) in [
        (vec![&lock], false),
        (vec![&lock], true),
        (vec![&lock, &shared], false),
    ] {
        for name in &names {
            delete_policy(&consul, name, replaced).await;
        }
        let began = tokio::time::Instant::now();
        let denied = acquire().await.unwrap_err();
        assert!(denied.is_denied(), "{denied}");
        until("the right again", async || acquire().await.map(drop)).await;
        until("all of it", async || own.agent_self().await.map(drop)).await;
        let took = began.elapsed();
        assert!(took < SECONDS, "{names:?} {replaced}: {took:?}");
    }
    until_quiet(&environment).await;
}

/// Makes tokens that are too long for anybody to list all of them: more than 64 MB.
async fn fill(consul: &Client) {
    let identity = |number: usize| ServiceIdentity {
        service_name: format!("long-{number}"),
        datacenters: (0..150).map(|number| format!("{number:0>60}")).collect(),
    };
    let token = TokenRequest {
        description: "long".to_owned(),
        service_identities: (0..50).map(identity).collect(),
        ..TokenRequest::default()
    };
    for _ in 0..150 {
        consul.token_create(&token).await.unwrap();
    }
    let error = consul.tokens().await.unwrap_err();
    assert!(error.to_string().contains("list the tokens"), "{error}");
}

#[tokio::test]
async fn no_machine_waits_for_the_list_of_all_tokens_and_one_that_fails_is_asked_for_seldom() {
    let (datacenter, consul, token) = datacenter().await;
    fill(&consul).await;
    let server = &datacenter.servers[0];
    server.say_requests();
    let mut environment = prepare(&datacenter, &token);
    environment.use_silent_agent();
    let began = tokio::time::Instant::now();
    environment.start_coordinator().await;
    add_web(&environment, "1.0").await;
    let player = Player::start(&environment, &datacenter);
    let fleet = |count| Fleet {
        healthy_deadline: "10m",
        ..Fleet::new("web", "web@1.0", count)
    };
    environment.operator.apply(&fleet(2).toml()).await.unwrap();
    machines(&datacenter, &environment, &player, 2).await;
    let what = "the Consul tokens of machines cannot be looked after";
    until(what, async || {
        let notices = said(&environment).await.notices;
        let says = notices.iter().any(|one| one.contains(what));
        says.then_some(()).ok_or(notices)
    })
    .await;
    let lists = server.log().matches("url=/v1/acl/tokens").count();
    // After 5, 15, 35 s and so on.
    let most = (began.elapsed().as_secs() / 5 + 1).ilog2() + 2;
    assert!(lists <= most as usize, "{lists} of {most}");

    // Nor do those wait whose tokens the next run does not know.
    environment.kill_coordinator();
    environment.start_coordinator().await;
    environment.operator.apply(&fleet(3).toml()).await.unwrap();
    let machines = machines(&datacenter, &environment, &player, 3).await;
    for (_, own) in &machines {
        own.token_self().await.unwrap();
    }
}
