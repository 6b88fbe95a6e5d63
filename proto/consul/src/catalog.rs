//! What Consul's servers know: nodes, services, and taking entries out
//! (the documentation's "Catalog HTTP API").

use std::collections::BTreeMap;

use rs_consul::{DeregisterEntityPayload, QueryOptions};
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    client::Client,
    error::Error,
    names::check_id,
    query::{Consistency, Read},
    request::{Answer, Request},
    watch::{Watch, WatchOptions, Watched},
};

const NODES_NEED: &str = "node_prefix \"\" { policy = \"read\" }";
const SERVICES_NEED: &str =
    "node_prefix \"\" { policy = \"read\" } and service_prefix \"\" { policy = \"read\" }";

/// A node: one Consul agent, and what runs beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Node {
    /// The id that its Consul agent made; empty for nodes registered by hand.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name.
    #[serde(rename = "Node")]
    pub name: String,
    /// Its address.
    pub address: String,
    /// The datacenter.
    pub datacenter: String,
    /// Meta of the node.
    #[serde(deserialize_with = "or_default")]
    pub meta: BTreeMap<String, String>,
    /// Grows with each change of the node itself.
    pub modify_index: u64,
}

/// Weights of a service in DNS SRV answers, by its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Weights {
    /// While all its checks pass; 0 to 65535.
    pub passing: u32,
    /// While one warns; 0 to 65535.
    pub warning: u32,
}

impl Default for Weights {
    /// Consul's own.
    fn default() -> Self {
        Self {
            passing: 1,
            warning: 1,
        }
    }
}

/// An address of a service for others than those on its network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TaggedAddress {
    /// Address or name.
    pub address: String,
    /// Port.
    pub port: u16,
}

/// A service as the catalogue has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CatalogService {
    /// Unique on its node.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name.
    pub service: String,
    /// Empty for an ordinary service; proxies and gateways say what they are.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its tags.
    #[serde(deserialize_with = "or_default")]
    pub tags: Vec<String>,
    /// Its address; empty where it is the node's.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// Its meta.
    #[serde(deserialize_with = "or_default")]
    pub meta: BTreeMap<String, String>,
    /// Addresses for others.
    #[serde(deserialize_with = "or_default")]
    pub tagged_addresses: BTreeMap<String, TaggedAddress>,
    /// Weights in DNS.
    pub weights: Weights,
    /// Whether tags changed in the catalogue hold against the agent that registered it.
    pub enable_tag_override: bool,
    /// Grows with each change.
    pub modify_index: u64,
}

/// A node with its services.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NodeServices {
    /// The node.
    pub node: Option<Node>,
    /// What it runs.
    #[serde(deserialize_with = "or_default")]
    pub services: Vec<CatalogService>,
}

/// `null` is what Go makes of an empty list or map.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

pub(crate) fn read<T>(answer: &Answer, value: T) -> Read<T> {
    Read {
        value,
        index: answer.index.unwrap_or(0),
        known_leader: answer.known_leader.unwrap_or(false),
        last_contact: answer.last_contact.unwrap_or_default(),
    }
}

fn nodes_request(_: &str) -> Request {
    Request::get("list the nodes", "/v1/catalog/nodes")
}

fn decode_nodes(answer: Answer) -> Result<Vec<Node>, Error> {
    answer.success()?.whole(NODES_NEED)?.json()
}

impl Client {
    /// All nodes of the datacenter. Needs `node:read` on all.
    ///
    /// # Errors
    /// Also where nodes were left out, because the token may not see them.
    pub async fn nodes(&self, consistency: Consistency) -> Result<Read<Vec<Node>>, Error> {
        let answer = self
            .call(nodes_request("").consistency(consistency))
            .await?;
        let answer = answer.whole(NODES_NEED)?;
        let nodes = answer.json()?;
        Ok(read(&answer, nodes))
    }

    /// Watches all nodes of the datacenter.
    #[must_use]
    pub fn watch_nodes(&self, options: WatchOptions) -> Watch<Vec<Node>> {
        let what = Watched {
            request: nodes_request,
            name: String::new(),
        };
        Watch::new(self, what, options, decode_nodes)
    }

    /// A node and all its services; none where there is no such node. Needs `node:read` on it and
    /// `service:read` on all that it runs.
    ///
    /// # Errors
    /// Also where something was left out, because the token may not see it.
    pub async fn node_services(
        &self,
        node: &str,
        consistency: Consistency,
    ) -> Result<Read<Option<(Node, Vec<CatalogService>)>>, Error> {
        let tried = format!("list the services of node {node}");
        check_id("node name", node).map_err(|error| Error::new(&tried, error))?;
        let request = Request::get(tried, "/v1/catalog/node-services")
            .segment(node)
            .consistency(consistency);
        let answer = self.call(request).await?.whole(SERVICES_NEED)?;
        let found: NodeServices = answer.json()?;
        let value = found.node.map(|node| (node, found.services));
        Ok(read(&answer, value))
    }

    /// The names of all services of the datacenter, sorted. Those that the token may not see are
    /// missing: it is for people to look at, not to decide on.
    ///
    /// # Errors
    /// Where Consul does not answer.
    pub async fn service_names(&self) -> Result<Vec<String>, Error> {
        let options = QueryOptions {
            timeout: Some(self.limit()),
            ..QueryOptions::default()
        };
        let names = self
            .given("list the names of services".to_owned(), async |given| {
                given.get_all_registered_service_names(Some(options)).await
            })
            .await?;
        let mut names = names.response;
        names.sort();
        Ok(names)
    }

    /// Takes one service with its checks out of the catalogue. If the Consul agent of its node still
    /// lives, it puts it back: this is for ghosts. Where the entry may have been made anew meanwhile,
    /// use [`Op::ServiceDeleteCas`](crate::txn::Op) instead. Needs `service:write` on its name or
    /// `node:write`. What is not there is taken for done.
    ///
    /// # Errors
    /// Where a name is none, or Consul does not do it.
    pub async fn deregister_ghost_service(&self, node: &str, id: &str) -> Result<(), Error> {
        let tried = format!("take service {id} of node {node} out of the catalogue");
        // Without the id Consul takes the whole node out.
        check_id("node name", node).map_err(|error| Error::new(&tried, error))?;
        check_id("service id", id).map_err(|error| Error::new(&tried, error))?;
        self.take_out(tried, node, Some(id)).await
    }

    /// Takes a node with all its services out of the catalogue. If its Consul agent still lives, it
    /// puts it back; gossip that remembers it as failed does not (`HandleFailedMember` of Consul's
    /// servers). Needs `node:write` on it. What is not there is taken for done.
    ///
    /// # Errors
    /// Where the name is none, or Consul does not do it.
    pub async fn deregister_ghost_node(&self, node: &str) -> Result<(), Error> {
        let tried = format!("take node {node} out of the catalogue");
        check_id("node name", node).map_err(|error| Error::new(&tried, error))?;
        self.take_out(tried, node, None).await
    }

    async fn take_out(&self, tried: String, node: &str, id: Option<&str>) -> Result<(), Error> {
        let payload = DeregisterEntityPayload {
            Node: Some(node.to_owned()),
            Datacenter: None,
            CheckID: None,
            ServiceID: id.map(str::to_owned),
            Namespace: None,
        };
        self.given(tried, async |given| given.deregister_entity(&payload).await)
            .await
    }
}
