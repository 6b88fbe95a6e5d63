//! The least policies of the coordinator and of agents, as HCL. Pure.
//!
//! Each rule says what it is for. The tests run with exactly these under `default_policy = "deny"`.
//! Resources and what they allow: the documentation's "ACL rules reference".

use std::fmt::Write as _;

use calvin_model::{EnvironmentName, FleetName, InstanceId};

use crate::{
    exclusive::lock_key,
    names::{InvalidName, Key, Prefix, check_id, check_service},
};

/// What a service that was never active is registered under: `<service>-standby`.
pub const STANDBY_SUFFIX: &str = "-standby";

/// Which objects of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// All whose names begin so; with an empty text, all.
    Prefix(String),
    /// These.
    Exactly(Vec<String>),
}

/// What all keys of an environment begin with: it has its datacenter for itself.
const KEYS: &str = "calvin/";

/// What the coordinator of an environment works with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoordinatorScope {
    /// The nodes of its instances: their ghosts it takes out of the catalogue.
    pub nodes: Names,
    /// The services of its fleets, without `-standby`.
    pub services: Names,
    /// Its own keys.
    pub keys: Prefix,
    /// The node of the Consul agent or servers that it asks: its session is tied to one of them.
    pub session_nodes: Names,
}

/// What an agent works with: of one instance, or of all alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentScope {
    /// Its node.
    pub nodes: Names,
    /// Its services, without `-standby`.
    pub services: Names,
    /// The keys of the locks of `exclusive` fleets; none where it is of no such fleet.
    pub locks: Option<Names>,
}

impl CoordinatorScope {
    /// That of a coordinator whose fleets have these services, whatever its instances are called and
    /// whichever Consul it asks.
    ///
    /// # Errors
    /// Never but for a prefix of ours that is none.
    pub fn serving(services: Names) -> Result<Self, InvalidName> {
        Ok(Self {
            nodes: Names::Prefix(String::new()),
            services,
            keys: KEYS.parse()?,
            session_nodes: Names::Prefix(String::new()),
        })
    }
}

impl AgentScope {
    /// That of the agents on these nodes, with these services.
    #[must_use]
    pub fn serving(nodes: Names, services: Names) -> Self {
        Self {
            nodes,
            services,
            locks: None,
        }
    }

    /// The same where they are of these `exclusive` fleets too.
    ///
    /// # Errors
    /// Never but for names that are none.
    pub fn of_exclusive(
        mut self,
        environment: &EnvironmentName,
        fleets: &[FleetName],
    ) -> Result<Self, InvalidName> {
        let keys = fleets.iter().map(|fleet| lock_key(environment, fleet));
        let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
        if !keys.is_empty() {
            let keys = keys.iter().map(|key| key.as_str().to_owned());
            self.locks = Some(Names::Exactly(keys.collect()));
        }
        Ok(self)
    }
}

#[derive(Clone, Copy)]
enum Access {
    Read,
    Write,
}

#[derive(Default)]
struct Policy(String);

impl Policy {
    fn about(&mut self, what: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        // Writing to a text does not fail.
        let _ = writeln!(self.0, "{gap}# {what}");
    }

    fn rule(&mut self, resource: &str, names: &Names, access: Access) {
        let access = match access {
            Access::Read => "read",
            Access::Write => "write",
        };
        match names {
            Names::Prefix(prefix) => {
                let _ = writeln!(
                    self.0,
                    "{resource}_prefix \"{prefix}\" {{ policy = \"{access}\" }}"
                );
            }
            Names::Exactly(names) => {
                for name in names {
                    let _ = writeln!(self.0, "{resource} \"{name}\" {{ policy = \"{access}\" }}");
                }
            }
        }
    }

    fn locks(&mut self, keys: &Names, nodes: &Names) {
        self.about("The lock of its exclusive fleet, and the session that holds it.");
        self.rule("key", keys, Access::Write);
        self.rule("session", nodes, Access::Write);
    }

    /// Read on all, where what is written does not say that already.
    fn read_all(&mut self, resource: &str, written: &Names) {
        let all = Names::Prefix(String::new());
        if *written != all {
            self.rule(resource, &all, Access::Read);
        }
    }
}

