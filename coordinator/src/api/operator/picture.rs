//! The engine's picture as the wire shows it: status of everything, of a fleet, a rollout, an
//! instance.

use calvin_engine::View;
use calvin_model::{FleetName, InstanceId};
use calvin_planner::{
    Blocked, FleetReport, FleetState, Instance, InstanceClass, InstanceObserved, MachineState,
    Phase, ProbeObserved, Rollout, Waiting, waves_in_all,
};
use calvin_proto::wire;

use super::{
    OperatorParts,
    answer::{count, fleet, instance, ms},
    error::OperatorError,
    people, word,
    zones::{freeze, lost_zones},
};

impl OperatorParts {
    /// The state of everything, or of one fleet.
    pub(super) fn status(&self, only: &str) -> Result<wire::StatusReply, OperatorError> {
        self.status_of(&self.desk.view(), only)
    }

    /// The state of everything in `view`, or of the fleet `only`.
    pub(super) fn status_of(
        &self,
        view: &View,
        only: &str,
    ) -> Result<wire::StatusReply, OperatorError> {
        let mut reply = status(self.config.environment.as_str(), view, only)?;
        reply.notices.extend(self.agents.notices());
        Ok(reply)
    }

    pub(super) fn show_instance(&self, id: &str) -> Result<wire::InstanceStatus, OperatorError> {
        let view = self.desk.view();
        let (name, state, id) = instance(&view, id)?;
        // `instance` found it in this state.
        let record = &state.instances[&id];
        Ok(instance_status(&view, name, state, &id, record))
    }
}

fn status(environment: &str, view: &View, only: &str) -> Result<wire::StatusReply, OperatorError> {
    let mut fleets: Vec<wire::FleetStatus> = if only.is_empty() {
        let all = view.fleets.iter();
        all.map(|(name, state)| fleet_status(view, name, state))
            .collect()
    } else {
        let (name, state) = fleet(view, only)?;
        vec![fleet_status(view, name, state)]
    };
    // Stable: within the same trouble, by name.
    fleets.sort_by_key(|fleet| std::cmp::Reverse(trouble(fleet)));
    Ok(wire::StatusReply {
        environment: environment.to_owned(),
        wall_ms: view.wall_ms,
        held: held(view),
        fleets,
        notices: view
            .notices
            .iter()
            .map(ToString::to_string)
            .chain(word::notices(&view.catalogue))
            .collect(),
        epoch: view.epoch.number,
        up_ms: ms(view.up),
        recovering: view
            .recovery
            .as_ref()
            .map(|recovery| recovery.recovering.reason.clone())
            .unwrap_or_default(),
        freeze: freeze(view.environment.freeze.as_ref(), view.wall_ms),
        lost_zones: lost_zones(view),
    })
}

fn held(view: &View) -> String {
    view.held.as_ref().map_or_else(String::new, |held| {
        let tries = if held.tries == 1 { "try" } else { "tries" };
        format!("{} ({} {tries})", held.reason, held.tries)
    })
}

/// How much a fleet is in trouble: nothing serves, too few serve, something is held back or goes
/// back.
fn trouble(fleet: &wire::FleetStatus) -> u8 {
    let going_back = fleet.rollout.as_ref().is_some_and(|rollout| {
        [Phase::RollingBack, Phase::Failed]
            .iter()
            .any(|phase| rollout.phase == phase.as_str())
            && rollout.turned_by.is_empty()
    });
    if fleet.deleting {
        0
    } else if fleet.serving == 0 && fleet.wanted > 0 {
        3
    } else if fleet.serving < fleet.wanted {
        2
    } else {
        u8::from(going_back || !fleet.blocked.is_empty())
    }
}

/// One fleet.
pub(super) fn fleet_status(view: &View, name: &FleetName, state: &FleetState) -> wire::FleetStatus {
    let empty = FleetReport::default();
    let report = view.reports.get(name).unwrap_or(&empty);
    let serving = state.serving.as_ref();
    wire::FleetStatus {
        name: name.to_string(),
        image: serving.map_or_else(String::new, |build| build.image.to_string()),
        serving: report.serving,
        // Before the first pass of this run there is no report.
        wanted: if view.reports.contains_key(name) {
            report.wanted
        } else {
            state.spec.count
        },
        rollout: state
            .rollout
            .as_ref()
            .map(|rollout| rollout_status(view, name, state, rollout)),
        waiting: all_waiting(view, name, report),
        blocked: report.blocked.iter().map(blocked).collect(),
        instances: state
            .instances
            .iter()
            .map(|(id, record)| instance_status(view, name, state, id, record))
            .collect(),
        image_applied: state.spec.image.to_string(),
        deleting: state.deleting,
        freeze: freeze(state.freeze.as_ref(), view.wall_ms),
        pin: people::maybe(state.pin.as_ref()),
        kind: state.spec.kind.to_string(),
        window: people::window(view, name),
    }
}

