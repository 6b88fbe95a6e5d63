//! What a freeze, a pause and a closed window do to time: a freeze ends at its end, and deadlines
//! stand still while a rollout, or all of a fleet, is held. They go on with the time that they had
//! left.

use crate::{
    environment::FreezeScope,
    pass::Pass,
    people::{Standing, Whose},
    phase::Phase,
    plan::EventKind,
    wall::date,
};

pub(crate) fn step(pass: &mut Pass<'_>) {
    end(pass);
    count(pass);
    stand(pass);
}

/// Ends the fleet's own freeze at its end. The environment's is ended for all fleets at once.
fn end(pass: &mut Pass<'_>) {
    let wall_ms = pass.input.wall_ms;
    let over = |freeze: &&crate::environment::Freeze| !freeze.holds(wall_ms);
    let Some(freeze) = pass.state().freeze.as_ref().filter(over) else {
        return;
    };
    let until = freeze.until_wall_ms.map(date).unwrap_or_default();
    let text = format!(
        "the freeze by {} is over: it was until {until}",
        freeze.order.by
    );
    pass.event(None, EventKind::Hold, text);
    pass.change().freeze = None;
}

/// A count that was applied during a freeze takes effect after it. A rollout that passes the freeze
/// passes it alone.
fn count(pass: &mut Pass<'_>) {
    let Some(count) = pass.state().later_count else {
        return;
    };
    if let Some(held) = pass.frozen_beside(FreezeScope::New) {
        let before = pass.state().spec.count;
        pass.say_held(&format!("a count of {count} instead of {before}"), &held);
        return;
    }
    let text = format!("a count of {count} takes effect: nothing is frozen any more");
    pass.event(None, EventKind::Command, text);
    let state = pass.change();
    state.spec.count = count;
    state.later_count = None;
}

/// Notes since when deadlines stand still, and moves them on when they do not any more.
fn stand(pass: &mut Pass<'_>) {
    let whose = whose(pass);
    let was = pass.state().standing;
    if was.map(|was| was.whose) == whose {
        return;
    }
    if let Some(was) = was {
        move_on(pass, was);
    }
    let since = pass.now;
    pass.change().standing = whose.map(|whose| Standing { since, whose });
}

fn whose(pass: &Pass<'_>) -> Option<Whose> {
    if pass.frozen() == Some(FreezeScope::All) {
        return Some(Whose::Fleet);
    }
    let rollout = pass.running()?;
    let waits = match rollout.phase {
        Phase::Soaking | Phase::AwaitingSwitch => pass.running_held().is_some(),
        Phase::Provisioning
        | Phase::MakingRoom
        | Phase::Switching
        | Phase::Stopping
        | Phase::Settling
        | Phase::Baking
        | Phase::AwaitingRetire
        | Phase::Draining
        | Phase::Retiring
        | Phase::RollingBack
        | Phase::Done
        | Phase::RolledBack
        | Phase::Failed => false,
    };
    (waits || rollout.paused.is_some()).then_some(Whose::Rollout)
}

fn move_on(pass: &mut Pass<'_>, was: Standing) {
    let now = pass.now;
    let state = pass.change();
    let mut sets = Vec::new();
    if let Some(rollout) = state
        .rollout
        .as_mut()
        .filter(|rollout| !rollout.phase.ended())
    {
        rollout.phase_since = was.moved(rollout.phase_since, now);
        rollout.progress_by = was.later(rollout.progress_by, now);
        rollout.asked = rollout.asked.map(|asked| was.moved(asked, now));
        sets.extend(rollout.sets.green.iter().chain(&rollout.sets.blue).cloned());
    }
    let instances = state
        .instances
        .iter_mut()
        .filter(|(id, _)| match was.whose {
            Whose::Fleet => true,
            Whose::Rollout => sets.contains(id),
        });
    for (_, instance) in instances {
        instance.created = was.moved(instance.created, now);
        instance.since = was.moved(instance.since, now);
        instance.wanted_since = was.moved(instance.wanted_since, now);
    }
}
