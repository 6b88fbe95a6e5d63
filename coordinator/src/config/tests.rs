//! `calvin.toml`: what is taken, and how what is wrong is shown.

use super::*;

const LEAST: &str = r#"environment = "prod"
data = "/var/lib/calvin"

[agents]
listen = "127.0.0.1:7701"

[provider.process]
network = "127.77.0.0/16"
"#;

#[test]
fn only_what_cannot_be_guessed_must_be_written() {
    let config = ServeConfig::parse("calvin.toml", LEAST).unwrap();
    assert_eq!(config.domain, "calvin.internal");
    assert_eq!(config.catalogue.kind, CatalogueKind::Embedded);
    assert_eq!(config.operators, None);
    let bound = "127.0.0.1:9".parse().unwrap();
    assert_eq!(config.advertised(bound), [bound]);
}

#[test]
fn what_is_written_out_is_read_back() {
    let config = ServeConfig::parse("calvin.toml", LEAST).unwrap();
    let text = toml::to_string(&config).unwrap();
    assert_eq!(ServeConfig::parse("calvin.toml", &text).unwrap(), config);
}

#[test]
fn the_layouts_that_are_shown_are_good() {
    let small = include_str!("../../layouts/small/calvin.toml");
    let small = ServeConfig::parse("calvin.toml", small).unwrap();
    assert_eq!(small.catalogue.kind, CatalogueKind::Embedded);
    let medium = include_str!("../../layouts/medium/calvin.toml");
    let medium = ServeConfig::parse("calvin.toml", medium).unwrap();
    assert_eq!(medium.catalogue.kind, CatalogueKind::Consul);
}

#[test]
fn what_is_wrong_is_shown_with_its_place() {
    let table = [
        (
            "enviroment = \"x\"\n",
            "",
            "1:1: unknown field `enviroment`",
        ),
        ("report_interval = \"5\"\n", "", "\"5\" is not a duration"),
        (
            "report_interval = \"2h\"\n",
            "",
            "calvin.toml:1:1: report_interval 2h must be from 100ms to 1m",
        ),
        ("certificate_validity = \"1s\"\n", "", "from 1m to 90d"),
        ("domain = \"Calvin.\"\n", "", "is no DNS domain"),
        ("domain = 5\n", "", "expected a string"),
        (
            "",
            "[catalogue]\nttl = \"0s\"\n",
            "ttl 0s must be from 1s to 1h",
        ),
        (
            "",
            "[catalogue]\nkind = \"consull\"\n",
            "did you mean `consul`?",
        ),
        (
            "",
            "[http]\nlisten = \"localhost:80\"\n",
            "invalid socket address",
        ),
        (
            "",
            "[operators]\nlistne = \"127.0.0.1:1\"\n",
            "did you mean `listen`?",
        ),
        ("", "[provider.qemu]\n", "unknown field `qemu`"),
        ("", "[agents]\n", "duplicate key"),
    ];
    for (before, after, expected) in table {
        let text = format!("{before}{LEAST}{after}");
        let error = ServeConfig::parse("calvin.toml", &text).unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert!(error.place.is_some(), "{error}");
    }
}

#[test]
fn a_listener_on_every_address_needs_one_that_machines_can_be_told() {
    let text = LEAST.replace("127.0.0.1:7701", "0.0.0.0:7701");
    let error = ServeConfig::parse("calvin.toml", &text).unwrap_err();
    assert!(error.to_string().contains("agents.advertise"), "{error}");
    let text = text.replace("7701\"", "7701\"\nadvertise = [\"10.0.0.1:7701\"]");
    let config = ServeConfig::parse("calvin.toml", &text).unwrap();
    let bound = "0.0.0.0:7701".parse().unwrap();
    assert_eq!(config.advertised(bound), ["10.0.0.1:7701".parse().unwrap()]);
}

#[test]
fn a_relative_directory_is_beside_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("calvin.toml");
    fs::write(&file, LEAST.replace("/var/lib/calvin", "data")).unwrap();
    assert_eq!(
        ServeConfig::load(&file).unwrap().data,
        dir.path().join("data")
    );
    let missing = ServeConfig::load(&dir.path().join("no.toml")).unwrap_err();
    assert!(missing.to_string().contains("no.toml"), "{missing}");
}
