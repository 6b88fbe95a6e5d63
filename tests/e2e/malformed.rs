//! Files with mistakes, as people make them, and what each is answered: file, place and what to do.

mod odd;

use std::fs;

use crate::support::{Environment, environment::binary};

/// A fleet file's beginning that is good.
const FLEET: &str = "name = \"web\"\nimage = \"web@1.0\"\ncount = 2\n";

/// An image's beginning that is good.
const IMAGE: &str = "name = \"web\"\nversion = \"9.9\"\n";

/// Fleet files: what is added to or put in place of a good one, and what the answer must hold.
const FLEETS: [(&str, &[&str]); 24] = [
    ("", &["missing field `name`"]),
    ("name = \"web\"", &["missing field `image`"]),
    (
        "name = \"web\"\nimage = \"web@1.0\"",
        &["missing field `count`"],
    ),
    ("name = web\n", &["fleet.toml:1:8"]),
    (
        "name = \"we_b\"\nimage = \"web@1.0\"\ncount = 1",
        &["fleet.toml:1:8", "'_' at position 3"],
    ),
    (
        "name = \"\"\nimage = \"web@1.0\"\ncount = 1",
        &["must not be empty"],
    ),
    (
        "name = \"WEB\"\nimage = \"web@1.0\"\ncount = 1",
        &["'W' at position 1"],
    ),
    (
        "name = \"web\"\nimage = \"web\"\ncount = 1",
        &["fleet.toml:2:9", "write name@version"],
    ),
    (
        "name = \"web\"\nimage = \"web@\"\ncount = 1",
        &["image version must not be empty"],
    ),
    (
        "name = \"web\"\nimage = \"web@1.0\"\ncount = -1",
        &["fleet.toml:3:9"],
    ),
    (
        "name = \"web\"\nimage = \"web@1.0\"\ncount = \"two\"",
        &["fleet.toml:3:9", "expected u32"],
    ),
    (
        "name = \"web\"\nimage = \"web@1.0\"\ncount = 0",
        &["fleet.toml:3:1", "from 1 to"],
    ),
    (
        "name = \"web\"\nimage = \"web@1.0\"\ncount = 99999",
        &["from 1 to 10000"],
    ),
    (
        "name = \"web\"\nimage = \"web@1.0\"\ncuont = 2",
        &["fleet.toml:3:1", "did you mean `count`?"],
    ),
    (
        "+[replace]\nmin_helthy = \"1s\"",
        &["fleet.toml:5:1", "did you mean `min_healthy`?"],
    ),
    ("+[replace]\nbake = 5", &["fleet.toml:5:8"]),
    (
        "+[replace]\nbake = \"5\"",
        &["fleet.toml:5:8", "is not a duration", "90s or 1h30m"],
    ),
    ("+[replace]\nbake = \"5 minutes\"", &["is not a duration"]),
    (
        "+[replace]\nsurge = 0",
        &["surge 0 and unavailable 0 are both none of 2"],
    ),
    (
        "+[replace]\nsurge = \"150%\"",
        &["surge", "\"0%\" to \"100%\""],
    ),
    (
        "+[replace]\nmin_healthy = \"10m\"",
        &["healthy_deadline 5m must be above min_healthy 10m"],
    ),
    (
        "+[replace]\nprogress_deadline = \"1m\"",
        &["progress_deadline 1m must not be below healthy_deadline 5m"],
    ),
    (
        "+[drain]\non_timeout = \"forse\"",
        &["fleet.toml:5:14", "did you mean `force`?"],
    ),
    (
        "+[repiar]\nsilent_after = \"1m\"",
        &["fleet.toml:4:2", "did you mean `repair`?"],
    ),
];

