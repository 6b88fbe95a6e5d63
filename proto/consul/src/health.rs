//! Services with their checks, as clients find them (the documentation's "Health HTTP API").
//! One query for each service, not for each instance.

use serde::Deserialize;

use crate::{
    catalog::{CatalogService, Node, or_default, read},
    client::Client,
    error::Error,
    names::check_service,
    query::{Consistency, Read},
    request::{Answer, Request},
    watch::{Watch, WatchOptions, Watched},
};

const NEEDS: &str = "node_prefix \"\" { policy = \"read\" } and service:read on the service's name";
/// The check that Consul's gossip keeps for each node.
pub const SERF_HEALTH: &str = "serfHealth";
const NODE_MAINTENANCE: &str = "_node_maintenance";
const SERVICE_MAINTENANCE: &str = "_service_maintenance:";

/// The state of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// All is well.
    Passing,
    /// It works, but not well; DNS still answers with it.
    Warning,
    /// It does not work; DNS leaves it out.
    Critical,
}

/// The state of a service: the worst of its checks, and maintenance before all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServiceStatus {
    /// Every check passes, or there is none.
    Passing,
    /// One warns.
    Warning,
    /// One is critical.
    Critical,
    /// Somebody took it or its node out on purpose.
    Maintenance,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Check {
    /// Its node.
    #[serde(default)]
    pub node: String,
    /// Its id, unique on its node.
    #[serde(rename = "CheckID")]
    pub id: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its state.
    pub status: CheckStatus,
    /// What whoever registered it wrote beside it.
    #[serde(default)]
    pub notes: String,
    /// What the last run printed; Consul keeps 4 kB.
    #[serde(default)]
    pub output: String,
    /// The service that it is of; empty for a check of the whole node.
    #[serde(rename = "ServiceID", default)]
    pub service_id: String,
    /// How it is run: `http`, `tcp`, `grpc`, `ttl`; empty for `serfHealth`.
    #[serde(rename = "Type", default)]
    pub kind: String,
    /// Grows with each change.
    #[serde(default)]
    pub modify_index: u64,
}

/// One instance of a service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceHealth {
    /// Where it runs.
    pub node: Node,
    /// The service.
    pub service: CatalogService,
    /// Its checks, and those of its node.
    #[serde(deserialize_with = "or_default")]
    pub checks: Vec<Check>,
}

impl ServiceHealth {
    /// Its state, as Consul's own `AggregatedStatus` has it.
    #[must_use]
    pub fn status(&self) -> ServiceStatus {
        self.checks
            .iter()
            .map(|check| {
                let maintenance =
                    check.id == NODE_MAINTENANCE || check.id.starts_with(SERVICE_MAINTENANCE);
                match check.status {
                    _ if maintenance => ServiceStatus::Maintenance,
                    CheckStatus::Passing => ServiceStatus::Passing,
                    CheckStatus::Warning => ServiceStatus::Warning,
                    CheckStatus::Critical => ServiceStatus::Critical,
                }
            })
            .max()
            .unwrap_or(ServiceStatus::Passing)
    }

    /// What gossip says of its node; nothing where no Consul agent runs there.
    #[must_use]
    pub fn gossip(&self) -> Option<CheckStatus> {
        let serf = |check: &&Check| check.id == SERF_HEALTH && check.service_id.is_empty();
        self.checks.iter().find(serf).map(|check| check.status)
    }
}

fn request(service: &str) -> Request {
    let tried = format!("read the health of service {service}");
    // The parameter changes nothing for services that are no proxies, but it keeps Consul from
    // answering queries that wait out of its streaming view (`ServiceNodes` in
    // `agent/rpcclient/health`): that one takes no account of the consistency that was asked for, and
    // knows nothing of a leader.
    Request::get(tried, "/v1/health/service")
        .segment(service)
        .flag("merge-central-config")
}

fn decode(answer: Answer) -> Result<Vec<ServiceHealth>, Error> {
    answer.success()?.whole(NEEDS)?.json()
}

