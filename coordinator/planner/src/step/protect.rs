//! Says of each protected instance what does not happen to it: it is lost, or runs another image
//! than its fleet serves, and stays as it is until somebody ends its protection.

use calvin_model::InstanceId;

use crate::{judge::Loss, pass::Pass, report::InstanceClass};

pub(crate) fn step(pass: &mut Pass<'_>) {
    let state = pass.state();
    let protected = |(id, one): (&InstanceId, &crate::state::Instance)| {
        one.protected.as_ref().map(|_| id.clone())
    };
    let protected: Vec<InstanceId> = state.instances.iter().filter_map(protected).collect();
    for id in protected {
        let judgement = pass.judged(&id);
        let what = match (judgement.loss, judgement.class) {
            (Loss::TwoSources, _) => {
                Some("is lost, by two sources, and is not replaced".to_owned())
            }
            (Loss::Silence, _) => Some("is silent and is not replaced".to_owned()),
            (Loss::None | Loss::SilenceWithoutWitnesses, InstanceClass::Unhealthy) => {
                Some("is unhealthy and is not replaced".to_owned())
            }
            (
                Loss::None | Loss::SilenceWithoutWitnesses,
                InstanceClass::Starting
                | InstanceClass::Healthy
                | InstanceClass::Unknown
                | InstanceClass::Unmanaged
                | InstanceClass::Lost
                | InstanceClass::Leaving,
            ) => left_behind(pass, &id),
        };
        if let Some(what) = what {
            pass.keeps_hands_off(&id, &what);
        }
    }
}

fn left_behind(pass: &Pass<'_>, id: &InstanceId) -> Option<String> {
    let serving = pass.state().serving.as_ref()?;
    let runs = &pass.instance(id)?.build.image;
    (*runs != serving.image).then(|| format!("stays on {runs} while {} serves", serving.image))
}
