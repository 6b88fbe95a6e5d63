//! What is done to machines from outside: the processes of one, all of its data at Consul's client.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use nix::sys::signal::Signal;

use super::{
    calvin::processes::{self, Process, signal},
    images::WEB,
    whole::Whole,
};

impl Whole {
    /// The processes of one machine.
    fn of_machine(&self, instance: &str) -> Vec<Process> {
        processes::list(self.calvin.home())
            .into_iter()
            .filter(|process| process.instance.as_deref() == Some(instance))
            .collect()
    }

    /// Kills a machine as a power cut does: everything of it, first what would start the rest again.
    pub(crate) fn cut_power(&self, instance: &str) {
        let all = self.of_machine(instance);
        assert!(all.len() > 3, "{instance} has no Consul client: {all:?}");
        for process in all.iter().filter(|process| process.command == "init") {
            signal(process.pid, Signal::SIGKILL);
        }
        for process in &all {
            signal(process.pid, Signal::SIGKILL);
        }
    }

    /// The agents of the fleet, by instance.
    pub(crate) fn agents(&self) -> BTreeMap<String, i32> {
        self.calvin.processes(WEB, "run")
    }

    /// The workloads of the fleet, by instance.
    pub(crate) fn workloads(&self) -> BTreeMap<String, i32> {
        self.calvin.processes(WEB, "workload")
    }

    /// The Consul client of a machine: its process, and where it keeps what it knows.
    pub(crate) fn consul_client(&self, instance: &str) -> (i32, PathBuf) {
        self.maybe_consul_client(instance).unwrap_or_else(|| {
            let all = self.of_machine(instance);
            panic!("{instance} has no Consul client, or that has no data: {all:?}")
        })
    }

    /// The same of a machine whose client may be about to begin.
    pub(crate) fn maybe_consul_client(&self, instance: &str) -> Option<(i32, PathBuf)> {
        // Its first argument is the word `agent`.
        let all = self.of_machine(instance);
        let client = all.iter().find(|process| process.command == "agent")?;
        let machine = self.calvin.home().join("data/machines").join(instance);
        Some((client.pid, data_of_consul(&machine)?))
    }

    /// Kills a machine's Consul client and removes all that it kept.
    pub(crate) fn wipe_consul_client(&self, instance: &str) {
        let (pid, data) = self.consul_client(instance);
        // Stopped first: nobody starts it again before its data is gone.
        signal(pid, Signal::SIGSTOP);
        fs::remove_dir_all(&data).unwrap();
        signal(pid, Signal::SIGKILL);
    }
}

/// The directory that holds what a Consul client keeps of its gossip.
fn data_of_consul(below: &Path) -> Option<PathBuf> {
    for entry in fs::read_dir(below).ok()?.flatten() {
        // No links: one could lead in a circle.
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if !kind.is_dir() {
            continue;
        }
        if entry.path().join("serf").is_dir() {
            return Some(entry.path());
        }
        if let Some(found) = data_of_consul(&entry.path()) {
            return Some(found);
        }
    }
    None
}