impl Client {
    /// All instances of a service, healthy or not; empty where there is none. Needs `service:read`
    /// on it and `node:read` on all nodes.
    ///
    /// # Errors
    /// Also where instances were left out, because the token may not see them: an empty answer is
    /// never given for that.
    pub async fn service_health(
        &self,
        service: &str,
        consistency: Consistency,
    ) -> Result<Read<Vec<ServiceHealth>>, Error> {
        let request = request(service).consistency(consistency);
        check_service(service).map_err(|error| Error::new(&request.tried, error))?;
        let answer = self.call(request).await?.whole(NEEDS)?;
        let value = answer.json()?;
        Ok(read(&answer, value))
    }

    /// Watches all instances of a service.
    ///
    /// # Errors
    /// Where the name is none that DNS can say.
    pub fn watch_service(
        &self,
        service: &str,
        options: WatchOptions,
    ) -> Result<Watch<Vec<ServiceHealth>>, Error> {
        let tried = format!("watch service {service}");
        check_service(service).map_err(|error| Error::new(tried, error))?;
        let what = Watched {
            request,
            name: service.to_owned(),
        };
        Ok(Watch::new(self, what, options, decode))
    }

    /// The checks of one node, its services' among them; empty where there is none. Needs
    /// `node:read` on it and `service:read` on its services.
    ///
    /// # Errors
    /// Also where checks were left out, because the token may not see them.
    pub async fn node_checks(
        &self,
        node: &str,
        consistency: Consistency,
    ) -> Result<Read<Vec<Check>>, Error> {
        let tried = format!("read the checks of node {node}");
        crate::names::check_id("node name", node).map_err(|error| Error::new(&tried, error))?;
        let request = Request::get(tried, "/v1/health/node")
            .segment(node)
            .consistency(consistency);
        let answer = self.call(request).await?.whole(NEEDS)?;
        let value = answer.json()?;
        Ok(read(&answer, value))
    }

    /// Whether gossip says that a node lives; not where there is none. Needs the same rules.
    ///
    /// # Errors
    /// As [`Self::node_checks`].
    pub async fn node_lives(&self, node: &str) -> Result<bool, Error> {
        let checks = self.node_checks(node, Consistency::Consistent).await?;
        let passes =
            |check: &Check| check.id == SERF_HEALTH && check.status == CheckStatus::Passing;
        Ok(checks.value.iter().any(passes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(checks: &str) -> ServiceHealth {
        let text = format!(
            r#"{{"Node":{{"Node":"n","Meta":null}},"Service":{{"ID":"web-1","Service":"web","Tags":null,"Meta":null,
            "Weights":{{"Passing":10,"Warning":1}},"TaggedAddresses":null}},"Checks":{checks}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_service_is_as_well_as_its_worst_check() {
        for (checks, status) in [
            ("null", ServiceStatus::Passing),
            (
                r#"[{"CheckID":"a","Status":"passing"},{"CheckID":"b","Status":"warning"}]"#,
                ServiceStatus::Warning,
            ),
            (
                r#"[{"CheckID":"a","Status":"critical"},{"CheckID":"b","Status":"warning"}]"#,
                ServiceStatus::Critical,
            ),
            (
                r#"[{"CheckID":"_node_maintenance","Status":"critical"}]"#,
                ServiceStatus::Maintenance,
            ),
            (
                r#"[{"CheckID":"_service_maintenance:web-1","Status":"critical"},{"CheckID":"b","Status":"critical"}]"#,
                ServiceStatus::Maintenance,
            ),
        ] {
            assert_eq!(instance(checks).status(), status, "{checks}");
        }
    }

    #[test]
    fn gossip_is_the_node_s_own_check() {
        let of_service = r#"[{"CheckID":"serfHealth","Status":"passing","ServiceID":"web-1"}]"#;
        assert_eq!(instance(of_service).gossip(), None);
        let of_node = r#"[{"CheckID":"serfHealth","Status":"critical","ServiceID":""}]"#;
        assert_eq!(instance(of_node).gossip(), Some(CheckStatus::Critical));
    }

    #[test]
    fn a_status_that_nobody_knows_is_not_guessed_at() {
        let text = r#"{"CheckID":"a","Status":"splendid"}"#;
        assert!(serde_json::from_str::<Check>(text).is_err());
    }
}
