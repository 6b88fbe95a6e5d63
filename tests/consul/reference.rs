//! The page about the layout with Consul, against what registers and what these tests run.

use std::{path::Path, process::Command};

use calvin_consul::registered;
use calvin_model::{CatalogueRole, ImageManifest};

use crate::stage::{consul_template, haproxy};

const PAGE: &str = include_str!("../../coordinator/docs/consul.md");

#[test]
fn each_role_is_on_the_page_with_its_name_and_tags() {
    let image = "name = \"web\"\nversion = \"1\"\n[[service]]\nname = \"web\"\nport = 80\n\
        tags = [\"http\"]\ntags_active = [\"urlprefix-/\"]\n";
    let image = ImageManifest::parse("image.toml", image).unwrap();
    let service = &image.services[0];
    for (word, role) in [
        ("standby", CatalogueRole::Standby),
        ("entered", CatalogueRole::Entered),
        ("active", CatalogueRole::Active),
    ] {
        let name = registered::name(service, role).unwrap();
        let tags = registered::tags(service, role);
        let tags: Vec<String> = tags.iter().map(|tag| format!("`{tag}`")).collect();
        let row = format!("| {word} | `{name}` | {} |", tags.join(", "));
        assert!(PAGE.contains(&row), "{row}");
    }
}

#[test]
fn each_key_of_meta_is_on_the_page() {
    for key in [
        registered::ENVIRONMENT,
        registered::FLEET,
        registered::INSTANCE,
        registered::IMAGE,
        registered::BOOT,
    ] {
        assert!(PAGE.contains(&format!("| `{key}` |")), "{key}");
    }
}

#[test]
fn the_page_shows_the_configurations_that_are_tested() {
    let tested = haproxy::resolvers("127.0.0.1:8600".parse().unwrap());
    assert!(PAGE.contains(&tested), "{tested}");
    // But for what only a test needs: its first line, and that HAProxy may not run yet.
    for line in consul_template::TAKE.lines().skip(1) {
        let line = line
            .trim_start_matches("[ ! -f haproxy.pid ] || ")
            .trim_end_matches(" || true");
        assert!(PAGE.lines().any(|on_page| on_page == line), "{line}");
    }
}

#[test]
fn the_files_of_the_layout_are_on_the_page_and_good() {
    let layout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../coordinator/layouts/medium");
    for file in ["calvin.toml", "consul-server.hcl"] {
        let text = std::fs::read_to_string(layout.join(file)).unwrap();
        assert!(PAGE.contains(&text), "{file} is another one on the page");
    }
    let resolvers = haproxy::resolvers("127.0.0.1:8600".parse().unwrap());
    let proxy = std::fs::read_to_string(layout.join("haproxy.cfg")).unwrap();
    assert!(proxy.contains(&resolvers));
    let consul = std::env::var_os("CALVIN_TEST_CONSUL").expect("it names Consul");
    let consul = Path::new(&consul);
    for (program, arguments, file) in [
        (consul, &["validate"][..], "consul-server.hcl"),
        (consul, &["validate"][..], "consul-client.hcl"),
        (
            Path::new("/usr/sbin/haproxy"),
            &["-c", "-f"][..],
            "haproxy.cfg",
        ),
    ] {
        let file = layout.join(file);
        let said = Command::new(program).args(arguments).arg(&file).output();
        let said = said.unwrap();
        assert!(said.status.success(), "{}: {said:?}", file.display());
    }
}
