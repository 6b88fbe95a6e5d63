//! What the Consul agent on this machine is asked: who it is, services and checks registered with
//! it, maintenance (the documentation's "Agent HTTP API").

mod registration;

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

pub use registration::{CheckKind, CheckRegistration, ServiceRegistration};

use crate::{
    catalog::{CatalogService, or_default},
    client::Client,
    error::Error,
    health::{Check, CheckStatus},
    names::{check_id, check_text},
    query::{go_duration, wait_limit},
    request::Request,
};

/// Bytes of a check's output that are sent; Consul keeps 4 kB and drops the beginning of more.
pub const OUTPUT_MAX: usize = 4096;

/// Who an agent says it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AgentSelf {
    /// The datacenter that it belongs to.
    pub datacenter: String,
    /// Its node's name.
    pub node_name: String,
    /// Its node's id.
    #[serde(rename = "NodeID", default)]
    pub node_id: String,
    /// Whether it is a server.
    #[serde(default)]
    pub server: bool,
    /// Consul's version.
    #[serde(default)]
    pub version: String,
    /// The meta of its node, as it knows it itself.
    #[serde(skip)]
    pub meta: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SelfAnswer {
    config: AgentSelf,
    #[serde(default, deserialize_with = "or_default")]
    meta: BTreeMap<String, String>,
}

/// The version of a service that the agent has; for [`Client::wait_for_local_service`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct LocalVersion {
    content_hash: String,
}

/// Out of service on purpose, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maintenance<'a> {
    /// Taken out, for a reason that people read.
    On {
        /// Why.
        reason: &'a str,
    },
    /// In service, as far as its checks say so.
    Off,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CheckUpdate<'a> {
    status: CheckStatus,
    output: &'a str,
}

