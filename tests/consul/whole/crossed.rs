//! A machine of one environment that is pointed at another: neither that coordinator nor that Consul
//! takes it, its agent says so, and its workload goes on.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use calvin_consul::Consistency;
use nix::sys::signal::Signal;

use crate::{
    stage::{
        calvin::{environment::binary, processes::signal},
        images::{GOOD, Pace},
        whole::Whole,
    },
    support::until,
};

/// One machine, whose files are changed.
struct Victim<'a> {
    whole: &'a Whole,
    instance: String,
    directory: PathBuf,
}

impl Victim<'_> {
    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.directory.join(file)).unwrap()
    }

    /// Has its agent begin anew with what `change` makes of its files, and without an identity.
    fn begin_anew(&self, change: impl FnOnce(&Path)) {
        let agent = self.whole.agents()[&self.instance];
        // Stopped first: it begins when all is changed.
        signal(agent, Signal::SIGSTOP);
        for file in ["state/identity.json", "state/pending-key.pem"] {
            let _ = fs::remove_file(self.directory.join(file));
        }
        change(&self.directory);
        signal(agent, Signal::SIGKILL);
    }

    /// Waits until its agent says all of this.
    async fn until_it_says(&self, words: &[&str]) {
        until(&format!("{words:?}"), async || {
            let output = Command::new(binary("calvin-agent"))
                .args(["status", "--machine"])
                .arg(&self.directory)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            if words.iter().all(|word| said.contains(word)) {
                Ok(())
            } else {
                Err(said)
            }
        })
        .await;
    }

    /// Waits until the log of its Consul client says this behind its first `from` bytes.
    async fn until_consul_says(&self, from: usize, words: &str) {
        until(words, async || {
            let said = self.read("consul.log");
            let new = said.get(from..).unwrap_or_default();
            if new.contains(words) {
                Ok(())
            } else {
                Err(new.to_owned())
            }
        })
        .await;
    }
}

/// The CA of an environment, in the place of another one's.
async fn with_ca_of(other: &Whole, provision: &str) -> String {
    const END: &str = "-----END CERTIFICATE-----";
    let mut operator = other.calvin.operator.client.clone();
    let shown = operator.show_ca(calvin_proto::wire::ShowCaRequest {}).await;
    let ca = shown.unwrap().into_inner().ca_pem;
    let from = provision.find("-----BEGIN").unwrap();
    let to = provision.rfind(END).unwrap() + END.len();
    format!("{}{}{}", &provision[..from], ca.trim(), &provision[to..])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_is_pointed_at_another_environment_is_refused_by_it_and_says_so() {
    let (here, there) = tokio::join!(Whole::start("here", 1), Whole::start("there", 1));
    here.bring_up(&GOOD[..1], 2, Pace::default()).await;
    let workloads = here.workloads();
    let instance = here.instances("1.0").await.remove(0);
    let victim = Victim {
        whole: &here,
        directory: here.calvin.home().join("data/machines").join(&instance),
        instance,
    };
    let provision = victim.read("provision.toml");
    let join = victim.read("state/join.json");

    // The address alone: it is no coordinator of its own.
    let pointed = provision.replace(
        &here.calvin.agents.to_string(),
        &there.calvin.agents.to_string(),
    );
    assert_ne!(pointed, provision);
    victim.begin_anew(|files| fs::write(files.join("provision.toml"), &pointed).unwrap());
    let words = [
        "waits since",
        "the certificate is not of this environment's CA",
    ];
    victim.until_it_says(&words).await;

    // All of it but what it is and what it may: its tokens for coordinator and Consul.
    let pointed = with_ca_of(&there, &pointed).await;
    let pointed = pointed.replace("environment = \"here\"", "environment = \"there\"");
    let mut told: serde_json::Value = serde_json::from_str(&join).unwrap();
    let consul = &mut told["said"]["consul"];
    consul["datacenter"] = "there".into();
    consul["servers"] = there.datacenter.gossip_addresses().into();
    consul["gossip_key"] = there.datacenter.gossip_key().into();
    consul["ca_pem"] = there.datacenter.authority.pem.as_str().into();
    let from = victim.read("consul.log").len();
    victim.begin_anew(|files| {
        fs::write(files.join("provision.toml"), &pointed).unwrap();
        fs::write(files.join("state/join.json"), told.to_string()).unwrap();
    });
    victim.until_consul_says(from, "ACL not found").await;
    let words = [
        "an identity, which was refused",
        "is not known here. Only a person can help",
        "the Consul client does not answer; its output is in consul.log",
    ];
    victim.until_it_says(&words).await;

    // Nobody there has heard of it, and whoever it serves does not notice.
    assert_eq!(here.workloads(), workloads);
    let nodes = there.management().nodes(Consistency::Consistent).await;
    let nodes = nodes.unwrap().value;
    assert!(
        nodes.iter().all(|node| node.name != victim.instance),
        "{nodes:?}"
    );
    let refused = there.calvin.log();
    assert!(refused.contains("refused"), "{refused}");
}