/// The running rollout of a fleet, or the newest that ended.
pub(super) fn rollout_status(
    view: &View,
    name: &FleetName,
    state: &FleetState,
    rollout: &Rollout,
) -> wire::RolloutStatus {
    let empty = FleetReport::default();
    let report = view.reports.get(name).unwrap_or(&empty);
    let ended = rollout.phase.ended();
    let until = if ended {
        rollout.phase_since
    } else {
        view.moment
    };
    let sets = rollout.sets.green.iter().chain(&rollout.sets.blue);
    wire::RolloutStatus {
        id: rollout.id.to_string(),
        phase: rollout.phase.to_string(),
        ended,
        from: rollout
            .from
            .as_ref()
            .map(|build| build.image.to_string())
            .unwrap_or_default(),
        to: rollout.to.image.to_string(),
        phase_ms: ms(view.moment.since(rollout.phase_since)),
        total_ms: ms(until.since(rollout.started)),
        wave: rollout.wave + 1,
        waves: waves_in_all(state).max(rollout.wave + 1),
        reason: rollout.reason.clone().unwrap_or_default(),
        started_by: rollout.started_by.clone(),
        failures: rollout.failures,
        waiting: if ended {
            Vec::new()
        } else {
            all_waiting(view, name, report)
        },
        blocked: if ended {
            Vec::new()
        } else {
            report.blocked.iter().map(blocked).collect()
        },
        instances: sets
            .filter_map(|id| {
                let record = state.instances.get(id)?;
                Some(instance_status(view, name, state, id, record))
            })
            .collect(),
        fleet: name.to_string(),
        paused: people::paused(view, state, rollout),
        gate: people::gate(view, state, rollout),
        emergency: people::maybe(rollout.emergency.as_ref()),
        promoted: people::promoted(rollout),
        turned_by: rollout.turned_by.clone().unwrap_or_default(),
        canary: rollout.sets.canary && !ended,
        gap: rollout.gap.map(|gap| wire::Gap {
            length_ms: ms(gap.length(view.moment)),
            over: gap.until.is_some(),
        }),
    }
}

/// What a fleet waits for, first what the catalogue cannot do: the rest waits for that.
fn all_waiting(view: &View, name: &FleetName, report: &FleetReport) -> Vec<wire::Waiting> {
    let faults = word::waiting(&view.catalogue, name).into_iter();
    faults.chain(report.waiting.iter().map(waiting)).collect()
}

fn waiting(waiting: &Waiting) -> wire::Waiting {
    let (left, then) = match &waiting.until {
        Some((left, then)) => (Some(ms(*left)), then.clone()),
        None => (None, String::new()),
    };
    wire::Waiting {
        what: waiting.what.clone(),
        since_ms: ms(waiting.since),
        left_ms: left,
        then,
    }
}

fn blocked(blocked: &Blocked) -> wire::Blocked {
    wire::Blocked {
        what: blocked.what.clone(),
        rule: blocked.rule.clone(),
        fact: blocked.fact.clone(),
    }
}

fn instance_status(
    view: &View,
    fleet: &FleetName,
    state: &FleetState,
    id: &InstanceId,
    record: &Instance,
) -> wire::InstanceStatus {
    let unseen = InstanceObserved::default();
    let seen = view.observed.instances.get(id).unwrap_or(&unseen);
    let judged = view
        .reports
        .get(fleet)
        .and_then(|report| report.instances.get(id));
    let agent = seen.agent.as_ref();
    let address = seen.machine.and_then(|machine| machine.address);
    wire::InstanceStatus {
        id: id.to_string(),
        fleet: fleet.to_string(),
        image: record.build.image.to_string(),
        address: address.map(|one| one.to_string()).unwrap_or_default(),
        role: record.wanted.role.to_string(),
        catalogue: record.catalogue.to_string(),
        class: judged.map_or_else(String::new, |judged| class(judged.class).to_owned()),
        text: judged.map_or_else(String::new, |judged| judged.text.clone()),
        set: set(state, id).to_owned(),
        age_ms: ms(view.moment.since(record.created)),
        report: agent.map(|agent| (&agent.report).into()),
        report_age_ms: agent.map_or(0, |agent| ms(agent.age)),
        generation: record.wanted.generation.0,
        machine: seen.machine.map_or_else(String::new, |machine| {
            machine_word(machine.state).to_owned()
        }),
        fault: seen
            .fault
            .as_ref()
            .map(|fault| fault.message.clone())
            .unwrap_or_default(),
        alarm: seen.alarm.clone().unwrap_or_default(),
        probe: seen.probe.map_or("", probe_word).to_owned(),
        zone: record
            .zone
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
        protected: people::maybe(record.protected.as_ref()),
        waits: judged.and_then(|judged| judged.waits.as_ref().map(waiting)),
        since_ms: judged.map_or(0, |judged| ms(judged.since)),
        rests_on: judged.map(|judged| wire::RestsOn {
            agent_age_ms: judged.rests_on.agent.map(ms),
            list_age_ms: judged.rests_on.list.map(ms),
            probe_age_ms: judged.rests_on.probe.map(ms),
        }),
    }
}

fn set(state: &FleetState, id: &InstanceId) -> &'static str {
    let Some(rollout) = state.running() else {
        return "";
    };
    if rollout.sets.green.contains(id) {
        return "green";
    }
    if rollout.sets.blue.contains(id) {
        return "blue";
    }
    ""
}

/// The word for a judgement, on the wire and for people.
pub(crate) fn class(class: InstanceClass) -> &'static str {
    match class {
        InstanceClass::Starting => "starting",
        InstanceClass::Healthy => "healthy",
        InstanceClass::Unhealthy => "unhealthy",
        InstanceClass::Unknown => "unknown",
        InstanceClass::Unmanaged => "unmanaged",
        InstanceClass::Lost => "lost",
        InstanceClass::Leaving => "leaving",
    }
}

fn machine_word(state: MachineState) -> &'static str {
    match state {
        MachineState::Creating => "creating",
        MachineState::Running => "running",
        MachineState::Stopped => "stopped",
        MachineState::Deleting => "deleting",
        MachineState::Absent => "absent",
    }
}

fn probe_word(probe: ProbeObserved) -> &'static str {
    if probe.passing { "passing" } else { "failing" }
}

/// How many instances are made from each image, for the list of images.
pub(super) fn instances_of(view: &View, image: &calvin_model::ImageRef) -> u32 {
    let instances = view
        .fleets
        .values()
        .flat_map(|fleet| fleet.instances.values());
    count(instances.filter(|one| one.build.image == *image).count())
}
