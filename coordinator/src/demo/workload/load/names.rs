//! Looks the service up as a good client does: SRV, kept for as long as its TTL says and no
//! longer, without a guess when the name server does not answer.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use hickory_resolver::{
    Resolver, TokioResolver,
    config::{NameServerConfig, ResolverConfig, ResolverOpts},
    lookup::Lookup,
    net::runtime::TokioRuntimeProvider,
    proto::rr::{RData, RecordType},
};
use tokio::sync::Mutex;

use super::counters::Counters;
use crate::demo::workload::WorkloadError;

/// Time for one try of a look-up, and tries: what resolv.conf(5) gives by default, with a shorter
/// timeout, because the name server is on the same machine.
const TRY_TIMEOUT: Duration = Duration::from_secs(2);
const TRIES: usize = 2;

/// Pause between two look-ups until the name is found for the first time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Names {
    name: String,
    resolver: TokioResolver,
    counters: Arc<Counters>,
    /// Held over a look-up, so that all clients share one.
    answer: Mutex<Answer>,
}

#[derive(Debug)]
struct Answer {
    servers: Arc<[SocketAddr]>,
    good_until: Instant,
}

impl Names {
    pub(super) fn new(
        name: &str,
        server: SocketAddr,
        counters: Arc<Counters>,
    ) -> Result<Self, WorkloadError> {
        let mut server_config = NameServerConfig::udp_and_tcp(server.ip());
        for connection in &mut server_config.connections {
            connection.port = server.port();
        }
        let config = ResolverConfig::from_name_servers(vec![server_config]);
        let mut options = ResolverOpts::default();
        options.timeout = TRY_TIMEOUT;
        options.attempts = TRIES;
        options.edns0 = true;
        // Kept here, where each look-up can be counted.
        options.cache_size = 0;
        let resolver = Resolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .map_err(|source| WorkloadError::Resolver { server, source })?;
        Ok(Self {
            name: name.to_owned(),
            resolver,
            counters,
            answer: Mutex::new(Answer {
                servers: Arc::new([]),
                good_until: Instant::now(),
            }),
        })
    }

    /// Waits until the name is found for the first time. A machine that has just started knows no
    /// names yet, and no program on it should take that for a failure.
    pub(super) async fn first(&self) {
        while self
            .resolver
            .lookup(self.name.as_str(), RecordType::SRV)
            .await
            .is_err()
        {
            tokio::time::sleep(FIRST_PAUSE).await;
        }
    }

    /// The servers that the name stands for now; the failure as a sentence.
    pub(super) async fn servers(&self) -> Result<Arc<[SocketAddr]>, String> {
        let mut answer = self.answer.lock().await;
        if Instant::now() < answer.good_until {
            return Ok(Arc::clone(&answer.servers));
        }
        self.counters.looked_up();
        let found = match self
            .resolver
            .lookup(self.name.as_str(), RecordType::SRV)
            .await
        {
            Ok(lookup) => read(&lookup),
            Err(error) => Err(format!("look-up of {}: {error}", self.name)),
        };
        match found {
            Ok((servers, time_to_live)) => {
                answer.good_until = Instant::now() + time_to_live;
                answer.servers = servers;
                Ok(Arc::clone(&answer.servers))
            }
            Err(why) => {
                self.counters.lookup_failed();
                Err(why)
            }
        }
    }
}

/// The servers in an SRV answer, with the addresses that came along (RFC 2782), and for how long
/// they are good.
fn read(lookup: &Lookup) -> Result<(Arc<[SocketAddr]>, Duration), String> {
    let addresses: BTreeMap<_, IpAddr> = lookup
        .additionals()
        .iter()
        .filter_map(|record| Some((&record.name, record.data.ip_addr()?)))
        .collect();
    let mut servers = Vec::new();
    let mut time_to_live_s = u32::MAX;
    for record in lookup.answers() {
        let RData::SRV(service) = &record.data else {
            continue;
        };
        let Some(address) = addresses.get(&service.target) else {
            return Err(format!("no address came along for {}", service.target));
        };
        servers.push(SocketAddr::new(*address, service.port));
        time_to_live_s = time_to_live_s.min(record.ttl);
    }
    if servers.is_empty() {
        return Err("the answer names no server".to_owned());
    }
    Ok((
        servers.into(),
        Duration::from_secs(u64::from(time_to_live_s)),
    ))
}
