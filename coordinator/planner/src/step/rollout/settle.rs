//! Settling: names are cached and connections live on, so blue goes on serving until the names'
//! time is up and its connections are few, or until `settle_max`.

use calvin_model::{DrainReason, Mutant, Role, fleet::OnSettleTimeout};

use super::greens::{blue, broken};
use crate::{invariant::InvariantId, pass::Pass, transition::Cause};

/// Connections that count as few, over all of a wave's blues: a health checker and a probe of the
/// coordinator may hold one each.
const FEW_CONNECTIONS: u32 = 2;

pub(crate) fn step(pass: &mut Pass<'_>) {
    if let Some(why) = broken(pass) {
        pass.go_back(&format!("green is not healthy under traffic: {why}"));
        return;
    }
    let Some(rollout) = pass.running() else {
        return;
    };
    let policy = &pass.state().spec.replace;
    let since = rollout.phase_since;
    let settled = since.after(policy.settle.0);
    let latest = settled.after(policy.settle_max.0);
    let on_timeout = policy.on_settle_timeout;
    if !settled.reached(pass.now) {
        let what = "clients that know blue's addresses from before".to_owned();
        pass.wait(
            what,
            pass.now.since(since),
            Some((settled, "blue may stand by")),
        );
        return;
    }
    let connections = connections(pass);
    if connections <= FEW_CONNECTIONS && pass.confirmed() {
        stand_by(pass, "clients have settled");
        return;
    }
    let fact = format!(
        "blue has {connections} connections, {} agents serve old names",
        pass.catalogue.unconfirmed.len() + pass.returning
    );
    if !latest.reached(pass.now) {
        let then = match on_timeout {
            OnSettleTimeout::GoOn => "blue stands by all the same",
            OnSettleTimeout::Hold => "it waits for a person",
        };
        pass.wait(fact, pass.now.since(since), Some((latest, then)));
        return;
    }
    match on_timeout {
        OnSettleTimeout::GoOn => stand_by(pass, "settle_max is up"),
        OnSettleTimeout::Hold => {
            let what = "blue is not told to stand by: settle_max is up".to_owned();
            pass.hold(InvariantId::PolicyHolds, what, fact);
        }
    }
}

/// Connections to blue, where they are known.
fn connections(pass: &Pass<'_>) -> u32 {
    blue(pass)
        .iter()
        .filter_map(|id| pass.seen(id)?.agent.as_ref()?.report.connections.as_ref())
        .map(|connections| connections.count)
        .fold(0, u32::saturating_add)
}

fn stand_by(pass: &mut Pass<'_>, why: &str) {
    for id in blue(pass) {
        if pass.instance(&id).is_some_and(|blue| !blue.leaving()) {
            pass.want(&id, Role::Standby, None);
        }
        if Mutant::LetBlueGoBeforeBake.lives() {
            pass.leave(&id, DrainReason::Replaced, why);
        }
    }
    pass.go(Cause::Settled, why);
}
