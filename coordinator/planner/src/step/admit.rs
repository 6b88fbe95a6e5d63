//! Lets instances serve that were made outside of a wave: for a repair, or to make a fleet larger.
//! The same gates as at a switch: healthy long enough, entered, read back, then active.

use calvin_model::{CatalogueRole, InstanceId, Role, image::Work};

use super::{repair::healthy_by, veto::clear};
use crate::{pass::Pass, plan::DeleteBasis, state::Life};

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
            let elsewhere = instance.replace == Some(DeleteBasis::ZoneLost);
            !instance.leaving() && !serves && !elsewhere && !idle.contains(*id)
        })
        .map(|(id, _)| id.clone())
        .collect();
    for id in candidates {
        admit(pass, &id);
    }
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
