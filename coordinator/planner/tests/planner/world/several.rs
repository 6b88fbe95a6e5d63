//! Orders and questions about one fleet of several, by its name.

use calvin_model::FleetName;
use calvin_planner::{Command, FleetState, Refusal};

use super::{World, spec};

impl World {
    /// As [`apply`](Self::apply), of a fleet with another name.
    pub(crate) fn apply_as(
        &mut self,
        name: &str,
        text: &str,
        version: &str,
    ) -> Result<Vec<String>, Refusal> {
        let mut spec = spec(text);
        spec.name = name.parse().unwrap();
        let build = self.build(version);
        let spec = Box::new(spec);
        self.order(&Command::ApplyFleet { spec, build })
    }

    /// Starts a rollout of a fleet.
    pub(crate) fn start_of(&mut self, name: &str, version: &str) -> Result<Vec<String>, Refusal> {
        let build = self.build(version);
        self.order(&Command::StartRollout {
            fleet: name.parse().unwrap(),
            build,
            plan: None,
            emergency: None,
        })
    }

    pub(crate) fn fleet(&self, name: &str) -> &FleetState {
        &self.fleets[&name.parse::<FleetName>().unwrap()]
    }

    /// Whether no rollout of the fleet runs, and all of it serves.
    pub(crate) fn rests(&self, name: &str) -> bool {
        let report = self.reports.get(&name.parse::<FleetName>().unwrap());
        let state = self.fleet(name);
        state.running().is_none()
            && state.serving.is_some()
            && report.is_some_and(|report| report.serving == state.spec.count)
            && u32::try_from(state.instances.len()).unwrap() == state.spec.count
    }

    /// Whether what a fleet waits for, or what holds it, has these words.
    pub(crate) fn says(&self, name: &str, words: &str) -> bool {
        let Some(report) = self.reports.get(&name.parse::<FleetName>().unwrap()) else {
            return false;
        };
        let waiting = report.waiting.iter().map(|one| one.what.clone());
        let blocked = report.blocked.iter();
        let blocked = blocked.map(|one| format!("{}: {}", one.what, one.fact));
        waiting.chain(blocked).any(|text| text.contains(words))
    }
}
