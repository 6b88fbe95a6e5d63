//! Orders about a running rollout that are not about going back: pause, resume, promote, approve.

use calvin_model::{
    FleetName,
    fleet::{Approver, Gate},
};

use super::{CommandOutcome, Desk, Refusal};
use crate::{
    invariant::InvariantId,
    people::{Approval, Pause, Promotion},
    phase::Phase,
    state::{FleetState, Rollout},
    wall::date,
};

/// A running rollout that an order is about, and what to say where it does not fit.
struct Meant<'a> {
    name: &'a FleetName,
    before: &'a FleetState,
    rollout: &'a Rollout,
    what: String,
}

impl<'a> Meant<'a> {
    fn find(desk: Desk<'a>, name: &'a FleetName, verb: &str) -> Result<Self, Refusal> {
        let before = desk.fleet(name)?;
        let Some(rollout) = before.running() else {
            return Err(Refusal::NotNow {
                rule: None,
                what: format!("could not {verb} the rollout of fleet {name}"),
                why: "no rollout runs".to_owned(),
                hint: format!("look at it: calvin status {name}"),
            });
        };
        let found = Self {
            name,
            before,
            rollout,
            what: format!("could not {verb} {}", rollout.id),
        };
        match rollout.phase {
            Phase::RollingBack => found.refuse(
                "it goes back, and nothing but its end stops that".to_owned(),
                format!("follow it: calvin rollout watch {name}"),
            ),
            Phase::Provisioning
            | Phase::MakingRoom
            | Phase::Soaking
            | Phase::AwaitingSwitch
            | Phase::Switching
            | Phase::Stopping
            | Phase::Settling
            | Phase::Baking
            | Phase::AwaitingRetire
            | Phase::Draining
            | Phase::Retiring
            | Phase::Done
            | Phase::RolledBack
            | Phase::Failed => Ok(found),
        }
    }

    fn refuse<T>(&self, why: String, hint: String) -> Result<T, Refusal> {
        Err(Refusal::NotNow {
            rule: None,
            what: self.what.clone(),
            why,
            hint,
        })
    }

    fn changed(
        &self,
        desk: Desk<'_>,
        line: String,
        change: impl FnOnce(&mut Rollout),
    ) -> CommandOutcome {
        let mut after = self.before.clone();
        if let Some(rollout) = &mut after.rollout {
            change(rollout);
        }
        CommandOutcome {
            rollout: Some(self.rollout.id.clone()),
            ..desk.changed(self.name, after, line)
        }
    }
}

pub(super) fn pause(
    desk: Desk<'_>,
    name: &FleetName,
    reason: &str,
) -> Result<CommandOutcome, Refusal> {
    let meant = Meant::find(desk, name, "pause")?;
    let (rollout, phase) = (meant.rollout, meant.rollout.phase);
    if let Some(pause) = &rollout.paused {
        return Ok(Desk::unchanged(format!(
            "{} is paused already, by {} since {}: {}",
            rollout.id,
            pause.by,
            date(pause.wall_ms),
            pause.reason
        )));
    }
    let stopped = phase == Phase::Stopping
        || phase == Phase::Switching
            && meant.before.spec.kind == calvin_model::fleet::FleetKind::Exclusive;
    if stopped {
        return meant
            .refuse(
                "its old work is stopped and the new has not begun: nobody would serve".to_owned(),
                format!("wait for the switch, or go back: calvin rollout rollback {name}"),
            )
            .map_err(|refusal| refusal.protecting(InvariantId::ServingCapacityNeverBelowMinimum));
    }
    let pause = Pause {
        by: desk.who.to_owned(),
        reason: reason.to_owned(),
        since: desk.input.now,
        wall_ms: desk.input.wall_ms,
    };
    let timeout = meant.before.spec.replace.approval_timeout;
    let line = format!(
        "{} is paused in {phase}: {reason}; its deadlines stand still; after {timeout} it goes back \
         (go on: calvin rollout resume {name})",
        rollout.id
    );
    Ok(meant.changed(desk, line, |rollout| rollout.paused = Some(pause)))
}