/// The same for `image.toml`.
const IMAGES: [(&str, &[&str]); 24] = [
    ("", &["missing field `name`"]),
    ("name = \"web\"", &["missing field `version`"]),
    ("name = \"web\"\nversion = 1.0", &["image.toml:2:11"]),
    ("name = \"web\"\nversion = \"1 0\"", &["' ' at position 2"]),
    ("+[workload]\n", &["missing field `command`"]),
    (
        "+[workload]\ncommand = []",
        &["image.toml:4:1", "the workload's command is empty"],
    ),
    ("+[workload]\ncommand = \"run me\"", &["image.toml:4:11"]),
    (
        "+[workload]\ncommand = [\"x\"]\nwork = \"on_activ\"",
        &["did you mean `on_active`?"],
    ),
    (
        "+[workload]\ncommand = [\"x\"]\nstop_signal = \"SIGTREM\"",
        &["did you mean `SIGTERM`?"],
    ),
    (
        "+[workload]\ncommand = [\"x\"]\n[workload.env]\nCALVIN_FLEET = \"a\"",
        &["CALVIN_FLEET is set by the agent"],
    ),
    (
        "+[workload]\ncommand = [\"x\"]\nrestart_min = \"1m\"\nrestart_max = \"1s\"",
        &["restart_min 1m must be above 0 and not above restart_max 1s"],
    ),
    ("+[[service]]\nname = \"web\"", &["missing field `port`"]),
    (
        "+[[service]]\nname = \"web\"\nport = 0",
        &["service web has port 0"],
    ),
    (
        "+[[service]]\nname = \"web\"\nport = 70000",
        &["image.toml:5:8"],
    ),
    (
        "+[[service]]\nname = \"web-standby\"\nport = 80",
        &["taken by standby instances"],
    ),
    (
        "+[[service]]\nname = \"web\"\nport = 80\n[[service]]\nname = \"web\"\nport = 81",
        &["service web is defined twice"],
    ),
    (
        "+[[service]]\nname = \"web\"\nport = 80\ntags = [\"a b\"]",
        &["cannot be a DNS label"],
    ),
    ("+[[check]]\nname = \"a\"", &["must be exactly one of"]),
    (
        "+[[check]]\nname = \"a\"\nhttp = \"/\"",
        &["must be exactly one of"],
    ),
    (
        "+[[check]]\nname = \"a\"\nhttp = \"x\"\nport = 80",
        &["the path must begin with /"],
    ),
    (
        "+[[check]]\nname = \"a\"\ntcp = true\nport = 80\nrise = 0",
        &["image.toml:7:8"],
    ),
    (
        "+[workload]\ncommand = [\"x\", \"${CALVIN_ADRESS}:80\"]",
        &[
            "image.toml:4:1",
            "names ${CALVIN_ADRESS}",
            "did you mean ${CALVIN_ADDRESS}?",
        ],
    ),
    (
        "+[hooks]\ndrain = [\"x\", \"${CALVIN_REASON}\"]",
        &["hook drain names ${CALVIN_REASON}, which is no variable"],
    ),
    (
        "+[hooks]\ndrian = [\"x\"]",
        &["image.toml:4:1", "did you mean `drain`?"],
    ),
];

/// A coordinator's file that is good but for what a row adds.
const CALVIN: &str = "environment = \"test\"\ndata = \"data\"\n";

/// The same for `calvin.toml`.
const CALVINS: [(&str, &[&str]); 14] = [
    ("", &["missing field `environment`"]),
    ("environment = \"test\"", &["missing field `data`"]),
    ("+", &["missing field `agents`"]),
    (
        "environment = \"Test 1\"\ndata = \"d\"",
        &["calvin.toml:1:15", "'T' at position 1"],
    ),
    ("+[agents]\n", &["missing field `listen`"]),
    ("+[agents]\nlisten = \"localhost\"", &["calvin.toml:4:10"]),
    (
        "+[agents]\nlisten = \"127.0.0.1:99999\"",
        &["calvin.toml:4:10"],
    ),
    (
        "+[agents]\nlisten = \"127.0.0.1:1\"",
        &["missing field `provider`"],
    ),
    (
        "+*catalogue.ttl = \"100ms\"",
        &["ttl 100ms must be from 1s to 1h"],
    ),
    (
        "+*catalogue.kind = \"consl\"",
        &["unknown variant `consl`, expected `embedded`"],
    ),
    (
        "+*report_intervall = \"1s\"",
        &["did you mean `report_interval`?"],
    ),
    (
        "+*report_interval = \"1ms\"",
        &["report_interval 1ms must be from 100ms to 1m"],
    ),
    (
        "+*certificate_validity = \"1s\"",
        &["certificate_validity 1s must be from 1m"],
    ),
    ("+*domain = \"UPPER CASE\"", &["is no DNS domain"]),
];

/// What a coordinator's file needs beyond its beginning.
const CALVIN_REST: &str = "[agents]\nlisten = \"127.0.0.1:0\"\n\
     [provider.process]\nnetwork = \"127.99.9.0/24\"\n";

/// A row's text: whole, or after a good beginning where it starts with `+`.
fn text(beginning: &str, row: &str) -> String {
    row.strip_prefix('+')
        .map_or_else(|| row.to_owned(), |rest| format!("{beginning}{rest}"))
}

