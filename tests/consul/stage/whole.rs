//! One environment with Consul: a datacenter named as it is, a coordinator whose token is good for what
//! `calvin consul policies` prints and nothing else, and a consumer's Consul client.

use std::{fs, process::Output};

use calvin_consul::{Client, Consistency, acl::TokenRequest, health::ServiceHealth};
use calvin_proto::wire::{FleetStatus, RolloutStatus};
use serde_json::json;

use super::{
    calvin::Environment,
    edge::Edge,
    images::{Pace, Version, WEB, web_fleet, web_image},
};
use crate::support::{Datacenter, datacenter::MANAGEMENT, until};

/// The domain of every environment here: the same, so that names could be mixed up.
pub(crate) const DOMAIN: &str = "calvin.internal";

/// The node of the coordinator's own Consul client.
const COORDINATOR: &str = "coordinator";

/// An environment with Consul.
pub(crate) struct Whole {
    // Before the datacenter: what runs in it goes first.
    pub(crate) calvin: Environment,
    pub(crate) datacenter: Datacenter,
    pub(crate) edge: Edge,
    pub(crate) name: String,
    /// Accessor of the coordinator's token.
    pub(crate) accessor: String,
}

impl Whole {
    /// Starts everything but fleets.
    pub(crate) async fn start(name: &str, servers: usize) -> Self {
        let mut whole = Self::prepare(name, servers).await;
        whole.calvin.start_coordinator().await;
        whole
    }

    /// The same without the coordinator's process.
    pub(crate) async fn prepare(name: &str, servers: usize) -> Self {
        let mut whole = Self::prepare_embedded(name, servers).await;
        whole.configure_consul().await;
        whole
    }

    /// The same, with the embedded catalogue and a datacenter beside it of which nobody knows yet.
    pub(crate) async fn prepare_embedded(name: &str, servers: usize) -> Self {
        // Machines join with a token and gossip's key.
        let more = json!({
            // Machines get their certificates from the servers, and ask for them at this port, whatever port
            // they were told for gossip.
            "connect": { "enabled": true },
            "auto_encrypt": { "allow_tls": true },
            "ports": { "server": 8300 },
        });
        let mut datacenter = Datacenter::start_named(name, DOMAIN, servers, more).await;
        datacenter.add_agent(COORDINATOR).await;
        let edge = Edge::start(&mut datacenter).await;
        let whole = Self {
            calvin: Environment::prepare(),
            datacenter,
            edge,
            name: name.to_owned(),
            accessor: String::new(),
        };
        let name = format!("environment = \"{name}\"\ndomain = \"{DOMAIN}\"\n");
        whole.rewrite(&[("environment = \"test\"\n", &name)]);
        whole
    }

    /// Writes into `calvin.toml` that clients look up in Consul, and how that is reached.
    pub(crate) async fn configure_consul(&mut self) {
        self.write_configuration();
        self.give_token().await;
    }

    /// Puts other words in the place of these in `calvin.toml`.
    fn rewrite(&self, replacements: &[(&str, &str)]) {
        let path = self.calvin.home().join("calvin.toml");
        let mut text = fs::read_to_string(&path).unwrap();
        for (from, to) in replacements {
            assert!(text.contains(from), "{text}");
            text = text.replace(from, to);
        }
        fs::write(&path, text).unwrap();
    }

    /// `calvin.toml`, from that of an environment without Consul, and the files that it names.
    fn write_configuration(&self) {
        let home = self.calvin.home();
        let identity = self.datacenter.authority.issue(&["calvin"], None);
        for (file, text) in [
            ("ca.pem", &self.datacenter.authority.pem),
            ("certificate.pem", &identity.certificate_pem),
            ("key.pem", &identity.key_pem),
            ("gossip.key", &self.datacenter.gossip_key),
        ] {
            fs::write(home.join(file), text).unwrap();
        }
        let asked = &self.datacenter.agents[0];
        let consul = format!(
            "[consul]\naddress = \"{}\"\nservers = {:?}\ntoken_file = \"token\"\nca_file = \"ca.pem\"\n\
             certificate_file = \"certificate.pem\"\nkey_file = \"key.pem\"\n\
             gossip_key_file = \"gossip.key\"\n\n[provider.process]\n",
            asked.url(),
            self.datacenter.gossip_addresses(),
        );
        self.rewrite(&[
            ("[catalogue]\n", "[catalogue]\nkind = \"consul\"\n"),
            ("[provider.process]\n", &consul),
        ]);
    }

    /// Makes a token for the coordinator, of exactly the policy that it prints, and gives it that.
    pub(crate) async fn give_token(&mut self) {
        let printed = self.calvin.calvin(&["consul", "policies", "coordinator"]);
        assert!(printed.status.success(), "{printed:?}");
        let rules = String::from_utf8(printed.stdout).unwrap();
        let management = self.management();
        let name = "calvin-coordinator";
        if management.policy(name).await.unwrap().is_none() {
            management
                .policy_create(name, "what it prints", &rules)
                .await
                .unwrap();
        }
        let token = management
            .token_create(&TokenRequest {
                description: "the coordinator".to_owned(),
                policies: vec![name.to_owned()],
                ..TokenRequest::default()
            })
            .await
            .unwrap();
        fs::write(self.calvin.home().join("token"), token.secret.secret()).unwrap();
        self.accessor = token.info.accessor;
    }

