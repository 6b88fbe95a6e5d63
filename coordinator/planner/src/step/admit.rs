//! Lets instances serve that were made outside of a wave: for a repair, or to make a fleet larger.
//! The same gates as at a switch: healthy long enough, entered, read back, then active.

use calvin_model::{CatalogueRole, InstanceId, Role, image::Work};

use super::{
    exclusive::{is_exclusive, successor},
    repair::healthy_by,
    veto::clear,
};
use crate::{
    exclusive::other_at_work,
    pass::Pass,
    plan::DeleteBasis,
    state::{Instance, Life, Purpose},
};

pub(crate) fn step(pass: &mut Pass<'_>) {
    if pass.state().deleting {
        return;
    }
    let idle = pass.state().not_to_serve();
    let candidates: Vec<InstanceId> = pass
        .state()
        .instances
        .iter()
        .filter(|(id, instance)| {
            let serves =
                instance.catalogue == CatalogueRole::Active && instance.wanted.role == Role::Active;
            // What is protected comes back only to where it served: it is there to be looked at.
            let kept = instance.protected.is_some()
                && (pass.state().switched() || pass.state().set_aside(instance));
            let goes = instance.replace == Some(DeleteBasis::Ordered)
                && instance.catalogue < CatalogueRole::Entered;
            let elsewhere = instance.replace == Some(DeleteBasis::ZoneLost);
            !instance.leaving()
                && !serves
                && !kept
                && !goes
                && !elsewhere
                && !idle.contains(*id)
                && belongs(pass, instance)
        })
        .map(|(id, _)| id.clone())
        .collect();
    for id in candidates {
        if !other_is_meant(pass, &id) {
            admit(pass, &id);
        }
    }
}

/// In an exclusive fleet one is meant to be active, and the others only stand by: while somebody is
/// at work, and where one is to be replaced by another that is ready.
fn other_is_meant(pass: &mut Pass<'_>, id: &InstanceId) -> bool {
    if !is_exclusive(pass) {
        return false;
    }
    if let Some((other, _)) = other_at_work(pass.state(), id) {
        let other = other.clone();
        let since = pass.instance(id).map_or(pass.now, |one| one.created);
        let what = format!("{other} to have stopped: then {id} may be active");
        pass.wait(what, pass.now.since(since), None);
        return true;
    }
    let replaced = pass.instance(id).is_some_and(|one| one.replace.is_some());
    replaced && successor(pass).is_some()
}

/// Whether an instance may serve. What a failed attempt made, and somebody protected, never does;
/// while a rollout runs, its sets say who serves.
fn belongs(pass: &Pass<'_>, instance: &Instance) -> bool {
    let state = pass.state();
    let serving = state.serving.as_ref().map(|serving| &serving.image);
    let of_a_rollout = match instance.purpose {
        Purpose::Rollout(_) => true,
        Purpose::Repair(_) | Purpose::Scale => false,
    };
    state.running().is_some()
        || !of_a_rollout
        || Some(&instance.build.image) == serving
        || instance.catalogue >= CatalogueRole::Entered
}

fn admit(pass: &mut Pass<'_>, id: &InstanceId) {
    let Some(instance) = pass.instance(id) else {
        return;
    };
    let (created, work, told) = (
        instance.created,
        instance.build.work,
        instance.wanted.role == Role::Active && instance.wanted_since < pass.now,
    );
    let (catalogue, life) = (instance.catalogue, instance.life.clone());
    let judgement = pass.judged(id);
    let enough = pass.state().spec.replace.min_healthy.0;
    let soaked = judgement.healthy_for.is_some_and(|long| long >= enough);
    let soaked = soaked && pass.backs_off(id).is_none();
    match catalogue {
        CatalogueRole::Active => pass.want(id, Role::Active, None),
        CatalogueRole::Entered if !judgement.healthy_in_role() => {
            let what = format!("{id} to be healthy: then it is active");
            pass.wait(what, pass.now.since(created), None);
        }
        CatalogueRole::Entered if pass.read_back(id) => {
            let image = instance.build.image.tag.clone();
            pass.want(id, Role::Active, None);
            pass.place(id, CatalogueRole::Active);
            clear(pass, &image);
        }
        CatalogueRole::Entered => {
            let what = format!("{id} to be read back as entered");
            pass.wait(what, pass.now.since(created), None);
        }
        CatalogueRole::Absent | CatalogueRole::Standby => match work {
            Work::OnActive if soaked && !told => pass.want(id, Role::Active, None),
            Work::OnActive if told && judgement.healthy_in_role() => {
                pass.place(id, CatalogueRole::Entered);
            }
            Work::Boot if soaked && life == Life::Up => pass.place(id, CatalogueRole::Entered),
            Work::Boot | Work::OnActive => {
                let until = if instance.proven {
                    None
                } else {
                    Some((healthy_by(pass, instance), "it is made again"))
                };
                let mut what = format!("{id} to be healthy for long enough");
                let given_up = pass.state().given_up_in_a_row;
                if given_up > 0 && until.is_some() {
                    what.push_str(&format!("; {given_up} before it were given up"));
                }
                pass.wait(what, pass.now.since(created), until);
            }
        },
    }
}