impl Client {
    /// Who the agent is, its datacenter first of all. Needs `agent:read` on its node.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn agent_self(&self) -> Result<AgentSelf, Error> {
        let request = Request::get("ask the agent who it is", "/v1/agent/self");
        let SelfAnswer { config, meta } = self.call(request).await?.exactly()?;
        Ok(AgentSelf { meta, ..config })
    }

    /// Has the agent read its configuration anew: tokens, certificates, the meta of its node and
    /// what else the documentation calls reloadable. Checks keep their states. Needs `agent:write` on
    /// its node.
    ///
    /// # Errors
    /// Where the agent does not do it, or its configuration is wrong.
    pub async fn reload_agent(&self) -> Result<(), Error> {
        let request = Request::put("have the agent read its configuration", "/v1/agent/reload");
        self.call(request).await.map(drop)
    }

    /// Has the agent join gossip at another member, `HOST` or `HOST:PORT`. One that it has joined already
    /// changes nothing. Needs `agent:write` on its node.
    ///
    /// # Errors
    /// Where the agent does not answer, or the member does not answer the agent.
    pub async fn join_agent(&self, member: &str) -> Result<(), Error> {
        let tried = format!("have the agent join {member}");
        let request = Request::put(tried, "/v1/agent/join").segment(member);
        self.call(request).await.map(drop)
    }

    /// Waits until a service of this agent is another than `than`, the agent takes it out or ends, or
    /// `wait` is over; without `than` it does not wait. None where there is no such service. The
    /// agent answers it by itself: no server is asked.
    ///
    /// # Errors
    /// Where the id is none, or the agent does not answer.
    pub async fn wait_for_local_service(
        &self,
        id: &str,
        than: Option<&LocalVersion>,
        wait: Duration,
    ) -> Result<Option<LocalVersion>, Error> {
        let tried = format!("watch service {id}");
        check_id("service id", id).map_err(|error| Error::new(&tried, error))?;
        let mut request = Request::get(tried, "/v1/agent/service").segment(id);
        if let Some(than) = than {
            request = request
                .parameter("hash", &than.content_hash)
                .parameter("wait", &go_duration(wait));
            request.limit = Some(wait_limit(wait, self.limit()));
        }
        let answer = self.ask(request).await?.found()?;
        answer.map(|answer| answer.exactly()).transpose()
    }

    /// Registers a service with its checks, in place of what was registered with that id; checks
    /// that are not named are removed. A check that was there keeps its state, a new one begins with
    /// what the registration says. Needs `service:write` on its name.
    ///
    /// # Errors
    /// Where a name, tag or meta is none, or the agent does not do it.
    pub async fn register(&self, service: &ServiceRegistration) -> Result<(), Error> {
        let tried = format!("register service {}", service.id);
        service.check().map_err(|error| Error::new(&tried, error))?;
        let request = Request::put(tried, "/v1/agent/service/register")
            .flag("replace-existing-checks")
            .json(&service.wire())?;
        self.call(request).await.map(drop)
    }

    /// Removes a service and its checks from the agent and so from the catalogue. Needs
    /// `service:write` on its name. What is not there is taken for done.
    ///
    /// # Errors
    /// Where the id is none, or the agent does not do it.
    pub async fn deregister(&self, id: &str) -> Result<(), Error> {
        let tried = format!("deregister service {id}");
        check_id("service id", id).map_err(|error| Error::new(&tried, error))?;
        let request = Request::put(tried, "/v1/agent/service/deregister").segment(id);
        self.ask(request).await?.found().map(drop)
    }

    /// The services registered with this agent that the token may see, by id. Others may have
    /// registered theirs too, so that some are left out is as it should be.
    ///
    /// # Errors
    /// Where the agent does not answer.
    pub async fn local_services(&self) -> Result<BTreeMap<String, CatalogService>, Error> {
        let request = Request::get("list the agent's services", "/v1/agent/services");
        self.call(request).await?.json()
    }

    /// The checks registered with this agent that the token may see, by id.
    ///
    /// # Errors
    /// Where the agent does not answer.
    pub async fn local_checks(&self) -> Result<BTreeMap<String, Check>, Error> {
        let request = Request::get("list the agent's checks", "/v1/agent/checks");
        self.call(request).await?.json()
    }

    /// Adds a check to a service that is registered, or to the node where `service_id` is none.
    /// Needs `service:write` on the service's name, or `node:write`.
    ///
    /// # Errors
    /// Where a name is none, or the agent does not do it.
    pub async fn register_check(
        &self,
        check: &CheckRegistration,
        service_id: Option<&str>,
    ) -> Result<(), Error> {
        let tried = format!("register check {}", check.id);
        check.check().map_err(|error| Error::new(&tried, error))?;
        if let Some(id) = service_id {
            check_id("service id", id).map_err(|error| Error::new(&tried, error))?;
        }
        let request =
            Request::put(tried, "/v1/agent/check/register").json(&check.wire_alone(service_id))?;
        self.call(request).await.map(drop)
    }

    /// Removes a check. What is not there is taken for done.
    ///
    /// # Errors
    /// Where the id is none, or the agent does not do it.
    pub async fn deregister_check(&self, id: &str) -> Result<(), Error> {
        let tried = format!("deregister check {id}");
        check_id("check id", id).map_err(|error| Error::new(&tried, error))?;
        let request = Request::put(tried, "/v1/agent/check/deregister").segment(id);
        self.ask(request).await?.found().map(drop)
    }

    /// Says the state of a TTL check, which also starts its TTL again. Of `output` the last 4 kB are
    /// sent. Needs `service:write` on the check's service, or `node:write`.
    ///
    /// # Errors
    /// Where the id is none, or the agent does not do it; not found where there is no such check.
    pub async fn update_check(
        &self,
        id: &str,
        status: CheckStatus,
        output: &str,
    ) -> Result<(), Error> {
        let tried = format!("say the state of check {id}");
        check_id("check id", id).map_err(|error| Error::new(&tried, error))?;
        let output = tail(output, OUTPUT_MAX);
        let request = Request::put(tried, "/v1/agent/check/update")
            .segment(id)
            .json(&CheckUpdate { status, output })?;
        self.call(request).await.map(drop)
    }

    /// Takes a service of this agent out of service, or back. It outlives a restart of the agent.
    /// Needs `service:write` on its name.
    ///
    /// # Errors
    /// Where id or reason is none, or the agent does not do it; not found where there is no such service.
    pub async fn service_maintenance(
        &self,
        id: &str,
        maintenance: Maintenance<'_>,
    ) -> Result<(), Error> {
        let tried = format!("set the maintenance of service {id}");
        check_id("service id", id).map_err(|error| Error::new(&tried, error))?;
        let request = Request::put(tried, "/v1/agent/service/maintenance").segment(id);
        self.maintenance(request, maintenance).await
    }

    /// Takes the whole node out of service, or back. Needs `node:write` on it.
    ///
    /// # Errors
    /// Where the reason is none, or the agent does not do it.
    pub async fn node_maintenance(&self, maintenance: Maintenance<'_>) -> Result<(), Error> {
        let request = Request::put("set the maintenance of the node", "/v1/agent/maintenance");
        self.maintenance(request, maintenance).await
    }

    async fn maintenance(&self, request: Request, to: Maintenance<'_>) -> Result<(), Error> {
        let request = match to {
            Maintenance::Off => request.parameter("enable", "false"),
            Maintenance::On { reason } => {
                check_text("reason", reason).map_err(|error| Error::new(&request.tried, error))?;
                request
                    .parameter("enable", "true")
                    .parameter("reason", reason)
            }
        };
        self.call(request).await.map(drop)
    }

    /// The address of the servers' leader, as this agent's servers know it; none where there is none.
    /// Needs no rule.
    ///
    /// # Errors
    /// Where the agent does not answer, or knows no servers.
    pub async fn leader(&self) -> Result<Option<String>, Error> {
        let request = Request::get("ask who leads", "/v1/status/leader");
        let leader: String = self.call(request).await?.json()?;
        Ok(Some(leader).filter(|leader| !leader.is_empty()))
    }
}

/// The end of a text, at most so many bytes of it.
fn tail(text: &str, max: usize) -> &str {
    let mut from = text.len().saturating_sub(max);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn of_an_output_the_end_is_kept(text in "\\PC{0,60}", max in 0_usize..80) {
            let end = tail(&text, max);
            prop_assert!(text.ends_with(end) && end.len() <= max);
            prop_assert!(end.len() + 4 > max.min(text.len()));
        }
    }
}
