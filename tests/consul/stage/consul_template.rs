//! consul-template as people run it: it writes HAProxy's configuration from Consul's catalogue, and has
//! it read when it changed.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{
    haproxy::{Haproxy, Route, SERVED_BY, common},
    program::Program,
};
use crate::support::{certificates::Authority, until};

/// How it reaches Consul.
pub(crate) struct Access<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) token: &'a str,
    pub(crate) authority: &'a Authority,
}

/// The program that `tests/run` built.
fn program() -> PathBuf {
    let named = std::env::var_os("CALVIN_TEST_CONSUL_TEMPLATE").map(PathBuf::from);
    named.expect("CALVIN_TEST_CONSUL_TEMPLATE names no consul-template: run `tests/run consul`, or set it to what `tests/servers/build consul-template` prints")
}

/// The template: who is active and passes its checks. HAProxy's own checks find the dead sooner.
fn template(directory: &Path, service: &str, route: &Route) -> String {
    format!(
        "{}frontend f0\n  bind {}\n  http-response set-header {SERVED_BY} %si:%sp\n  \
           default_backend b0\nbackend b0\n  balance roundrobin\n\
         {{{{ range service \"active.{service}\" }}}}  \
           server {{{{ .Node }}}} {{{{ .Address }}}}:{{{{ .Port }}}} check inter 1s\n{{{{ end }}}}",
        common(directory),
        route.listen
    )
}

/// What is done with what was written. Where Consul says that nobody is active, it has lost its
/// catalogue for a moment: who was found before stays. A command that fails would end consul-template.
pub(crate) const TAKE: &str = "#!/bin/sh\n\
    grep -q '^  server ' candidate.cfg || exit 0\n\
    /usr/sbin/haproxy -c -q -f candidate.cfg || exit 0\n\
    cp candidate.cfg haproxy.cfg\n\
    [ ! -f haproxy.pid ] || kill -USR2 \"$(cat haproxy.pid)\" || true\n";

/// Its own configuration. With a number of attempts it would give up after a minute without Consul,
/// and end.
fn configuration(directory: &Path, access: &Access<'_>) -> String {
    let at = |file: &str| directory.join(file).display().to_string();
    format!(
        "consul {{\n  address = {address:?}\n  token = {token:?}\n  \
           retry {{\n    attempts = 0\n    backoff = \"250ms\"\n    max_backoff = \"2s\"\n  }}\n  \
           ssl {{\n    enabled = true\n    verify = true\n    ca_cert = {ca:?}\n    cert = {cert:?}\n    key = {key:?}\n  }}\n}}\n\
         template {{\n  source = {source:?}\n  destination = {to:?}\n  command = [\"sh\", {take:?}]\n}}\n",
        address = access.address.to_string(),
        token = access.token,
        ca = at("ca.pem"),
        cert = at("certificate.pem"),
        key = at("key.pem"),
        source = at("haproxy.ctmpl"),
        to = at("candidate.cfg"),
        take = at("take.sh"),
    )
}

/// HAProxy with a configuration that consul-template keeps.
pub(crate) struct Templated {
    pub(crate) haproxy: Haproxy,
    pub(crate) template: Program,
    directory: PathBuf,
}

impl Templated {
    /// Writes the configuration once, starts HAProxy with it, and keeps it from then on.
    pub(crate) async fn start(
        directory: &Path,
        access: &Access<'_>,
        service: &str,
        route: &Route,
    ) -> Self {
        let identity = access.authority.issue(&["consul-template"], None);
        for (file, text) in [
            ("ca.pem", &*access.authority.pem),
            ("certificate.pem", &identity.certificate_pem),
            ("key.pem", &identity.key_pem),
            ("haproxy.ctmpl", &template(directory, service, route)),
            ("take.sh", TAKE),
            ("template.hcl", &configuration(directory, access)),
        ] {
            fs::write(directory.join(file), text).unwrap();
        }
        let arguments = ["-config", "template.hcl", "-once"];
        let mut once = Program::start(directory, "once", &program(), &arguments);
        until("the first configuration", async || {
            once.ended().ok_or_else(|| once.log())
        })
        .await;
        let haproxy = Haproxy::start(directory).await;
        let arguments = &arguments[..2];
        let template = Program::start(directory, "consul-template", &program(), arguments);
        Self {
            haproxy,
            template,
            directory: directory.to_owned(),
        }
    }

    /// The addresses in the configuration that HAProxy was given last, in order.
    pub(crate) fn written(&self) -> Vec<String> {
        let text = fs::read_to_string(self.directory.join("haproxy.cfg")).unwrap_or_default();
        let mut found: Vec<String> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("server "))
            .filter_map(|rest| rest.split(' ').nth(1).map(str::to_owned))
            .collect();
        found.sort();
        found
    }
}