/// Every answer that does not hold what it must, so that one run shows all of them.
fn check(wrong: &mut Vec<String>, file: &str, expected: &[&str], output: &std::process::Output) {
    let answer = String::from_utf8_lossy(&output.stderr);
    let missing: Vec<_> = expected
        .iter()
        .filter(|part| !answer.contains(**part))
        .collect();
    if output.status.success() || !missing.is_empty() {
        let code = output.status.code();
        wrong.push(format!(
            "{file}\n=> {code:?}, without {missing:?}:\n{answer}"
        ));
    }
}

#[tokio::test]
async fn a_fleet_file_with_a_mistake_is_answered_with_place_and_advice() {
    let environment = Environment::start().await;
    environment.add_web_images(&[("1.0", "")]).await;
    let file = environment.home().join("fleet.toml");
    let mut wrong = Vec::new();
    for (row, expected) in FLEETS {
        let text = text(FLEET, row);
        fs::write(&file, &text).unwrap();
        let output = environment.calvin(&["fleet", "apply", file.to_str().unwrap()]);
        check(&mut wrong, &text, expected, &output);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(
        environment
            .operator
            .status()
            .await
            .unwrap()
            .fleets
            .is_empty()
    );
}

#[tokio::test]
async fn an_image_with_a_mistake_is_answered_with_place_and_advice() {
    let environment = Environment::start().await;
    let folder = environment.home().join("image");
    fs::create_dir(&folder).unwrap();
    let mut wrong = Vec::new();
    for (row, expected) in IMAGES {
        let text = text(IMAGE, row);
        fs::write(folder.join("image.toml"), &text).unwrap();
        let output = environment.calvin(&["image", "add", folder.to_str().unwrap()]);
        check(&mut wrong, &text, expected, &output);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[tokio::test]
async fn an_image_that_keeps_data_is_refused_at_apply_with_the_reason() {
    let environment = Environment::start().await;
    let text = "name = \"db\"\nversion = \"1.0\"\ndata = \"volume\"\n";
    let folder = crate::support::files::custom_image(environment.home(), "db", "1.0", text);
    environment.add_image(folder).await;
    let refused = environment
        .operator
        .apply("name = \"db\"\nimage = \"db@1.0\"\ncount = 1\n")
        .await
        .unwrap_err();
    assert!(refused.message().contains("volume"), "{refused}");
    assert!(environment.processes("db", "init").is_empty());
}

#[tokio::test]
async fn an_image_that_was_changed_after_it_was_recorded_makes_no_machine() {
    let environment = Environment::start().await;
    environment.add_web_images(&[("1.0", "")]).await;
    let file = environment.home().join("images/web-1.0/image.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}\n# changed\n")).unwrap();
    environment.operator.apply(FLEET).await.unwrap();
    environment
        .until_fleet("web", "the changed image to be named", |fleet| {
            let texts = fleet
                .instances
                .iter()
                .map(|one| format!("{} {}", one.fault, one.text));
            texts
                .chain(fleet.waiting.iter().map(|one| one.what.clone()))
                .any(|text| text.contains("digest") || text.contains("changed"))
        })
        .await;
    assert!(environment.processes("web", "init").is_empty());
}

#[test]
fn a_provision_file_with_a_mistake_is_answered_with_place_and_advice() {
    let home = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for (row, expected) in [
        ("", &["provision.toml", "missing field"][..]),
        ("environment = \"a b\"\n", &["provision.toml:1:15"]),
        (
            "enviroment = \"test\"\n",
            &["provision.toml:1:1", "did you mean `environment`?"],
        ),
    ] {
        let file = home.path().join("provision.toml");
        fs::write(&file, row).unwrap();
        let output = std::process::Command::new(binary("calvin-agent"))
            .args(["check-config", file.to_str().unwrap()])
            .output()
            .unwrap();
        check(&mut wrong, row, expected, &output);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn a_coordinators_file_with_a_mistake_is_answered_with_place_and_advice() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("calvin.toml");
    let mut wrong = Vec::new();
    for (row, expected) in CALVINS {
        let text = match row.strip_prefix("+*") {
            Some(key) => format!("{CALVIN}{key}\n{CALVIN_REST}"),
            None => text(CALVIN, row),
        };
        fs::write(&file, &text).unwrap();
        let output = std::process::Command::new(binary("calvin"))
            .args(["serve", "--config", file.to_str().unwrap()])
            .output()
            .unwrap();
        check(&mut wrong, &text, expected, &output);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(
        !home.path().join("data").exists(),
        "a refused file left a data directory"
    );
}
