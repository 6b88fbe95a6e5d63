//! What an `image.toml` must keep to beyond what its types say: the key that is wrong, and why.

mod consul;
mod http;

use super::{CheckSpec, ImageManifest, QUORUM_LONGEST, variables};

/// The key that is wrong, and why.
type Fault = (&'static str, String);

/// Services, checks and environment variables of one image. What an author writes by hand stays
/// far below; it bounds what one image costs every agent.
const LIST_MAX: usize = 64;

/// Longest name of a gRPC service: what Consul's own names may have.
const GRPC_SERVICE_MAX: usize = 255;

impl ImageManifest {
    pub(super) fn check(&self) -> Result<(), Fault> {
        self.check_workload()?;
        self.check_services()?;
        self.check_checks()?;
        self.check_joins()?;
        for (name, hook) in [
            ("standby", &self.hooks.standby),
            ("active", &self.hooks.active),
            ("drain", &self.hooks.drain),
            ("retire", &self.hooks.retire),
        ] {
            let Some(command) = hook else { continue };
            if command.is_empty() {
                return Err((name, format!("hook {name} has no command")));
            }
            if let Some(fault) = variables::fault(command) {
                return Err((name, format!("hook {name} {fault}")));
            }
        }
        self.check_quorum()
    }

    fn check_quorum(&self) -> Result<(), Fault> {
        let Some(quorum) = &self.quorum else {
            return Ok(());
        };
        if quorum.exec.first().is_none_or(String::is_empty) {
            return Err(("quorum", "quorum has no command: set exec".to_owned()));
        }
        if let Some(fault) = variables::fault(&quorum.exec) {
            return Err(("exec", format!("the command of quorum {fault}")));
        }
        for (key, value) in [("interval", quorum.interval), ("timeout", quorum.timeout)] {
            if value.0.is_zero() || value > QUORUM_LONGEST {
                return Err((
                    key,
                    format!("quorum: {key} {value} must be above 0 and not above {QUORUM_LONGEST}"),
                ));
            }
        }
        Ok(())
    }

    fn check_workload(&self) -> Result<(), Fault> {
        let Some(workload) = &self.workload else {
            return Ok(());
        };
        if workload.command.first().is_none_or(String::is_empty) {
            return Err(("command", "the workload's command is empty".to_owned()));
        }
        if let Some(fault) = variables::fault(&workload.command) {
            return Err(("command", format!("the workload's command {fault}")));
        }
        if workload.env.len() > LIST_MAX {
            return Err(("env", format!("more than {LIST_MAX} environment variables")));
        }
        if let Some(name) = workload.env.keys().find(|name| name.starts_with("CALVIN_")) {
            return Err((
                "env",
                format!("{name} is set by the agent and cannot be given here"),
            ));
        }
        let odd = |text: &str| text.contains('\0');
        if workload
            .env
            .iter()
            .any(|(name, value)| name.contains('=') || odd(name) || odd(value))
        {
            return Err((
                "env",
                "an environment variable holds = in its name or a zero byte".into(),
            ));
        }
        if workload.restart_min.0.is_zero() || workload.restart_min > workload.restart_max {
            return Err((
                "restart_min",
                format!(
                    "restart_min {} must be above 0 and not above restart_max {}",
                    workload.restart_min, workload.restart_max
                ),
            ));
        }
        Ok(())
    }

    fn check_services(&self) -> Result<(), Fault> {
        if self.services.len() > LIST_MAX {
            return Err(("service", format!("more than {LIST_MAX} services")));
        }
        let mut names = std::collections::BTreeSet::new();
        for service in &self.services {
            let name = &service.name;
            if !names.insert(name) {
                return Err(("service", format!("service {name} is defined twice")));
            }
            if name.as_str().ends_with("-standby") {
                return Err((
                    "service",
                    format!(
                        "service {name}: names that end in -standby are taken by standby instances"
                    ),
                ));
            }
            if service.port == 0 {
                return Err(("port", format!("service {name} has port 0")));
            }
            consul::check_service(service)?;
        }
        Ok(())
    }

    fn check_checks(&self) -> Result<(), Fault> {
        if self.checks.len() > LIST_MAX {
            return Err(("check", format!("more than {LIST_MAX} checks")));
        }
        let mut names = std::collections::BTreeSet::new();
        for check in &self.checks {
            let name = &check.name;
            if name.is_empty() || !names.insert(name) {
                return Err((
                    "check",
                    format!("check {name:?} has no name or one that is taken"),
                ));
            }
            check_check(check)?;
        }
        Ok(())
    }
}

fn check_check(check: &CheckSpec) -> Result<(), Fault> {
    let name = &check.name;
    if check.kind().is_none() {
        return Err((
            "check",
            format!(
                "check {name:?} must be exactly one of: http and port, tcp = true and port, grpc and \
                 port, exec"
            ),
        ));
    }
    if let Some(fault) = check.exec.as_deref().and_then(variables::fault) {
        return Err(("exec", format!("check {name:?} {fault}")));
    }
    if check
        .http
        .as_ref()
        .is_some_and(|path| !path.starts_with('/'))
    {
        return Err((
            "http",
            format!("check {name:?}: the path must begin with /"),
        ));
    }
    http::check(check)?;
    if let Some(service) = &check.grpc
        && !is_grpc_service(service)
    {
        return Err((
            "grpc",
            format!(
                "check {name:?}: {service:?} must be the name of a gRPC service, such as web.v1.Web: at \
                 most {GRPC_SERVICE_MAX} letters, digits, dots, - and _; or \"\" for the server as a \
                 whole"
            ),
        ));
    }
    if check.timeout.0.is_zero() || check.interval.0.is_zero() {
        return Err((
            "interval",
            format!("check {name:?}: interval and timeout must be above 0"),
        ));
    }
    Ok(())
}

/// Consul is told the service as the end of an address, and the agent asks as Consul does.
fn is_grpc_service(service: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    service.is_empty()
        || service.len() <= GRPC_SERVICE_MAX
            && service.bytes().all(plain)
            && service.bytes().any(|byte| byte != b'.')
}
