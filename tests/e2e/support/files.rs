//! The files that tests write: images of our own workloads, and fleets with times that suit a test.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Every workload listens here, on the address of its instance.
pub(crate) const PORT: u16 = 8080;

/// How often things happen that happen by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// For tests, which wait for them.
    Quick,
    /// As in an environment of somebody who changed no default.
    #[allow(
        dead_code,
        reason = "benches measure at this pace; tests do not wait for it"
    )]
    Usual,
}

impl Pace {
    /// A line of `image.toml`'s check.
    fn interval(self) -> &'static str {
        match self {
            Self::Quick => "interval = \"250ms\"",
            Self::Usual => "",
        }
    }

    /// A line of `calvin.toml`.
    pub(crate) fn report_interval(self) -> &'static str {
        match self {
            Self::Quick => "report_interval = \"500ms\"",
            Self::Usual => "",
        }
    }
}

/// What an image of ours says beside its command, its one service and its one check.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Says<'a> {
    /// More lines of the service.
    pub(crate) service: &'a str,
    /// More lines of the check.
    pub(crate) check: &'a str,
    /// More tables.
    pub(crate) tables: &'a str,
}

impl Says<'static> {
    /// Nothing but how often it is checked.
    pub(crate) fn at(pace: Pace) -> Self {
        Self {
            check: pace.interval(),
            ..Self::default()
        }
    }
}

/// Writes the image of a web server with a fault, as its arguments; the directory.
pub(crate) fn web_image(
    calvin: &Path,
    home: &Path,
    version: &str,
    fault: &[&str],
    says: Says<'_>,
) -> PathBuf {
    let mut command = vec![
        calvin.to_string_lossy().into_owned(),
        "workload".to_owned(),
        "web".to_owned(),
        "--listen".to_owned(),
        format!("${{CALVIN_ADDRESS}}:{PORT}"),
        "--version".to_owned(),
        version.to_owned(),
    ];
    command.extend(fault.iter().map(|&argument| argument.to_owned()));
    image(home, "web", version, &command, says)
}

/// How often a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// 400 times a second.
    Busy,
    /// 40 times a second, so that several environments run beside each other.
    #[allow(dead_code, reason = "only one suite has several")]
    Calm,
}

impl Traffic {
    fn pause(self) -> &'static str {
        match self {
            Self::Busy => "20ms",
            Self::Calm => "200ms",
        }
    }
}

/// Writes the image of the load generator; the directory.
pub(crate) fn client_image(calvin: &Path, home: &Path, service: &str, traffic: Traffic) -> PathBuf {
    let command = [
        calvin.to_str().expect("the program's path is text"),
        "workload",
        "load",
        "--service",
        service,
        "--dns",
        "${CALVIN_DNS}",
        "--domain",
        "${CALVIN_DOMAIN}",
        "--listen",
        &format!("${{CALVIN_ADDRESS}}:{PORT}"),
        "--pause",
        traffic.pause(),
    ]
    .map(str::to_owned);
    image(home, "client", "1.0", &command, Says::at(Pace::Quick))
}

/// Writes an image with one service of its own name and one check; the directory.
fn image(home: &Path, name: &str, version: &str, command: &[String], says: Says<'_>) -> PathBuf {
    let Says {
        service,
        check,
        tables,
    } = says;
    let text = format!(
        r#"name = "{name}"
version = "{version}"

[workload]
command = {command:?}
stop_timeout = "2s"

[[service]]
name = "{name}"
port = {PORT}
{service}

[[check]]
name = "page"
http = "/health"
port = {PORT}
timeout = "1s"
{check}

{tables}"#,
    );
    custom_image(home, name, version, &text)
}

/// Writes an image as it is; the directory.
pub(crate) fn custom_image(home: &Path, name: &str, version: &str, text: &str) -> PathBuf {
    let folder = home.join(format!("images/{name}-{version}"));
    fs::create_dir_all(&folder).expect("a folder can be made");
    fs::write(folder.join("image.toml"), text).expect("a file can be written");
    folder
}

/// A fleet whose rollouts take seconds.
#[derive(Debug, Clone)]
pub(crate) struct Fleet {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) count: u32,
    pub(crate) surge: String,
    pub(crate) min_healthy: &'static str,
    pub(crate) healthy_deadline: &'static str,
    pub(crate) settle: &'static str,
    pub(crate) settle_max: &'static str,
    pub(crate) bake: &'static str,
    pub(crate) drain: &'static str,
    pub(crate) silent_after: &'static str,
    pub(crate) unmanaged_after: &'static str,
}

impl Fleet {
    pub(crate) fn new(name: &str, image: &str, count: u32) -> Self {
        Self {
            name: name.to_owned(),
            image: image.to_owned(),
            count,
            surge: "100%".to_owned(),
            min_healthy: "500ms",
            healthy_deadline: "8s",
            settle: "1500ms",
            settle_max: "3s",
            bake: "2s",
            drain: "2s",
            silent_after: "5s",
            unmanaged_after: "15m",
        }
    }

    pub(crate) fn toml(&self) -> String {
        let Self {
            name,
            image,
            count,
            surge,
            min_healthy,
            healthy_deadline,
            settle,
            settle_max,
            bake,
            drain,
            silent_after,
            unmanaged_after,
        } = self;
        format!(
            r#"name = "{name}"
image = "{image}"
count = {count}

[replace]
surge = "{surge}"
min_healthy = "{min_healthy}"
healthy_deadline = "{healthy_deadline}"
progress_deadline = "{healthy_deadline}"
settle = "{settle}"
settle_max = "{settle_max}"
bake = "{bake}"

[drain]
timeout = "{drain}"

[repair]
silent_after = "{silent_after}"
unmanaged_after = "{unmanaged_after}"
"#
        )
    }
}
