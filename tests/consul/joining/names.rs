//! What the agent of a machine answers for names of its environment.

use std::{net::SocketAddr, process::Command};

use super::machine::Machine;
use crate::support::until;

/// Asks with `dig`, as a person does.
pub(super) fn dig(dns: SocketAddr, more: &[&str]) -> Vec<String> {
    let output = Command::new("dig")
        .arg(format!("@{}", dns.ip()))
        .args([
            "-p",
            &dns.port().to_string(),
            "+short",
            "+time=3",
            "+tries=1",
        ])
        .args(more)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// How a server answers for a name: `NOERROR`, or why not.
pub(super) fn status(dns: SocketAddr, name: &str) -> String {
    let found = dig(dns, &["+noshort", "+noall", "+comments", name, "A"]);
    let mut words = found.iter().flat_map(|line| line.split([' ', ',']));
    words.find(|word| *word == "status:");
    words.next().unwrap_or_default().to_owned()
}

/// The addresses of a name.
pub(super) async fn look_up(machine: &Machine, name: &str) -> Vec<String> {
    let (machine, name) = (machine, name.to_owned());
    dig(machine.dns(), &[&name, "A"])
}

/// Waits until a name has the machine's address.
pub(super) async fn find(machine: &Machine, name: &str) {
    until(name, async || {
        let found = look_up(machine, name).await;
        if found == [machine.address()] {
            Ok(())
        } else {
            Err(found)
        }
    })
    .await;
}

/// Whether an active instance is found under its names, over UDP and TCP.
pub(super) async fn are_answered(machine: &Machine) {
    for name in [
        "web.service.build.example.",
        "active.web.service.build.example.",
        "web-abcdefgh.node.build.example.",
    ] {
        find(machine, name).await;
        assert_eq!(
            dig(machine.dns(), &["+tcp", name, "A"]),
            [machine.address()]
        );
    }
    let name = "_web._active.service.build.example.";
    for transport in ["+notcp", "+tcp"] {
        let found = dig(machine.dns(), &[transport, name, "SRV"]);
        assert_eq!(found.len(), 1, "{transport}");
        assert!(found[0].starts_with("1 1 8080 "), "{found:?}");
        let target = found[0].rsplit(' ').next().unwrap();
        assert_eq!(look_up(machine, target).await, [machine.address()]);
    }
    assert!(
        look_up(machine, "web-standby.service.build.example.")
            .await
            .is_empty()
    );
}