    /// Whoever may do everything, at a server.
    pub(crate) fn management(&self) -> Client {
        let server = &self.datacenter.servers[0];
        self.datacenter.client(server, Some(MANAGEMENT))
    }

    /// `calvin` with these arguments; fails where it does.
    pub(crate) fn calvin(&self, arguments: &[&str]) -> String {
        let output = self.calvin.calvin(arguments);
        assert!(output.status.success(), "calvin {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same, however it ends.
    pub(crate) fn try_calvin(&self, arguments: &[&str]) -> Output {
        self.calvin.calvin(arguments)
    }

    /// Records these images, and brings the fleet up with the first of them.
    pub(crate) async fn bring_up(&self, versions: &[Version], count: u32, pace: Pace) {
        self.roll_out_first(versions, count, pace).await;
        self.until_active(&self.instances(versions[0].0).await)
            .await;
    }

    /// The same in whatever catalogue.
    pub(crate) async fn roll_out_first(&self, versions: &[Version], count: u32, pace: Pace) {
        for version in versions {
            let folder = web_image(&self.calvin, *version);
            self.calvin(&["image", "add", folder.to_str().unwrap()]);
        }
        let first = versions[0].0;
        let file = self.calvin.home().join("web.toml");
        fs::write(&file, web_fleet(&format!("{WEB}@{first}"), count, pace)).unwrap();
        self.calvin(&["fleet", "apply", file.to_str().unwrap()]);
        let ended = self.until_ended().await;
        assert_eq!(ended.phase, "done", "{ended:#?}");
    }

    /// Starts a rollout and does not wait for it.
    pub(crate) async fn roll_out(&self, version: &str) {
        let before = self.rollout().await.map(|rollout| rollout.id);
        let image = format!("{WEB}@{version}");
        self.calvin(&["rollout", "start", WEB, &image, "--detach", "--yes"]);
        until("the rollout", async || {
            let now = self.rollout().await;
            match &now {
                Some(rollout) if Some(&rollout.id) != before.as_ref() => Ok(()),
                Some(_) | None => Err(format!("{now:?}")),
            }
        })
        .await;
    }

    /// The fleet.
    pub(crate) async fn fleet(&self) -> Option<FleetStatus> {
        self.calvin.fleet(WEB).await.ok()
    }

    /// Its newest rollout.
    pub(crate) async fn rollout(&self) -> Option<RolloutStatus> {
        self.fleet().await?.rollout
    }

    /// Waits until the newest rollout is in one of these phases.
    pub(crate) async fn until_phase(&self, phases: &[&str]) -> RolloutStatus {
        until(&format!("a phase of {phases:?}"), async || {
            match self.rollout().await {
                Some(rollout) if phases.contains(&rollout.phase.as_str()) => Ok(rollout),
                other => Err(format!("{other:#?}")),
            }
        })
        .await
    }

    /// Waits until the newest rollout has ended.
    pub(crate) async fn until_ended(&self) -> RolloutStatus {
        until("the rollout to end", async || match self.rollout().await {
            Some(rollout) if rollout.ended => Ok(rollout),
            other => Err(format!("{other:#?}")),
        })
        .await
    }

    /// The instances of a version, in order.
    pub(crate) async fn instances(&self, version: &str) -> Vec<String> {
        let image = format!("{WEB}@{version}");
        let fleet = self.fleet().await.expect("the fleet is there");
        let mut found: Vec<String> = fleet
            .instances
            .into_iter()
            .filter(|one| one.image == image)
            .map(|one| one.id)
            .collect();
        found.sort();
        found
    }

    /// What the servers have under a name, in the order of the nodes.
    pub(crate) async fn catalogue(&self, service: &str) -> Result<Vec<ServiceHealth>, String> {
        let read = self
            .management()
            .service_health(service, Consistency::Consistent)
            .await;
        let mut found = read.map_err(|error| format!("{error:?}"))?.value;
        found.sort_by(|a, b| a.node.name.cmp(&b.node.name));
        Ok(found)
    }

    /// The nodes with the tag `active`, in order.
    pub(crate) async fn active(&self) -> Result<Vec<String>, String> {
        let found = self.catalogue(WEB).await?.into_iter();
        Ok(found
            .filter(|one| one.service.tags.iter().any(|tag| tag == "active"))
            .map(|one| one.node.name)
            .collect())
    }

    /// Waits until exactly these are active in the catalogue.
    pub(crate) async fn until_active(&self, instances: &[String]) {
        until(&format!("active: {instances:?}"), async || {
            let active = self.active().await?;
            if active == instances {
                Ok(())
            } else {
                Err(format!("{active:?}"))
            }
        })
        .await;
    }
}