impl Names {
    fn check(&self, check: impl Fn(&str) -> Result<(), InvalidName>) -> Result<(), InvalidName> {
        match self {
            Self::Prefix(prefix) if prefix.is_empty() => Ok(()),
            // A prefix may end in the middle of a name.
            Self::Prefix(prefix) => check(prefix.strip_suffix('-').unwrap_or(prefix)),
            Self::Exactly(names) => names.iter().try_for_each(|name| check(name)),
        }
    }

    fn check_nodes(&self) -> Result<(), InvalidName> {
        self.check(|name| {
            check_id("node name", name)?;
            // What would end the text that it stands in.
            check_service(&name.to_ascii_lowercase())
        })
    }

    fn check_keys(&self) -> Result<(), InvalidName> {
        match self {
            Self::Prefix(prefix) => prefix.parse::<Prefix>().map(drop),
            Self::Exactly(names) => names
                .iter()
                .try_for_each(|name| name.parse::<Key>().map(drop)),
        }
    }

    /// These services, and what they are called before they were ever active.
    fn with_standby(&self) -> Self {
        match self {
            Self::Prefix(prefix) => Self::Prefix(prefix.clone()),
            Self::Exactly(names) => Self::Exactly(
                names
                    .iter()
                    .flat_map(|name| [name.clone(), format!("{name}{STANDBY_SUFFIX}")])
                    .collect(),
            ),
        }
    }
}

/// The coordinator's least policy.
///
/// # Errors
/// Where a name is none.
pub fn coordinator(scope: &CoordinatorScope) -> Result<String, InvalidName> {
    scope.nodes.check_nodes()?;
    scope.session_nodes.check_nodes()?;
    scope.services.check(check_service)?;
    let mut policy = Policy::default();
    policy.about("The token of each instance: made, read back, revoked. Consul has no smaller rule for that.");
    policy.0.push_str("acl = \"write\"\n");
    policy.about("Which datacenter this is, so that an environment never works on another one's.");
    policy.rule("agent", &Names::Prefix(String::new()), Access::Read);
    policy.about(
        "Nodes with what gossip says of them; those of instances that are gone are taken out.",
    );
    policy.rule("node", &scope.nodes, Access::Write);
    policy.read_all("node", &scope.nodes);
    policy.about("Health of the services of its fleets, and their role tags.");
    policy.rule("service", &scope.services.with_standby(), Access::Write);
    policy.read_all("service", &scope.services);
    policy.about("The lock that keeps a second coordinator away, and its session.");
    let keys = Names::Prefix(scope.keys.as_str().to_owned());
    policy.rule("key", &keys, Access::Write);
    policy.rule("session", &scope.session_nodes, Access::Write);
    Ok(policy.0)
}

/// An agent's least policy. A token with a node identity and service identities has the node and
/// service rules already; they are here all the same, so that the policy is whole by itself.
///
/// # Errors
/// Where a name is none.
pub fn agent(scope: &AgentScope) -> Result<String, InvalidName> {
    scope.nodes.check_nodes()?;
    scope.services.check(check_service)?;
    let mut policy = Policy::default();
    policy.about("Which datacenter and node this is.");
    policy.rule("agent", &scope.nodes, Access::Read);
    policy.about("Its own node: registered, and out of service on purpose.");
    policy.rule("node", &scope.nodes, Access::Write);
    policy.read_all("node", &scope.nodes);
    policy.about(
        "Its own services: registered under their names and as standby; others are looked up.",
    );
    policy.rule("service", &scope.services.with_standby(), Access::Write);
    policy.read_all("service", &scope.services);
    if let Some(locks) = &scope.locks {
        locks.check_keys()?;
        policy.locks(locks, &scope.nodes);
    }
    Ok(policy.0)
}

/// What a machine of an `exclusive` fleet needs beside that: the lock of its own fleet, and sessions on
/// its own node. Both exactly: the nodes of fleet `db-eu` begin like those of fleet `db`, and who may end
/// the session of another takes its lock away.
///
/// # Errors
/// Never but for names that are none.
pub fn lock(
    environment: &EnvironmentName,
    fleet: &FleetName,
    instance: &InstanceId,
) -> Result<String, InvalidName> {
    let mut policy = Policy::default();
    let key = lock_key(environment, fleet)?;
    let exactly = |name: &str| Names::Exactly(vec![name.to_owned()]);
    policy.locks(&exactly(key.as_str()), &exactly(instance.as_str()));
    Ok(policy.0)
}

