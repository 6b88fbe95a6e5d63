//! What a quorum's command may write, and what becomes of it.

use calvin_model::Provision;
use tokio::time::timeout;

use super::*;

const GOOD: &str = "voters=3\nneeded=2\nleader=false\ncaught_up=true\n";

#[test]
fn four_lines_are_read_in_any_order_and_others_are_not_ours() {
    let report = parse(GOOD).unwrap();
    assert_eq!((report.voters, report.needed), (3, 2));
    assert_eq!((report.leader, report.caught_up), (false, true));
    let mixed = "a warning\ncaught_up = true\n leader=true\nother=7\nneeded=3\nvoters=5";
    let report = parse(mixed).unwrap();
    assert_eq!((report.voters, report.needed), (5, 3));
    assert!(report.leader);
}

#[test]
fn what_is_missing_twice_or_garbage_is_a_failed_run_that_says_why() {
    for (bad, says) in [
        (String::new(), "did not say voters="),
        (
            "voters=3\nneeded=2\nleader=false".to_owned(),
            "did not say caught_up=",
        ),
        (format!("{GOOD}voters=4"), "voters twice"),
        (GOOD.replace("voters=3", "voters=-1"), "no number of voters"),
        (
            GOOD.replace("voters=3", "voters=99999999999"),
            "no number of voters",
        ),
        (
            GOOD.replace("voters=3", "voters=10001"),
            "no number of voters",
        ),
        (GOOD.replace("needed=2", "needed=0"), "needed=0"),
        (
            GOOD.replace("leader=false", "leader=no"),
            "neither true nor false",
        ),
        (
            GOOD.replace("true", &"x".repeat(9_000)),
            "neither true nor false",
        ),
        ("\u{0}\u{fffd}".repeat(500), "did not say"),
    ] {
        let reason = parse(&bad).unwrap_err();
        assert!(reason.contains(says), "{says}: {reason}");
        assert!(reason.len() < 120, "{reason}");
    }
}

fn variables(image: &std::path::Path) -> Variables {
    let provision = format!(
        "environment = \"e\"\ninstance = \"web-a\"\nfleet = \"web\"\ncoordinators = \
         [\"127.0.0.1:1\"]\ndomain = \"d\"\njoin_token = \"\"\nca_pem = \"\"\n[image]\ntag = \
         \"web@1\"\ndigest = \"sha256:{}\"\n",
        "01".repeat(32)
    );
    Variables::new(
        &Provision::parse("provision.toml", &provision).unwrap(),
        image,
    )
}

async fn asked(script: &str) -> Result<QuorumReport, String> {
    let folder = tempfile::tempdir().unwrap();
    let quorum = Quorum {
        spec: QuorumSpec {
            exec: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            interval: calvin_model::HumanDuration::from_secs(1),
            timeout: calvin_model::HumanDuration::from_millis(500),
        },
        variables: variables(folder.path()),
        image: folder.path().to_owned(),
    };
    timeout(Duration::from_secs(20), quorum.ask())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_command_that_hangs_fails_floods_or_is_not_there_says_nothing_of_voters() {
    assert_eq!(asked(&format!("printf '{GOOD}'")).await.unwrap().voters, 3);
    let hung = asked(&format!("printf '{GOOD}'; sleep 100"))
        .await
        .unwrap_err();
    assert!(hung.contains("killed"), "{hung}");
    let failed = asked(&format!("printf '{GOOD}'; exit 3"))
        .await
        .unwrap_err();
    assert!(failed.contains('3'), "{failed}");
    let flood = format!("head -c 100000 /dev/zero; printf '{GOOD}'");
    let flooded = asked(&flood).await.unwrap_err();
    assert!(flooded.contains("more than four lines"), "{flooded}");
}
