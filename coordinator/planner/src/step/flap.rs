//! Notes which instances fail and are healthy again in turns. Clients find one again only when it has
//! been healthy for ever longer, so that it does not take its share of the traffic and drop it each
//! time; two minutes at most. It is forgotten when it was healthy for long.

use calvin_model::{HumanDuration, InstanceId};

use crate::{
    pass::Pass,
    repairs::Flaps,
    report::InstanceClass,
    state::Life,
    sums::{FLAPS_FORGOTTEN, flap_backoff},
};

pub(crate) fn step(pass: &mut Pass<'_>) {
    if pass.state().deleting {
        return;
    }
    let mut flaps = pass.state().repairs.flaps.clone();
    flaps.retain(|id, flaps| {
        flaps.fails = pass.judged(id).class == InstanceClass::Unhealthy || {
            // Silence does not end a failure.
            flaps.fails && !pass.judged(id).serves()
        };
        let long = pass.judged(id).healthy_for;
        let over = long.is_some_and(|long| long >= FLAPS_FORGOTTEN);
        pass.instance(id).is_some_and(|one| !one.leaving()) && !over
    });
    for id in failing(pass) {
        let found = flaps.entry(id.clone()).or_default();
        let was = pass.state().repairs.flaps.get(&id);
        if !was.is_some_and(|was| was.fails) {
            *found = Flaps {
                count: found.count.saturating_add(1),
                fails: true,
            };
        }
    }
    if flaps != pass.state().repairs.flaps {
        pass.change().repairs.flaps = flaps;
    }
    say(pass);
}

/// What was healthy once, is to serve, and says that it cannot. Greens before their switch, and blues
/// after it, serve nobody.
fn failing(pass: &Pass<'_>) -> Vec<InstanceId> {
    let unhealthy = |id: &InstanceId| pass.judged(id).class == InstanceClass::Unhealthy;
    let instances = pass.state().instances.iter();
    let failing = instances.filter(|(id, one)| one.life == Life::Up && one.proven && unhealthy(id));
    let failing: Vec<InstanceId> = failing.map(|(id, _)| id.clone()).collect();
    if failing.is_empty() {
        return failing;
    }
    let idle = pass.state().not_to_serve();
    failing
        .into_iter()
        .filter(|id| !idle.contains(id))
        .collect()
}

fn say(pass: &mut Pass<'_>) {
    let flaps = pass.state().repairs.flaps.iter();
    let waits: Vec<_> = flaps
        .filter_map(|(id, flaps)| Some((id.clone(), *flaps, pass.backs_off(id)?)))
        .collect();
    for (id, flaps, left) in waits {
        let what = format!(
            "{id} to be healthy for {} without a break: it failed {} times lately",
            HumanDuration(flap_backoff(flaps.count)),
            flaps.count
        );
        let since = pass.judged(&id).healthy_for.unwrap_or_default();
        let at = pass.now.after(left);
        pass.wait(what, since, Some((at, "clients find it again")));
    }
}
