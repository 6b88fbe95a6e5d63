//! The files of the demo: as an author of images and an operator of fleets would write them, with
//! times that fit into a minute.

use std::{net::SocketAddr, path::Path};

/// The demo's environment.
pub(super) const ENVIRONMENT: &str = "demo";

/// The fleet that is replaced, and the service that it serves.
pub(super) const WEB_FLEET: &str = "web";

/// The fleet of the load generator.
pub(super) const CLIENT_FLEET: &str = "client";

/// Every workload's port: each machine has an address of its own.
pub(super) const PORT: u16 = 8080;

/// Web servers that serve.
pub(super) const WEB_COUNT: u32 = 5;

/// Every version of the web server, with its fault.
pub(super) const WEB_VERSIONS: [(&str, Option<&str>); 5] = [
    ("1.0", None),
    ("2.0", None),
    ("3.0", Some("--never-healthy")),
    ("4.0", Some("--bad-when-active")),
    ("5.0", None),
];

/// `calvin.toml`. Names live for one second, the least that DNS can say.
pub(super) fn calvin_toml(home: &Path, agents: SocketAddr, network: &str) -> String {
    format!(
        r#"# The coordinator of the demo.
environment = "{ENVIRONMENT}"
data = {data:?}
report_interval = "500ms"

[agents]
listen = "{agents}"

[catalogue]
ttl = "1s"

[provider.process]
network = "{network}"
"#,
        data = home.join("data").to_string_lossy(),
    )
}

/// `image.toml` of one version of the web server.
pub(super) fn web_image(program: &Path, version: &str, fault: Option<&str>) -> String {
    let fault = fault.map_or(String::new(), |fault| format!(", {fault:?}"));
    format!(
        r#"# A web server whose page is its version.
name = "web"
version = "{version}"

[workload]
command = [{program:?}, "workload", "web", "--listen", "${{CALVIN_ADDRESS}}:{PORT}", "--version", "{version}"{fault}]
stop_timeout = "2s"

[[service]]
name = "web"
port = {PORT}

[[check]]
name = "page"
http = "/health"
port = {PORT}
interval = "250ms"
timeout = "1s"
"#,
        program = program.to_string_lossy(),
    )
}

/// `image.toml` of the load generator.
pub(super) fn client_image(program: &Path) -> String {
    format!(
        r#"# A client of the web servers that counts every request.
name = "client"
version = "1.0"

[workload]
command = [{program:?}, "workload", "load", "--service", "web", "--dns", "${{CALVIN_DNS}}", "--domain", "${{CALVIN_DOMAIN}}", "--listen", "${{CALVIN_ADDRESS}}:{PORT}"]
stop_timeout = "2s"

[[service]]
name = "client"
port = {PORT}

[[check]]
name = "counters"
http = "/health"
port = {PORT}
interval = "250ms"
timeout = "1s"
"#,
        program = program.to_string_lossy(),
    )
}

/// `web.toml`: five web servers, replaced as one set.
pub(super) fn web_fleet() -> String {
    format!(
        r#"# Five web servers. The times are short, because the demo is: see the defaults in docs/fleet.md.
name = "{WEB_FLEET}"
image = "web@1.0"
count = {WEB_COUNT}

[replace]
surge = "100%"             # the whole green set at once
min_healthy = "1s"         # every green is healthy for so long before it gets traffic
healthy_deadline = "4s"    # or it is given up
progress_deadline = "5s"
settle = "1500ms"          # blue serves on: names are cached for 1 s
settle_max = "3s"
bake = "4s"                # blue stands by, warm; a green that breaks is found well within it

[drain]
timeout = "2s"

[repair]
silent_after = "5s"
"#
    )
}

/// `client.toml`: one client.
pub(super) fn client_fleet() -> String {
    format!(
        r#"# One client of the web servers.
name = "{CLIENT_FLEET}"
image = "client@1.0"
count = 1

[replace]
min_healthy = "500ms"
healthy_deadline = "5s"
progress_deadline = "10s"
bake = "0s"
"#
    )
}

#[cfg(test)]
mod tests {
    use calvin_model::{FleetSpec, ImageManifest};

    use super::*;

    #[test]
    fn the_files_of_the_demo_are_valid() {
        let program = Path::new("/opt/calvin");
        for (version, fault) in WEB_VERSIONS {
            let text = web_image(program, version, fault);
            let manifest = ImageManifest::parse("image.toml", &text).unwrap();
            assert_eq!(manifest.tag().to_string(), format!("web@{version}"));
        }
        ImageManifest::parse("image.toml", &client_image(program)).unwrap();
        FleetSpec::parse("web.toml", &web_fleet()).unwrap();
        FleetSpec::parse("client.toml", &client_fleet()).unwrap();
    }
}
