//! The images and fleets of the whole-system tests: the demo's web server, with all that an image says
//! for Consul, at a pace that Consul can follow.

use std::path::PathBuf;

use super::calvin::{
    Environment,
    environment::binary,
    files::{self, Says},
};

/// The fleet, its image and its service.
pub(crate) const WEB: &str = "web";

/// A version and its fault, as arguments of the web server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Version(pub(crate) &'static str, pub(crate) &'static [&'static str]);

/// Good ones.
pub(crate) const GOOD: [Version; 3] = [
    Version("1.0", &[]),
    Version("2.0", &[]),
    Version("5.0", &[]),
];
/// Never healthy.
pub(crate) const NEVER_HEALTHY: Version = Version("3.0", &["--never-healthy"]);
/// Breaks under traffic, when it has settled.
pub(crate) const BREAKS: Version = Version("4.0", &["--bad-when-active", "--good-for", "8s"]);

/// What it says for Consul: how it is found, and how often it is checked.
const SERVICE: &str = r#"tags = ["http"]
tags_active = ["urlprefix-/"]
meta = { kind = "page" }
weights = { passing = 10, warning = 1 }"#;
const CHECK: &str = r#"interval = "1s""#;

/// Writes the image of a web server; the directory.
pub(crate) fn web_image(environment: &Environment, version: Version) -> PathBuf {
    let Version(version, fault) = version;
    let consul = std::env::var("CALVIN_TEST_CONSUL").expect("tests/run sets it");
    let says = Says {
        service: SERVICE,
        check: CHECK,
        tables: &format!("[consul]\nprogram = {consul:?}\n"),
    };
    files::web_image(&binary("calvin"), environment.home(), version, fault, says)
}

/// How long the parts of a rollout take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) min_healthy: &'static str,
    pub(crate) deadline: &'static str,
    pub(crate) bake: &'static str,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            min_healthy: "2s",
            deadline: "90s",
            bake: "15s",
        }
    }
}

/// The fleet's file. It settles for longer than HAProxy holds a name.
pub(crate) fn web_fleet(image: &str, count: u32, pace: Pace) -> String {
    let Pace {
        min_healthy,
        deadline,
        bake,
    } = pace;
    format!(
        r#"name = "{WEB}"
image = "{image}"
count = {count}

[replace]
surge = "100%"
min_healthy = "{min_healthy}"
healthy_deadline = "{deadline}"
progress_deadline = "{deadline}"
settle = "4s"
settle_max = "8s"
bake = "{bake}"

[drain]
timeout = "3s"

[repair]
silent_after = "5s"
"#
    )
}
