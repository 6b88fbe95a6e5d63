//! Rollouts: plan, start, abort, roll back, undo; and the replacement of one instance.

use calvin_planner::{
    Build, Command, FleetState, InstancePreview, Phase, PlanInput, RolloutPreview, WaveOrder,
    WavePreview, preview, preview_in,
};
use calvin_proto::wire::{
    ChangeReply, InstanceRequest, PlanRolloutReply, PlanRolloutRequest, PlanStep, RolloutRequest,
    StartRolloutRequest, WayBack,
};

use super::{
    OperatorParts,
    answer::{change, count, fleet, instance, ms, reason},
    error::OperatorError,
};

impl OperatorParts {
    pub(super) fn plan_rollout(
        &self,
        request: &PlanRolloutRequest,
    ) -> Result<PlanRolloutReply, OperatorError> {
        let view = self.desk.view();
        let (name, state) = fleet(&view, &request.fleet)?;
        let build = self.build_for(&request.fleet, &request.image)?;
        let input = PlanInput {
            now: view.moment,
            seed: 0,
            wall_ms: view.wall_ms,
            environment: &view.environment,
            rules: &view.rules,
            fleets: &view.fleets,
            observed: &view.observed,
        };
        // `fleet` found it in the same picture.
        let mut preview =
            preview_in(&input, name, &build).unwrap_or_else(|| preview(state, &build));
        let nothing = nothing_to_do(state, &build);
        if nothing.is_none() {
            let order = Command::StartRollout {
                fleet: name.clone(),
                build: build.clone(),
                plan: None,
                emergency: None,
            };
            if let Err(refusal) = calvin_planner::command(&view.command_input(), &order, "somebody")
            {
                let refusal = OperatorError::from(refusal);
                preview
                    .remarks
                    .push(format!("now it would be refused: {refusal}"));
            }
        }
        Ok(plan_reply(&preview, nothing))
    }

    pub(super) async fn start_rollout(
        &self,
        request: StartRolloutRequest,
        who: &str,
    ) -> Result<ChangeReply, OperatorError> {
        let order = Command::StartRollout {
            fleet: self.known_fleet(&request.fleet)?,
            build: self.build_for(&request.fleet, &request.image)?,
            plan: (!request.plan.is_empty()).then_some(request.plan),
            emergency: some_reason(&request.emergency_reason),
        };
        let outcome = self.desk.order(order, who).await?;
        Ok(change(outcome, &request.fleet))
    }

    pub(super) async fn abort_rollout(
        &self,
        request: RolloutRequest,
        who: &str,
    ) -> Result<ChangeReply, OperatorError> {
        let order = Command::Abort {
            fleet: self.known_fleet(&request.fleet)?,
            reason: reason(&request.reason, who),
        };
        let outcome = self.desk.order(order, who).await?;
        Ok(change(outcome, &request.fleet))
    }

    pub(super) async fn roll_back(
        &self,
        request: RolloutRequest,
        who: &str,
    ) -> Result<ChangeReply, OperatorError> {
        let order = Command::Rollback {
            fleet: self.known_fleet(&request.fleet)?,
            reason: reason(&request.reason, who),
        };
        let outcome = self.desk.order(order, who).await?;
        Ok(change(outcome, &request.fleet))
    }

    pub(super) async fn undo_rollout(
        &self,
        request: RolloutRequest,
        who: &str,
    ) -> Result<ChangeReply, OperatorError> {
        let order = Command::Undo {
            fleet: self.known_fleet(&request.fleet)?,
        };
        let outcome = self.desk.order(order, who).await?;
        Ok(change(outcome, &request.fleet))
    }

    pub(super) async fn replace_instance(
        &self,
        request: InstanceRequest,
        who: &str,
    ) -> Result<ChangeReply, OperatorError> {
        let (fleet, id) = {
            let view = self.desk.view();
            let (fleet, _, id) = instance(&view, &request.instance)?;
            (fleet.clone(), id)
        };
        let order = Command::ReplaceInstance {
            instance: id,
            reason: reason(&request.reason, who),
        };
        let outcome = self.desk.order(order, who).await?;
        Ok(change(outcome, fleet.as_str()))
    }
}

