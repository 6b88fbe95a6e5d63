//! A coordinator that recovers hears every agent of its environment and tells none of them
//! anything, not even its epoch.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_only_listens_hears_each_agent_and_tells_it_to_come_again() {
    let mut bench = Bench::start().await;
    let agent = bench.enrolled("web-a").await;
    let mut live = bench.begun(&agent, "web-a").await;
    bench.agents.only_listen(Some("its store was adopted"));
    assert_eq!(live.end().await.code(), Code::Unavailable);
    let mut hello = bench.hello("web-a");
    hello.epoch_seen = Some(wire::Epoch {
        number: 9,
        run: "ff".into(),
    });
    hello.generation_seen = 7;
    hello.role_applied = wire::Role::Active.into();
    let refused = bench.session(&agent, hello).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(
        refused.message().contains("its store was adopted"),
        "{refused}"
    );
    let heard = bench.agents.heard();
    let heard = &heard[&id("web-a")];
    assert_eq!(heard.epoch.as_ref().unwrap().number, 9);
    assert_eq!(heard.generation, Generation(7));
    assert_eq!(heard.role, Some(Role::Active));
    assert_eq!(heard.fleet.as_str(), "web");
    let refused = bench.renewed(&agent).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "nothing is given out");

    bench.agents.adopt(&[id("web-a")]).unwrap();
    bench.agents.only_listen(None);
    let refused = bench
        .session(&agent, bench.hello("web-a"))
        .await
        .unwrap_err();
    assert_eq!(
        refused.code(),
        Code::Unavailable,
        "the engine has not spoken"
    );
    bench.speak();
    bench.begun(&agent, "web-a").await;
    assert!(bench.agents.heard().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_has_heard_more_is_heard_by_the_engine() {
    let bench = Bench::start().await;
    let agent = bench.enrolled("web-a").await;
    assert!(bench.agents.heard().is_empty());
    let mut hello = bench.hello("web-a");
    hello.generation_seen = 2;
    bench.session(&agent, hello).await.unwrap_err();
    let heard = bench.agents.heard();
    assert_eq!(heard[&id("web-a")].generation, Generation(2));
}