/// What every machine of an environment needs beside the identities of its node and services, which
/// already let it write those and read all services: one policy for all of them.
#[must_use]
pub fn machines() -> String {
    let mut policy = Policy::default();
    let all = Names::Prefix(String::new());
    policy.about("Which datacenter and node its Consul client says that it is.");
    policy.rule("agent", &all, Access::Read);
    policy.about("What it is to others: other nodes and services are looked up.");
    policy.rule("node", &all, Access::Read);
    policy.rule("service", &all, Access::Read);
    policy.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &[&str]) -> Names {
        Names::Exactly(of.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn an_agent_s_policy_names_its_node_and_services_alone() {
        let text = agent(&AgentScope {
            nodes: names(&["calvin-web-1"]),
            services: names(&["web"]),
            locks: Some(Names::Prefix("calvin/locks/".into())),
        })
        .unwrap();
        assert_eq!(
            rules(&text),
            [
                "agent \"calvin-web-1\" { policy = \"read\" }",
                "node \"calvin-web-1\" { policy = \"write\" }",
                "node_prefix \"\" { policy = \"read\" }",
                "service \"web\" { policy = \"write\" }",
                "service \"web-standby\" { policy = \"write\" }",
                "service_prefix \"\" { policy = \"read\" }",
                "key_prefix \"calvin/locks/\" { policy = \"write\" }",
                "session \"calvin-web-1\" { policy = \"write\" }",
            ]
        );
    }

    fn rules(text: &str) -> Vec<&str> {
        text.lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .collect()
    }

    #[test]
    fn the_right_to_a_lock_is_that_of_one_instance_of_one_fleet() {
        let environment = "prod".parse().unwrap();
        let (fleet, instance) = ("db".parse().unwrap(), "db-0a1b2c3d".parse().unwrap());
        let text = lock(&environment, &fleet, &instance).unwrap();
        let exactly = [
            "key \"calvin/prod/locks/db\" { policy = \"write\" }",
            "session \"db-0a1b2c3d\" { policy = \"write\" }",
        ];
        assert_eq!(rules(&text), exactly);
        // By hand it is the same.
        let scope = AgentScope::serving(names(&["db-0a1b2c3d"]), names(&["db"]));
        let none = scope.clone().of_exclusive(&environment, &[]).unwrap();
        assert_eq!(none, scope);
        let text = agent(&scope.of_exclusive(&environment, &[fleet]).unwrap()).unwrap();
        assert!(rules(&text).ends_with(&exactly), "{text}");
    }

    #[test]
    fn no_rule_is_there_twice() {
        let all = || Names::Prefix(String::new());
        let text = coordinator(&CoordinatorScope {
            nodes: all(),
            services: all(),
            keys: "calvin/".parse().unwrap(),
            session_nodes: all(),
        })
        .unwrap();
        let mut rules: Vec<_> = text
            .lines()
            .filter_map(|line| line.split_once(" {"))
            .map(|(rule, _)| rule)
            .collect();
        let count = rules.len();
        rules.sort_unstable();
        rules.dedup();
        assert_eq!(rules.len(), count, "{text}");
    }

    #[test]
    fn no_name_can_add_a_rule() {
        for bad in [
            "web\" { policy = \"write\" }\nacl = \"write\"",
            "a\\",
            "",
            "A",
        ] {
            let scope = AgentScope {
                nodes: names(&["n"]),
                services: names(&[bad]),
                locks: None,
            };
            assert!(agent(&scope).is_err(), "{bad:?}");
        }
        let scope = AgentScope {
            nodes: Names::Prefix("x\"".into()),
            services: names(&["web"]),
            locks: None,
        };
        assert!(agent(&scope).is_err());
        let scope = AgentScope {
            locks: Some(names(&["a\" { policy = \"read\" }"])),
            ..AgentScope::serving(names(&["n"]), names(&["web"]))
        };
        assert!(agent(&scope).is_err());
    }
}
