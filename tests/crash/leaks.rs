//! Nothing is left behind and nothing is there twice: machines, directories, processes, names.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

use crate::{
    course::Stage,
    support::{processes, waiting::until},
};

/// What each machine consists of.
const PROCESSES: [&str; 3] = ["init", "run", "workload"];

impl Stage {
    /// Waits until there is exactly what the records say, and fails with what there is besides.
    pub(crate) async fn assert_nothing_leaked(&self, what: &str) {
        let home = self.environment.home();
        let machines = home.join("data/machines");
        until(
            &format!("only what is recorded to be left, {what}"),
            async || {
                let status = self.environment.operator.status().await;
                let status = status.map_err(|status| status.to_string())?;
                let mut recorded: Vec<String> = status
                    .fleets
                    .iter()
                    .flat_map(|fleet| &fleet.instances)
                    .map(|instance| instance.id.clone())
                    .collect();
                recorded.sort();
                if !status.notices.is_empty() {
                    return Err(format!("notices {:?}", status.notices));
                }
                let directories = directories(&machines);
                if directories != recorded {
                    return Err(format!("directories {directories:?}, records {recorded:?}"));
                }
                let running = running(home);
                for command in PROCESSES {
                    let here: Vec<&String> = running
                        .iter()
                        .filter(|((_, running), _)| running == command)
                        .map(|((instance, _), _)| instance)
                        .collect();
                    if here != recorded.iter().collect::<Vec<_>>() {
                        return Err(format!("{command} of {here:?}, records {recorded:?}"));
                    }
                }
                if let Some(double) = running.iter().find(|(_, count)| **count > 1) {
                    return Err(format!("{double:?}"));
                }
                for instance in &recorded {
                    let found = names(&machines.join(instance));
                    if found != recorded {
                        return Err(format!("{instance} finds {found:?}, records {recorded:?}"));
                    }
                }
                Ok(())
            },
        )
        .await;
        self.assert_made_once(what);
    }

    /// No machine was made twice, by whatever run of the coordinator.
    fn assert_made_once(&self, what: &str) {
        let mut made: BTreeMap<String, usize> = BTreeMap::new();
        let log = self.environment.log();
        for line in log.lines().filter(|line| line.contains("made a machine")) {
            let instance = line
                .split_once("instance=")
                .and_then(|(_, rest)| rest.split_whitespace().next())
                .expect("the line names its instance");
            *made.entry(instance.to_owned()).or_default() += 1;
        }
        assert!(!made.is_empty(), "{what}: the log tells of no machine");
        made.retain(|_, times| *times > 1);
        assert!(made.is_empty(), "{what}: made more than once: {made:?}");
    }
}

/// Every entry of the machines' directory, but for the output of deleted ones that is kept.
fn directories(machines: &Path) -> Vec<String> {
    let mut found: Vec<String> = fs::read_dir(machines)
        .expect("it can be listed")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != ".gone")
        .collect();
    found.sort();
    found
}

/// How many processes of each kind each instance has.
fn running(home: &Path) -> BTreeMap<(String, String), usize> {
    let mut running = BTreeMap::new();
    for process in processes::list(home) {
        if let Some(instance) = process.instance {
            *running.entry((instance, process.command)).or_default() += 1;
        }
    }
    running
}

/// The instances that a machine resolves names to.
fn names(machine: &Path) -> Vec<String> {
    let text = fs::read_to_string(machine.join("state/names.json")).unwrap_or_default();
    let stored: Value = serde_json::from_str(&text).unwrap_or_default();
    let entries = stored["snapshot"]["entries"].as_array();
    let mut found: Vec<String> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry["instance"].as_str()?.to_owned()))
        .collect();
    found.sort();
    found
}
