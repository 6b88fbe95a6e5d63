//! A coordinator for tests: the real wire, the real TLS, and a CA of its own, in this process.
//! What it answers is scripted by the test.

// By their paths, because tests of the whole program take this file in by its path.
#[path = "testing/ca.rs"]
mod ca;
#[path = "testing/coordinator.rs"]
mod coordinator;

use std::{net::SocketAddr, path::Path, sync::Arc};

use calvin_model::Provision;

pub(crate) use ca::{Ca, Validity};
#[allow(unused_imports, reason = "each test takes what it needs")]
pub(crate) use coordinator::{Coordinator, Line, Reply, wanted, welcome, wire_epoch};

pub(crate) const ENVIRONMENT: &str = "build";
pub(crate) const FLEET: &str = "web";
pub(crate) const INSTANCE: &str = "web-abcdefgh";

/// The content of `provision.toml` for a machine whose coordinator listens on `coordinator`.
pub(crate) fn provision_toml(ca: &Ca, coordinator: SocketAddr) -> String {
    machine_toml(ca, coordinator, "127.0.0.1", 0)
}

/// The same, for a machine with an address of its own.
pub(crate) fn machine_toml(
    ca: &Ca,
    coordinator: SocketAddr,
    address: &str,
    dns_port: u16,
) -> String {
    format!(
        "environment = \"{ENVIRONMENT}\"\ninstance = \"{INSTANCE}\"\nfleet = \"{FLEET}\"\n\
         coordinators = [\"{coordinator}\"]\ndomain = \"build.example\"\naddress = \
         \"{address}\"\ndns = \"{address}:{dns_port}\"\njoin_token = \"token\"\nca_pem = \
         '''\n{}'''\n[image]\ntag = \"web@1.0\"\ndigest = \"sha256:{}\"\n",
        ca.pem(),
        "01".repeat(32)
    )
}

/// A machine whose coordinator listens on `coordinator`.
pub(crate) fn provision(ca: &Ca, coordinator: SocketAddr) -> Arc<Provision> {
    let text = provision_toml(ca, coordinator);
    Arc::new(Provision::parse("provision.toml", &text).unwrap())
}

/// A machine's directory with its two files.
pub(crate) fn machine(root: &Path, ca: &Ca, coordinator: SocketAddr, image: &str) {
    std::fs::create_dir_all(root.join("image")).unwrap();
    std::fs::create_dir_all(root.join("run")).unwrap();
    std::fs::write(root.join("provision.toml"), provision_toml(ca, coordinator)).unwrap();
    std::fs::write(root.join("image/image.toml"), image).unwrap();
}
