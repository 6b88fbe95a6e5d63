//! What is left in the catalogue of instances that are gone. Pure.
//!
//! Who has no record here is gone when he had one in this run, or when gossip does not say that his
//! machine lives: what lives and has no record may be a machine that a person has to look at, or the
//! record is what is missing.

use std::collections::BTreeSet;

use calvin_consul::{catalog::Node, registered};
use calvin_model::{CatalogueRole, InstanceId};

use super::{
    books::Books,
    decide::Leftover,
    ever::Ever,
    owners::{Ours, Owners, instance_of},
};

/// Who there is and was.
#[derive(Debug, Clone, Copy)]
pub(super) struct People<'a> {
    pub(super) owners: &'a Owners,
    /// On record now.
    pub(super) known: &'a BTreeSet<InstanceId>,
    /// Ever on record in this run.
    pub(super) ever: &'a Ever,
}

impl People<'_> {
    fn is_gone(&self, one: &Ours<'_>) -> bool {
        !self.known.contains(&one.instance) && (self.ever.contains(&one.instance) || !one.lives())
    }

    /// Every instance with an entry that the engine may judge: those on record, and those that are gone.
    pub(super) fn listed(
        &self,
        books: &Books,
        asked: &BTreeSet<InstanceId>,
    ) -> Vec<(InstanceId, CatalogueRole)> {
        let ours = self.owners.ours(books);
        let judged = ours.filter(|one| {
            // What is asked for already need not be asked for again.
            self.known.contains(&one.instance)
                || (self.is_gone(one) && !asked.contains(&one.instance))
        });
        let mut listed: Vec<_> = judged
            .map(|one| {
                let mut tags = one.entry.service.tags.iter();
                let role = if tags.any(|tag| tag == registered::ACTIVE) {
                    CatalogueRole::Active
                } else {
                    CatalogueRole::Standby
                };
                (one.instance, role)
            })
            .collect();
        listed.sort();
        // Of one that has several the highest is the last.
        listed.reverse();
        listed.dedup_by(|one, kept| one.0 == kept.0);
        listed.reverse();
        listed
    }

    /// The entries of those that the engine asked to be removed.
    pub(super) fn entries(&self, books: &Books, asked: &BTreeSet<InstanceId>) -> Vec<Leftover> {
        let ours = self.owners.ours(books);
        let gone = ours.filter(|one| asked.contains(&one.instance) && self.is_gone(one));
        gone.map(|one| Leftover::of(one.entry)).collect()
    }

    /// Nodes of instances without a record, with the instance: by their meta, or by a name that was one
    /// of ours in this run.
    pub(super) fn nodes<'n>(&self, nodes: &'n [Node]) -> Vec<(&'n Node, InstanceId)> {
        let of = |node: &Node| {
            let by_meta = instance_of(self.owners.environment(), &node.meta);
            let by_name = || {
                let id: InstanceId = node.name.parse().ok()?;
                self.ever.contains(&id).then_some(id)
            };
            by_meta
                .filter(|id| id.as_str() == node.name)
                .or_else(by_name)
        };
        let found = nodes.iter().filter_map(|node| Some((node, of(node)?)));
        found.filter(|(_, id)| !self.known.contains(id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use calvin_consul::{
        Advance,
        catalog::CatalogService,
        health::{Check, CheckStatus, SERF_HEALTH, ServiceHealth},
    };
    use tokio::time::Instant;

    use super::*;

    fn meta(environment: &str, instance: &str) -> BTreeMap<String, String> {
        let pairs = [
            (registered::ENVIRONMENT, environment),
            (registered::FLEET, "web"),
            (registered::INSTANCE, instance),
        ];
        let pair = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        pairs.map(pair).into()
    }

    fn entry(environment: &str, instance: &str, gossip: CheckStatus) -> ServiceHealth {
        ServiceHealth {
            node: Node {
                name: instance.to_owned(),
                ..Node::default()
            },
            service: CatalogService {
                id: format!("web:{instance}"),
                service: "web".to_owned(),
                meta: meta(environment, instance),
                enable_tag_override: true,
                modify_index: 3,
                ..CatalogService::default()
            },
            checks: vec![Check {
                node: instance.to_owned(),
                id: SERF_HEALTH.to_owned(),
                name: String::new(),
                status: gossip,
                notes: String::new(),
                output: String::new(),
                service_id: String::new(),
                kind: String::new(),
                modify_index: 1,
            }],
        }
    }

    fn ids(of: &[&str]) -> BTreeSet<InstanceId> {
        of.iter().map(|id| id.parse().unwrap()).collect()
    }

    fn ever(of: &[&str]) -> Ever {
        let mut ever = Ever::default();
        for instance in ids(of) {
            ever.see(&instance, &"web".parse().unwrap(), Instant::now());
        }
        ever
    }

    #[test]
    fn only_what_is_gone_and_ours_is_a_ghost() {
        let (passing, critical) = (CheckStatus::Passing, CheckStatus::Critical);
        let mut books = Books::default();
        let entries = vec![
            entry("prod", "web-here", critical),
            entry("prod", "web-was", passing),
            entry("prod", "web-dead", critical),
            entry("prod", "web-alive", passing),
            entry("test", "web-other", critical),
        ];
        books.take("web", Advance::First, entries);
        let (known, ever) = (ids(&["web-here"]), ever(&["web-here", "web-was"]));
        let owners = Owners::new("prod".parse().unwrap());
        let people = People {
            owners: &owners,
            known: &known,
            ever: &ever,
        };
        let listed = |asked: &[&str]| -> Vec<String> {
            let listed = people.listed(&books, &ids(asked));
            listed.into_iter().map(|(id, _)| id.to_string()).collect()
        };
        assert_eq!(listed(&[]), ["web-dead", "web-here", "web-was"]);
        assert_eq!(listed(&["web-was"]), ["web-dead", "web-here"]);
        let asked = ids(&["web-here", "web-was", "web-dead", "web-alive", "web-other"]);
        let entries = people.entries(&books, &asked);
        let nodes: Vec<_> = entries.iter().map(|one| &*one.node).collect();
        assert_eq!(nodes, ["web-was", "web-dead"]);
    }

    #[test]
    fn only_nodes_of_instances_without_a_record_go() {
        let node = |name: &str, meta: BTreeMap<String, String>| Node {
            name: name.to_owned(),
            meta,
            ..Node::default()
        };
        let nodes = [
            node("web-here", meta("prod", "web-here")),
            node("web-gone", meta("prod", "web-gone")),
            node("web-other", meta("test", "web-other")),
            // Somebody's server, on which somebody wrote our words.
            node("server-0", meta("prod", "web-x")),
            node("web-plain", BTreeMap::new()),
            node("web-was", BTreeMap::new()),
        ];
        let (known, ever) = (ids(&["web-here"]), ever(&["web-here", "web-was"]));
        let owners = Owners::new("prod".parse().unwrap());
        let people = People {
            owners: &owners,
            known: &known,
            ever: &ever,
        };
        let gone = people.nodes(&nodes);
        let names: Vec<_> = gone.iter().map(|(node, _)| &*node.name).collect();
        assert_eq!(names, ["web-gone", "web-was"]);
    }
}