/// A reason where there is one.
fn some_reason(given: &str) -> Option<String> {
    (!given.trim().is_empty()).then(|| reason(given, ""))
}

/// Why a rollout of `build` would do nothing, if it would not.
fn nothing_to_do(state: &FleetState, build: &Build) -> Option<String> {
    match state.running() {
        Some(running) if running.phase == Phase::RollingBack => None,
        Some(running) if running.to.image == build.image => Some(format!(
            "{} is being rolled out already, by {}",
            build.image, running.id
        )),
        Some(_) => None,
        None if state.serving.as_ref().map(|one| &one.image) == Some(&build.image) => {
            Some(format!("{} serves already", build.image))
        }
        None => None,
    }
}

fn plan_reply(preview: &RolloutPreview, nothing: Option<String>) -> PlanRolloutReply {
    let nothing = match nothing {
        Some(nothing) => nothing,
        None if preview.waves.is_empty() && preview.remarks.is_empty() => {
            "every instance runs it already".to_owned()
        }
        None if preview.waves.is_empty() => preview.remarks.join("; "),
        None => String::new(),
    };
    let way_back = |way: &calvin_planner::WayBack| WayBack {
        phase: way.phase.to_string(),
        text: way.how.clone(),
    };
    PlanRolloutReply {
        plan: preview.id.clone(),
        from: preview
            .from
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        to: preview.to.to_string(),
        steps: steps(preview),
        peak_extra: preview.peak_extra,
        waves: count(preview.waves.len()),
        duration_min_ms: ms(preview.min_duration),
        duration_max_ms: preview.max_duration.map_or(0, ms),
        ways_back: preview.ways_back.iter().map(way_back).collect(),
        nothing,
        remarks: preview.remarks.clone(),
    }
}

fn steps(preview: &RolloutPreview) -> Vec<PlanStep> {
    let step = |wave, one: &InstancePreview, action: &str| PlanStep {
        wave,
        instance: one.instance.to_string(),
        action: action.to_owned(),
        reason: one.reason.clone(),
    };
    let (replaced, kept): (Vec<_>, Vec<_>) = preview.instances.iter().partition(|one| one.replaced);
    let mut replaced = replaced.into_iter();
    let mut steps = Vec::new();
    for (number, wave) in (1..).zip(&preview.waves) {
        let greens = greens(preview, wave).map(|reason| PlanStep {
            wave: number,
            instance: String::new(),
            action: "create".to_owned(),
            reason,
        });
        let blues = usize::try_from(wave.blues).unwrap_or(usize::MAX);
        let blues = replaced.by_ref().take(blues);
        let blues = blues.map(|one| step(number, one, "replace"));
        match wave.order {
            WaveOrder::GreenFirst => steps.extend(greens.chain(blues)),
            WaveOrder::RoomFirst => steps.extend(blues.chain(greens)),
        }
    }
    // What a failed first rollout left belongs to no wave; it makes room for the next attempt.
    steps.extend(replaced.map(|one| step(0, one, "replace")));
    steps.extend(kept.into_iter().map(|one| step(0, one, "keep")));
    steps
}

/// Why each green of a wave is made, and where.
fn greens<'a>(
    preview: &'a RolloutPreview,
    wave: &'a WavePreview,
) -> impl Iterator<Item = String> + 'a {
    let named = wave.zones.iter();
    let named =
        named.flat_map(|(zone, number)| (0..*number).map(move |_| format!(" in zone {zone}")));
    let named_in_all: u32 = wave.zones.values().sum();
    let anywhere = (named_in_all..wave.greens).map(|_| String::new());
    let first = if wave.canary { "first, alone, " } else { "" };
    named
        .chain(anywhere)
        .map(move |place| format!("{first}to serve {}{place}", preview.to))
}