pub(super) fn resume(desk: Desk<'_>, name: &FleetName) -> Result<CommandOutcome, Refusal> {
    let meant = Meant::find(desk, name, "resume")?;
    let Some(pause) = &meant.rollout.paused else {
        return meant.refuse(
            format!("it is not paused: it is in {}", meant.rollout.phase),
            format!("see what it waits for: calvin rollout explain {name}"),
        );
    };
    let line = format!(
        "{} goes on in {}, paused since {} by {}; its deadlines have as much time left as then",
        meant.rollout.id,
        meant.rollout.phase,
        date(pause.wall_ms),
        pause.by
    );
    Ok(meant.changed(desk, line, |rollout| rollout.paused = None))
}

pub(super) fn promote(
    desk: Desk<'_>,
    name: &FleetName,
    reason: &str,
) -> Result<CommandOutcome, Refusal> {
    let meant = Meant::find(desk, name, "promote")?;
    let rollout = meant.rollout;
    desk.reason(
        &meant.what,
        reason,
        "the soak is there to find what is wrong",
    )?;
    if rollout.paused.is_some() {
        return meant.refuse(
            "it is paused".to_owned(),
            format!("let it go on first: calvin rollout resume {name}"),
        );
    }
    if rollout.phase != Phase::Provisioning && rollout.phase != Phase::Soaking {
        return meant.refuse(
            format!("it is in {}: only a soak can be skipped", rollout.phase),
            format!("see what it waits for: calvin rollout explain {name}"),
        );
    }
    let order = desk.order(reason);
    let wave = rollout.wave;
    let line = format!(
        "{}: the soak of wave {} is skipped: {reason}; every green must be healthy all the same",
        rollout.id,
        wave + 1
    );
    let promotion = Promotion { order, wave };
    Ok(meant.changed(desk, line, |rollout| rollout.promoted = Some(promotion)))
}

pub(super) fn approve(
    desk: Desk<'_>,
    name: &FleetName,
    gate: Option<Gate>,
    reason: &str,
) -> Result<CommandOutcome, Refusal> {
    let meant = Meant::find(desk, name, "approve")?;
    let rollout = meant.rollout;
    let asks = rollout.phase.gate();
    let Some(gate) = asks.filter(|asks| gate.is_none_or(|gate| gate == *asks)) else {
        let gate = gate.map_or_else(String::new, |gate| format!(" of the {gate}"));
        return meant.refuse(
            format!(
                "it is in {} and waits for no approval{gate}: only what has proved itself is approved",
                rollout.phase
            ),
            format!("see what it waits for: calvin rollout explain {name}"),
        )
        .map_err(|refusal| refusal.protecting(InvariantId::ApprovedByEnough));
    };
    let given = |one: &&Approval| one.gate == gate && one.by == desk.who;
    if let Some(given) = rollout.approvals.iter().find(given) {
        return meant
            .refuse(
                format!(
                    "{} approved the {gate} already, at {}",
                    desk.who,
                    date(given.wall_ms)
                ),
                "somebody else has to approve it too".to_owned(),
            )
            .map_err(|refusal| refusal.protecting(InvariantId::ApprovedByEnough));
    }
    if rollout.gates.approver == Approver::Other && rollout.started_by == desk.who {
        return meant
            .refuse(
                format!(
                    "{} started it, and approver = \"other\" wants somebody else",
                    desk.who
                ),
                "ask somebody else who may change fleets".to_owned(),
            )
            .map_err(|refusal| refusal.protecting(InvariantId::ApprovedByEnough));
    }
    let approval = Approval {
        gate,
        by: desk.who.to_owned(),
        reason: reason.to_owned(),
        wall_ms: desk.input.wall_ms,
    };
    let mut approvals = rollout.approvals.clone();
    approvals.push(approval);
    let missing = rollout.gates.missing(gate, &approvals);
    let of = rollout.gates.approvals;
    let next = match (missing, gate) {
        (0, Gate::Switch) => "traffic is switched next".to_owned(),
        (0, Gate::Retire) => "blue drains and is removed next".to_owned(),
        (missing, _) => format!("{missing} more must approve"),
    };
    let line = format!(
        "{}: the {gate} is approved by {} of {of} ({reason}): {next}",
        rollout.id,
        of.saturating_sub(missing)
    );
    Ok(meant.changed(desk, line, |rollout| rollout.approvals = approvals))
}
