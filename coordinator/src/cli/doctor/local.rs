//! The checks that need no coordinator's opinion: files of this user, clock and version.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use calvin_proto::wire::AboutReply;

use super::super::{
    certificate, contexts::Home, render::time::span, setting::Setting, target::Target,
    view::CheckView,
};
use crate::runtime::wall_ms_now;

/// Clocks that differ by more than this make certificates and histories confusing. NTP keeps them
/// within a tenth of a second.
const CLOCK_DIFFERENCE_MAX_MS: u64 = 5_000;

/// A certificate is called for renewal when less than this is left of it: a working week.
const EXPIRY_WARNING_MS: u64 = 7 * 86_400_000;

/// The checks of files: contexts, key, certificate.
pub(super) fn files(setting: &Setting) -> Vec<CheckView> {
    let mut checks = Vec::new();
    if let Some(home) = Home::find() {
        let file = home.file();
        if file.exists() {
            checks.push(private("contexts file", &file));
        }
    }
    match setting.target() {
        Ok(Target::Socket(path)) => checks.push(socket(&path)),
        Ok(Target::Tls(tls)) => {
            checks.push(private("private key", &tls.key));
            checks.push(expiry(&tls.certificate, wall_ms_now()));
        }
        Err(failure) => checks.push(bad(
            "context",
            failure.to_string(),
            "calvin context list shows which there are",
        )),
    }
    checks
}

/// The checks of what the coordinator says of itself.
pub(super) fn about(setting: &Setting, about: &AboutReply) -> Vec<CheckView> {
    let place = setting
        .target()
        .map_or_else(|_| String::new(), |target| target.words());
    let reached = format!(
        "{place} answers for {}, to {} as {}",
        about.environment, about.caller, about.role
    );
    vec![
        good("coordinator", reached),
        version(&about.version, env!("CARGO_PKG_VERSION")),
        clock(wall_ms_now(), about.wall_ms),
    ]
}

fn private(name: &str, path: &Path) -> CheckView {
    match fs::metadata(path) {
        Err(error) => bad(
            name,
            format!("{}: {error}", path.display()),
            "add the context again with calvin context add --replace",
        ),
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & 0o777;
            if mode & 0o077 == 0 {
                good(name, format!("{} is private ({mode:o})", path.display()))
            } else {
                let advice = format!("chmod 600 {}", path.display());
                bad(
                    name,
                    format!("{} can be read by others ({mode:o})", path.display()),
                    &advice,
                )
            }
        }
    }
}

fn socket(path: &Path) -> CheckView {
    match fs::metadata(path) {
        Ok(_) => good("socket", format!("{} exists", path.display())),
        Err(error) => bad(
            "socket",
            format!("{}: {error}", path.display()),
            "start the coordinator here with calvin serve, or name another with --socket or --context",
        ),
    }
}

fn expiry(path: &Path, now_ms: u64) -> CheckView {
    let advice = "ask an admin for a new one: calvin operator add";
    let shown = path.display();
    match certificate::ends(path) {
        None => bad(
            "certificate",
            format!("{shown} holds no certificate"),
            advice,
        ),
        Some(end) if end <= now_ms => bad(
            "certificate",
            format!("{shown} ended {} ago", span(now_ms - end)),
            advice,
        ),
        Some(end) if end - now_ms < EXPIRY_WARNING_MS => bad(
            "certificate",
            format!("{shown} ends in {}", span(end - now_ms)),
            advice,
        ),
        Some(end) => good(
            "certificate",
            format!("{shown} is good for {}", span(end - now_ms)),
        ),
    }
}

fn clock(here_ms: u64, there_ms: u64) -> CheckView {
    let difference = here_ms.abs_diff(there_ms);
    let found = format!("{} apart from the coordinator's", span(difference));
    if difference <= CLOCK_DIFFERENCE_MAX_MS {
        good("clock", found)
    } else {
        bad("clock", found, "set both clocks, and keep them with NTP")
    }
}

fn version(there: &str, here: &str) -> CheckView {
    if there == here {
        good("version", format!("{here} on both sides"))
    } else {
        let advice = "use a calvin of the coordinator's version";
        bad(
            "version",
            format!("{here} here, {there} at the coordinator"),
            advice,
        )
    }
}

fn good(name: &str, found: String) -> CheckView {
    CheckView {
        side: "here".to_owned(),
        name: name.to_owned(),
        ok: true,
        found,
        advice: None,
    }
}

/// A check that found something wrong.
pub(super) fn bad(name: &str, found: String, advice: &str) -> CheckView {
    CheckView {
        ok: false,
        advice: Some(advice.to_owned()),
        ..good(name, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_differ_by_five_seconds() {
        assert!(clock(10_000, 15_000).ok && clock(15_000, 10_000).ok);
        assert!(!clock(10_000, 15_001).ok);
    }

    #[test]
    fn a_key_that_others_can_read_is_shown_with_the_command_that_mends_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let check = private("private key", &path);
        assert!(
            !check.ok
                && check
                    .advice
                    .is_some_and(|advice| advice.starts_with("chmod 600"))
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(private("private key", &path).ok);
    }

    #[test]
    fn a_certificate_is_called_for_renewal_a_week_before_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("certificate.pem");
        let made = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
        fs::write(&path, made.cert.pem()).unwrap();
        let end = certificate::ends(&path).unwrap();
        assert!(expiry(&path, end - EXPIRY_WARNING_MS).ok);
        assert!(!expiry(&path, end - EXPIRY_WARNING_MS + 1).ok);
        assert!(expiry(&path, end).found.contains("ended"));
    }
}
