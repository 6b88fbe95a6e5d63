//! A coordinator for tests: the real wire, the real TLS, and a CA of its own, in this process.
//! What it answers is scripted by the test.

mod ca;
mod coordinator;

use std::{net::SocketAddr, path::Path, sync::Arc};

use calvin_model::Provision;

pub(crate) use ca::{Ca, Validity};
pub(crate) use coordinator::{Coordinator, Reply, wanted, welcome};

pub(crate) const ENVIRONMENT: &str = "build";
pub(crate) const FLEET: &str = "web";
pub(crate) const INSTANCE: &str = "web-abcdefgh";

/// The content of `provision.toml` for a machine whose coordinator listens on `coordinator`.
pub(crate) fn provision_toml(ca: &Ca, coordinator: SocketAddr) -> String {
    format!(
        "environment = \"{ENVIRONMENT}\"\ninstance = \"{INSTANCE}\"\nfleet = \"{FLEET}\"\n\
         coordinators = [\"{coordinator}\"]\ndomain = \"build.example\"\naddress = \
         \"127.0.0.1\"\ndns = \"127.0.0.1:0\"\njoin_token = \"token\"\nca_pem = \
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
