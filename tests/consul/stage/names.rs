//! Looks names up as a client on a machine does: with the machine's own agent.

use std::net::{IpAddr, SocketAddr};

use hickory_resolver::{
    Resolver,
    config::{NameServerConfig, ResolverConfig, ResolverOpts},
    net::runtime::TokioRuntimeProvider,
};

/// The port on which agents answer names.
const PORT: u16 = 8653;

/// The addresses of a name, in order, as the agent on the machine with this address says; nothing where
/// it has none.
pub(crate) async fn addresses(machine: IpAddr, name: &str) -> Vec<IpAddr> {
    ask(SocketAddr::new(machine, PORT), name).await
}

/// The same of any name server.
pub(crate) async fn ask(server: SocketAddr, name: &str) -> Vec<IpAddr> {
    let mut config = NameServerConfig::udp_and_tcp(server.ip());
    for connection in &mut config.connections {
        connection.port = server.port();
    }
    let mut options = ResolverOpts::default();
    options.cache_size = 0;
    let resolver = Resolver::builder_with_config(
        ResolverConfig::from_name_servers(vec![config]),
        TokioRuntimeProvider::default(),
    )
    .with_options(options)
    .build()
    .unwrap();
    // A name without addresses is an error to it.
    let found = resolver.lookup_ip(format!("{name}.")).await;
    let mut found: Vec<IpAddr> = found
        .map(|found| found.iter().collect())
        .unwrap_or_default();
    found.sort();
    found
}
